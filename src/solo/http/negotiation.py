"""Content negotiation: what a client accepts, and what it sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from kube.machinery.errors import StatusError

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
OFFERED = (JSON, YAML, PROTOBUF)
_STREAMED = (JSON, PROTOBUF)

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
    raise _only(OFFERED)


def require_stream(output: Output) -> None:
    """Raises 406 for a representation in which objects cannot follow each other, as in a watch they do."""
    if output.media_type not in _STREAMED:
        raise _only([f"{media_type};stream=watch" for media_type in _STREAMED])


def require_one(output: Output, go_type: str) -> None:
    """Raises 406 where one object is to be shown as a list; `go_type` is what the message calls the object."""
    if output.transform == PARTIAL_LIST:
        raise _not_acceptable(f"you requested {PARTIAL_LIST}, but the requested object is not a list ({go_type})")


def require_many(output: Output, go_type: str) -> None:
    """Raises 406 where a list is to be shown as one object; `go_type` is what the message calls the list."""
    if output.transform == PARTIAL:
        raise _not_acceptable(f"you requested {PARTIAL}, but the requested object is a list ({go_type})")


def _not_acceptable(text: str) -> StatusError:
    """The refusal of a representation."""
    return StatusError(406, "NotAcceptable", text)


def _only(media_types: Sequence[str]) -> StatusError:
    return _not_acceptable(f"only the following media types are accepted: {', '.join(media_types)}")


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
