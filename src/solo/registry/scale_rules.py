"""What the scale subresource of a custom resource reads must be readable (apiextensions' registry/customresource)."""

from __future__ import annotations

from typing import Any

from kube.machinery.errors import Cause, cause

Obj = dict[str, Any]

_MAX = 2**31 - 1
_GO_TYPES = {
    str: "string",
    bool: "bool",
    float: "float64",
    int: "int64",
    list: "[]interface {}",
    dict: "map[string]interface {}",
    type(None): "<nil>",
}


def path_keys(path: str) -> tuple[str, ...]:
    """`.spec.replicas` as keys."""
    return tuple(path.removeprefix(".").split("."))


def validate_scale(obj: Obj, scale: Obj | None) -> list[Cause]:
    """What is wrong with the numbers of replicas and the selector."""
    if scale is None:
        return []
    return _replicas(obj, scale["specReplicasPath"]) + validate_scale_status(obj, scale)


def validate_scale_status(obj: Obj, scale: Obj | None) -> list[Cause]:
    """The same without what is wished for, which a write to the status does not change."""
    if scale is None:
        return []
    causes = _replicas(obj, scale["statusReplicasPath"])
    path = scale.get("labelSelectorPath")
    if path:
        _, problem = _read(obj, path, str)
        causes += [cause("FieldValueInvalid", path, problem, '""')] if problem else []
    return causes


def _replicas(obj: Obj, path: str) -> list[Cause]:
    value, problem = _read(obj, path, int)
    if problem:
        return [cause("FieldValueInvalid", path, problem, "0")]
    if value is not None and value < 0:
        return [cause("FieldValueInvalid", path, "should be a non-negative integer", str(value))]
    if value is not None and value > _MAX:
        return [cause("FieldValueInvalid", path, f"should be less than or equal to {_MAX}", str(value))]
    return []


def _read(obj: Obj, path: str, wanted: type) -> tuple[Any, str]:
    """The value at a path, None where there is none, or what keeps it from being read."""
    from kube.machinery.schema.values import show

    keys = path_keys(path)
    value: Any = obj
    for index, key in enumerate(keys):
        if not isinstance(value, dict):
            if value is None:
                return None, ""
            return None, _not_of_type(keys[:index], value, "map[string]interface{}", show)
        if key not in value:
            return None, ""
        value = value[key]
    if type(value) is not wanted:
        return None, _not_of_type(keys, value, _GO_TYPES[wanted], show)
    return value, ""


def _not_of_type(keys: tuple[str, ...], value: Any, wanted: str, show: Any) -> str:
    shown = value if isinstance(value, str) else show(value)
    return f".{'.'.join(keys)} accessor error: {shown} is of the type {_GO_TYPES[type(value)]}, expected {wanted}"
