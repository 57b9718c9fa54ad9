"""ConfigMaps and Secrets: sizes, keys, `immutable`, and what the types of Secrets ask for."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from kube.machinery.errors import Cause, cause
from solo.registry.objects import child, decode, dig, quote
from solo.registry.strategy import METADATA_FIELDS, BuiltinStrategy

Obj = dict[str, Any]

_DATA_LIMIT = 1024 * 1024


class ConfigStrategy(BuiltinStrategy):
    """ConfigMaps: size, keys, `immutable`."""

    _data_fields: tuple[str, ...] = ("data", "binaryData")

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        causes = []
        size = 0
        for part in self._data_fields:
            for key, value in (obj.get(part) or {}).items():
                size += len(value)
                causes += [cause("FieldValueInvalid", f"{part}[{key}]", text, quote(key)) for text in _config_key(key)]
        if size > _DATA_LIMIT * 4 // 3:
            causes.append(cause("FieldValueTooLong", "", f"may not be more than {_DATA_LIMIT} bytes"))
        if old is not None and old.get("immutable"):
            detail = "field is immutable when `immutable` is set"
            causes += [
                cause("FieldValueForbidden", part, detail)
                for part in ("immutable", *self._data_fields)
                if obj.get(part) != old.get(part)
            ]
        return causes


def _config_key(key: str) -> list[str]:
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
    if key and len(key) <= 253 and set(key) <= allowed and key not in (".", ".."):
        return []
    return [
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
        "'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
    ]


class SecretStrategy(ConfigStrategy):
    """Secrets: `stringData` is write-only, the type cannot change, some types need certain keys."""

    _data_fields = ("data",)
    fields: Mapping[str, tuple[str, ...]] = {**METADATA_FIELDS, "type": ("type",)}

    def default(self, obj: Obj) -> None:
        obj["type"] = obj.get("type") or "Opaque"
        for key, value in (obj.pop("stringData", None) or {}).items():
            child(obj, "data")[key] = base64.b64encode(value.encode()).decode()

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        causes = super().validate(obj, old)
        if old is not None and obj.get("type") != old.get("type"):
            causes.append(cause("FieldValueInvalid", "type", "field is immutable", quote(str(obj.get("type")))))
        return causes + _typed_secret(obj)


_DOCKER_KEYS = {
    "kubernetes.io/dockercfg": ".dockercfg",
    "kubernetes.io/dockerconfigjson": ".dockerconfigjson",
}
_ACCOUNT = "kubernetes.io/service-account.name"


def _typed_secret(obj: Obj) -> list[Cause]:
    """What the type of a Secret asks of it (core `ValidateSecret`)."""
    type_, data = obj.get("type") or "", obj.get("data") or {}
    needed = {"kubernetes.io/tls": ("tls.crt", "tls.key"), "kubernetes.io/ssh-auth": ("ssh-privatekey",)}
    causes = [cause("FieldValueRequired", f"data[{key}]") for key in needed.get(type_, ()) if key not in data]
    if type_ == "kubernetes.io/basic-auth" and not {"username", "password"} & data.keys():
        causes += [cause("FieldValueRequired", f"data[{key}]") for key in ("username", "password")]
    if type_ == "kubernetes.io/service-account-token" and not (dig(obj, "metadata", "annotations") or {}).get(_ACCOUNT):
        causes.append(cause("FieldValueRequired", f"metadata.annotations[{_ACCOUNT}]"))
    docker = _DOCKER_KEYS.get(type_)
    if docker is not None:
        if docker not in data:
            causes.append(cause("FieldValueRequired", f"data[{docker}]"))
        elif not _is_json(data[docker]):
            causes.append(
                cause(
                    "FieldValueInvalid", f"data[{docker}]", "<secret contents redacted>", '"<secret contents redacted>"'
                )
            )
    return causes


def _is_json(encoded: str) -> bool:
    try:
        decode(base64.b64decode(encoded))
    except ValueError:
        return False
    return True
