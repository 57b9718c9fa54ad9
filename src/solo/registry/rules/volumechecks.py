"""What is wrong with a pod's volumes (core `ValidateVolumes`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from kube.machinery import names
from kube.machinery.errors import Cause, cause
from kube.machinery.quantity import parse_quantity
from solo.registry.objects import quote
from solo.registry.rules.fieldchecks import invalid, one_of, path_unreserved
from solo.registry.rules.podchecks import exactly_one, unsupported

Obj = dict[str, Any]

_HOST_PATHS = (
    "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket",
)  # fmt: skip
_MAX_MODE = 0o777
_MODE_TEXT = "must be a number between 0 and 0777 (octal), both inclusive"
_TOKEN_SECONDS = 3600
_LEAST_TOKEN_SECONDS, _MOST_TOKEN_SECONDS = 600, 2**32
_PROJECTIONS = ("secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate")
_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
# Fields of a pod that only environment variables can have.
_OTHER_FIELDS = (
    "spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "spec.schedulerName", "status.phase",
    "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
)  # fmt: skip
_RESOURCES = (
    "limits.cpu", "limits.ephemeral-storage", "limits.memory",
    "requests.cpu", "requests.ephemeral-storage", "requests.memory",
)  # fmt: skip
_HUGE_PAGES = ("limits.hugepages-", "requests.hugepages-")


def volume_causes(volumes: list[Obj], field: str) -> tuple[set[str], list[Cause]]:
    """The names of the volumes that are right, which containers can mount, and what is wrong with the others."""
    right: set[str] = set()
    causes: list[Cause] = []
    for index, volume in enumerate(volumes):
        found = [*_source(volume, f"{field}[{index}]"), *_name(volume, f"{field}[{index}].name", right)]
        causes += found
        if not found:
            right.add(volume["name"])
    return right, causes


def _name(volume: Obj, field: str, seen: set[str]) -> Iterator[Cause]:
    name = volume.get("name") or ""
    if not name:
        yield cause("FieldValueRequired", field)
    else:
        yield from (invalid(field, name, text) for text in names.dns1123_label(name))
    if name in seen:
        yield cause("FieldValueDuplicate", field, value=quote(name))


def _source(volume: Obj, field: str) -> Iterator[Cause]:
    """Only the first source is looked into; the others are too many."""
    sources = tuple(key for key in volume if key != "name" and volume[key] is not None)
    yield from exactly_one(volume, sources, field, "volume type")
    if sources and sources[0] in _SOURCES and isinstance(volume[sources[0]], dict):
        yield from _SOURCES[sources[0]](volume[sources[0]], f"{field}.{sources[0]}")


def _required(source: Obj, field: str, *keys: str) -> Iterator[Cause]:
    for key in keys:
        if not source.get(key):
            yield cause("FieldValueRequired", f"{field}.{key}")


def _mode(source: Obj, key: str, field: str) -> Iterator[Cause]:
    if source.get(key) is not None and not 0 <= source[key] <= _MAX_MODE:
        yield invalid(f"{field}.{key}", source[key], _MODE_TEXT)


def _items(source: Obj, field: str) -> Iterator[Cause]:
    """Which keys become which files."""
    for index, item in enumerate(source.get("items") or []):
        place = f"{field}.items[{index}]"
        yield from _required(item, place, "key", "path")
        yield from path_unreserved(item.get("path") or "", f"{place}.path")
        yield from _mode(item, "mode", place)


def _empty_dir(source: Obj, field: str) -> Iterator[Cause]:
    try:
        negative = parse_quantity(source.get("sizeLimit") or "0") < 0
    except ValueError:
        return  # The schema knows quantities.
    if negative:
        detail = "SizeLimit field must be a valid resource quantity"
        yield cause("FieldValueForbidden", f"{field}.sizeLimit", detail)


def _host_path(source: Obj, field: str) -> Iterator[Cause]:
    path = source.get("path") or ""
    if not path:
        yield cause("FieldValueRequired", f"{field}.path")
        return
    if ".." in path.split("/"):
        yield invalid(f"{field}.path", path, "must not contain '..'")
    if (source.get("type") or "") not in _HOST_PATHS:
        yield unsupported(f"{field}.type", source["type"], _HOST_PATHS)


def _secret(source: Obj, field: str) -> Iterator[Cause]:
    yield from _required(source, field, "secretName")
    yield from _mode(source, "defaultMode", field)
    yield from _items(source, field)


def _config_map(source: Obj, field: str) -> Iterator[Cause]:
    yield from _required(source, field, "name")
    yield from _mode(source, "defaultMode", field)
    yield from _items(source, field)


def _claim(source: Obj, field: str) -> Iterator[Cause]:
    yield from _required(source, field, "claimName")


def _nfs(source: Obj, field: str) -> Iterator[Cause]:
    yield from _required(source, field, "server", "path")
    if not (source.get("path") or "").startswith("/"):
        yield invalid(f"{field}.path", source.get("path") or "", "must be an absolute path")


def _downward(source: Obj, field: str) -> Iterator[Cause]:
    yield from _mode(source, "defaultMode", field)
    for item in source.get("items") or []:
        yield from _downward_file(item, field)


def _downward_file(item: Obj, field: str) -> Iterator[Cause]:
    """The field is that of the whole source, as it is there."""
    yield from _required(item, field, "path")
    yield from path_unreserved(item.get("path") or "", f"{field}.path")
    if item.get("fieldRef") is not None:
        yield from _field_reference(item["fieldRef"], f"{field}.fieldRef")
        if item.get("resourceFieldRef") is not None:
            yield invalid(field, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
    elif item.get("resourceFieldRef") is not None:
        yield from _resource_reference(item["resourceFieldRef"], f"{field}.resourceFieldRef")
    else:
        yield cause("FieldValueRequired", field, "one of fieldRef and resourceFieldRef is required")
    yield from _mode(item, "mode", field)


def _field_reference(reference: Obj, field: str) -> Iterator[Cause]:
    path = reference.get("fieldPath") or ""
    if not path:
        yield cause("FieldValueRequired", f"{field}.fieldPath")
    elif path in _OTHER_FIELDS:
        yield one_of(f"{field}.fieldPath", path, _FIELDS)
    elif path not in _FIELDS and not re.fullmatch(r"metadata\.(annotations|labels)\['.+'\]", path):
        detail = f"error converting fieldPath: field label not supported: {path}"
        yield invalid(f"{field}.fieldPath", path, detail)


def _resource_reference(reference: Obj, field: str) -> Iterator[Cause]:
    resource = reference.get("resource") or ""
    if not reference.get("containerName"):
        yield cause("FieldValueRequired", f"{field}.containerName")
    elif not resource:
        yield cause("FieldValueRequired", f"{field}.resource")
    elif resource not in _RESOURCES and not resource.startswith(_HUGE_PAGES):
        yield one_of(f"{field}.resource", resource, _RESOURCES)


def _projected(source: Obj, field: str) -> Iterator[Cause]:
    yield from _mode(source, "defaultMode", field)
    seen: set[str] = set()
    for index, part in enumerate(source.get("sources") or []):
        place = f"{field}.sources[{index}]"
        for key in ("secret", "configMap"):
            if part.get(key) is not None:
                yield from _required(part[key], f"{place}.{key}", "name")
                yield from _items(part[key], f"{place}.{key}")
                yield from _distinct(part[key], part[key].get("name") or "", seen, field)
        if part.get("downwardAPI") is not None:
            for item in part["downwardAPI"].get("items") or []:
                yield from _downward_file(item, f"{place}.downwardAPI")
            yield from _distinct(part["downwardAPI"], None, seen, field)
        if part.get("serviceAccountToken") is not None:
            yield from _token(part["serviceAccountToken"], f"{place}.serviceAccountToken", field)
        if sum(part.get(key) is not None for key in _PROJECTIONS) > 1:
            yield cause("FieldValueForbidden", place, "may not specify more than 1 volume type per source")


def _distinct(source: Obj, name: str | None, seen: set[str], field: str) -> Iterator[Cause]:
    """No two files have one path; the message shows the name of the source, if it has one."""
    for item in source.get("items") or []:
        path = item.get("path") or ""
        if path and path in seen:
            yield invalid(field, path if name is None else name, "conflicting duplicate paths")
        seen |= {path}


def _token(source: Obj, field: str, whole: str) -> Iterator[Cause]:
    """`whole` is the field of the projected volume, where an error in the path is reported."""
    seconds = source.get("expirationSeconds")
    seconds = _TOKEN_SECONDS if seconds is None else seconds
    if seconds < _LEAST_TOKEN_SECONDS:
        yield invalid(f"{field}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
    if seconds > _MOST_TOKEN_SECONDS:
        yield invalid(f"{field}.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")
    yield from _required(source, whole, "path")
    yield from path_unreserved(source.get("path") or "", f"{whole}.path")


_SOURCES: dict[str, Callable[[Obj, str], Iterator[Cause]]] = {
    "configMap": _config_map,
    "downwardAPI": _downward,
    "emptyDir": _empty_dir,
    "hostPath": _host_path,
    "nfs": _nfs,
    "persistentVolumeClaim": _claim,
    "projected": _projected,
    "secret": _secret,
}
