"""Content negotiation: what a client accepts, and what it sent."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from kube.machinery.errors import StatusError

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
OFFERED = (JSON, YAML, PROTOBUF)

TABLE = "Table"
PARTIAL = "PartialObjectMetadata"
PARTIAL_LIST = "PartialObjectMetadataList"
_TRANSFORMS = frozenset({TABLE, PARTIAL, PARTIAL_LIST})
_META = "meta.k8s.io"
_META_VERSIONS = ("v1", "v1beta1")


@dataclass(frozen=True, slots=True)
class Output:
    """The chosen representation: media type, the kind into which objects are transformed ("" for none), its version."""

    media_type: str = JSON
    transform: str = ""
    api_version: str = ""


@lru_cache(maxsize=512)
def choose_output(accept: str, *, transforms: bool = True, protobuf: bool = False) -> Output:
    """The first acceptable representation; `transforms` says whether the answer has metadata to be shown alone.

    Protobuf, where the answer can be written in it (`protobuf`), is for clients that accept nothing else: objects are
    stored as JSON.

    Raises 406 when nothing fits.
    """
    if not accept:
        return Output()
    for media_type, params in _ranges(accept):
        transform = params.get("as", "")
        if transform and not transforms:
            continue
        group, version = params.get("g", ""), params.get("v", "")
        if transform and not (transform in _TRANSFORMS and group == _META and version in _META_VERSIONS):
            continue
        api_version = f"{group}/{version}" if transform else ""
        if media_type in (JSON, "application/*", "*/*"):
            return Output(JSON, transform, api_version)
        if media_type == YAML:
            return Output(YAML, transform, api_version)
    if protobuf and any(media_type == PROTOBUF and "as" not in params for media_type, params in _ranges(accept)):
        return Output(PROTOBUF)
    text = f"only the following media types are accepted: {', '.join(OFFERED)}"
    raise StatusError(406, "NotAcceptable", text)


def _ranges(accept: str) -> list[tuple[str, dict[str, str]]]:
    """The media ranges with their parameters, best quality first."""
    found: list[tuple[float, str, dict[str, str]]] = []
    for item in accept.split(","):
        media_type, *rest = (part.strip() for part in item.split(";"))
        params = {key.strip(): value.strip() for key, _, value in (part.partition("=") for part in rest)}
        try:
            quality = float(params.pop("q", "1"))
        except ValueError:
            quality = 0.0
        if media_type and quality > 0:
            found.append((quality, media_type.lower(), params))
    found.sort(key=lambda item: -item[0])
    return [(media_type, params) for _, media_type, params in found]


def media_type_of(content_type: str) -> str:
    """The bare media type of a Content-Type header; JSON when there is none."""
    return content_type.partition(";")[0].strip().lower() or JSON
