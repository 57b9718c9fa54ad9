"""The rules of ObjectMeta, the same for every kind (apimachinery `pkg/api/validation/objectmeta.go`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from kube.machinery import names
from kube.machinery.errors import Cause, cause

Obj = dict[str, Any]
NameCheck = Callable[[str], list[str]]

_ANNOTATIONS_LIMIT = 256 * 1024
_ORPHAN, _FOREGROUND = "orphan", "foregroundDeletion"
_STANDARD = frozenset({"kubernetes", _ORPHAN, _FOREGROUND})


def validate(meta: Obj, name_check: NameCheck, *, namespaced: bool, path: str = "metadata") -> list[Cause]:
    """All that is wrong with an object's metadata, which is at `path`."""
    base, name = meta.get("generateName") or "", meta.get("name") or ""
    causes = [_invalid(f"{path}.generateName", text, base) for text in (name_check(_as_prefix(base)) if base else ())]
    if not name:
        causes.append(cause("FieldValueRequired", f"{path}.name", "name or generateName is required"))
    else:
        causes += [_invalid(f"{path}.name", text, name) for text in name_check(name)]
    if namespaced:
        causes += _validate_namespace(meta.get("namespace") or "", f"{path}.namespace")
    causes += validate_labels(meta.get("labels") or {}, f"{path}.labels")
    causes += validate_annotations(meta.get("annotations") or {}, f"{path}.annotations")
    causes += _validate_owners(meta.get("ownerReferences") or [], f"{path}.ownerReferences")
    return causes + _validate_finalizers(meta.get("finalizers") or [], f"{path}.finalizers")


def _as_prefix(base: str) -> str:
    """What is checked of a base for names: more follows, so a dash may be its end."""
    return f"{base[:-2]}a" if len(base) > 1 and base.endswith("-") else base


def _invalid(field: str, text: str, value: Any) -> Cause:
    return cause("FieldValueInvalid", field, text, json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _validate_namespace(namespace: str, field: str) -> list[Cause]:
    if not namespace:
        return [cause("FieldValueRequired", field)]
    return [_invalid(field, text, namespace) for text in names.dns1123_label(namespace)]


def validate_labels(labels: Obj, field: str) -> list[Cause]:
    """Keys are qualified names, values label values."""
    causes = []
    for key, value in labels.items():
        causes += [_invalid(field, text, key) for text in names.qualified_name(key)]
        causes += [_invalid(field, text, value) for text in names.label_value(value)]
    return causes


def validate_annotations(annotations: Obj, field: str) -> list[Cause]:
    """Keys are qualified names in either case; all together are not too long."""
    causes = []
    size = 0
    for key, value in annotations.items():
        size += len(key.encode("utf-8", "surrogatepass")) + len(value.encode("utf-8", "surrogatepass"))
        causes += [_invalid(field, text, key) for text in names.qualified_name(key.lower())]
    if size > _ANNOTATIONS_LIMIT:
        causes.append(cause("FieldValueTooLong", field, f"may not be more than {_ANNOTATIONS_LIMIT} bytes"))
    return causes


def _validate_owners(owners: list[Obj], field: str) -> list[Cause]:
    causes = []
    controller = ""
    for owner in owners:
        causes += _validate_owner(owner, field)
        if owner.get("controller"):
            name = f"{owner.get('kind') or ''}/{owner.get('name') or ''}"
            if controller:
                detail = (
                    f'Only one reference can have Controller set to true. Found "true" in references for {controller}'
                )
                causes.append(_invalid(field, f"{detail} and {name}", owners))
            controller = controller or name
    return causes


def _validate_owner(owner: Obj, field: str) -> list[Cause]:
    causes = []
    api_version, kind = owner.get("apiVersion") or "", owner.get("kind") or ""
    if not api_version or api_version.count("/") > 1 or api_version.endswith("/"):
        causes.append(_invalid(f"{field}.apiVersion", "version must not be empty", api_version))
    missing = [key for key in ("kind", "name", "uid") if not owner.get(key)]
    causes += [_invalid(f"{field}.{key}", "must not be empty", "") for key in missing]
    if (api_version, kind) == ("v1", "Event"):
        causes.append(_invalid(field, "/v1, Kind=Event is disallowed from being an owner", owner))
    return causes


def _validate_finalizers(finalizers: list[str], field: str) -> list[Cause]:
    causes = [_invalid(field, text, name) for name in finalizers for text in names.qualified_name(name)]
    if _ORPHAN in finalizers and _FOREGROUND in finalizers:
        causes.append(_invalid(field, f"finalizer {_ORPHAN} and {_FOREGROUND} cannot be both set", finalizers))
    return causes


def validate_standard_finalizers(finalizers: list[str], path: str = "metadata.finalizers") -> list[Cause]:
    """Without a domain a finalizer is one of Kubernetes' own (core's `validateKubeFinalizerName`)."""
    detail = "name is neither a standard finalizer name nor is it fully qualified"
    return [
        _invalid(f"{path}[{index}]", detail, name)
        for index, name in enumerate(finalizers)
        if "/" not in name and name not in _STANDARD
    ]
