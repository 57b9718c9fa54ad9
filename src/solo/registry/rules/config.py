"""ConfigMaps and Secrets: sizes, keys, `immutable`, and what the types of Secrets ask for."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

from kube.machinery.errors import Cause, cause
from solo.registry.objects import child, decode, dig, quote
from solo.registry.strategy import METADATA_FIELDS, BuiltinStrategy

Obj = dict[str, Any]

_DATA_LIMIT = 1024 * 1024


class ConfigStrategy(BuiltinStrategy):
    """ConfigMaps: size, keys, `immutable` (core `ValidateConfigMap`)."""

    _data_fields: tuple[str, ...] = ("data", "binaryData")
    _size_field = "[]"

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        causes = []
        binary = obj.get("binaryData") or {}
        for part in self._data_fields:
            for key in obj.get(part) or {}:
                texts = _config_key(key)
                if part == "data" and key in binary:
                    texts.append("duplicate of key present in binaryData")
                causes += [cause("FieldValueInvalid", f"{part}[{key}]", text, quote(key)) for text in texts]
        if self._size(obj) > _DATA_LIMIT:
            causes.append(cause("FieldValueTooLong", self._size_field, f"may not be more than {_DATA_LIMIT} bytes"))
        if old is not None and old.get("immutable"):
            detail = "field is immutable when `immutable` is set"
            causes += [
                cause("FieldValueForbidden", part, detail)
                for part in ("immutable", *self._data_fields)
                if obj.get(part) != old.get(part)
            ]
        return causes

    def _size(self, obj: Obj) -> int:
        """Bytes of all values; keys do not count."""
        texts = sum(len((value or "").encode()) for value in (obj.get("data") or {}).values())
        return texts + _decoded_size(obj.get("binaryData") or {})


def _decoded_size(data: Mapping[str, str]) -> int:
    """How many bytes values in base64 are."""
    texts = ((value or "").replace("\n", "").replace("\r", "").rstrip("=") for value in data.values())
    return sum(len(text) * 3 // 4 for text in texts)


def _config_key(key: str) -> list[str]:
    """What is wrong with a key (apimachinery `IsConfigMapKey`)."""
    texts = []
    if len(key) > 253:
        texts.append("must be no more than 253 characters")
    if not re.fullmatch(r"[-._a-zA-Z0-9]+", key):
        texts.append(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
            "'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
        )
    if key in (".", ".."):
        texts.append(f"must not be '{key}'")
    elif key.startswith(".."):
        texts.append("must not start with '..'")
    return texts


class SecretStrategy(ConfigStrategy):
    """Secrets: `stringData` is write-only, the type cannot change, some types need certain keys."""

    _data_fields = ("data",)
    _size_field = "data"
    fields: Mapping[str, tuple[str, ...]] = {**METADATA_FIELDS, "type": ("type",)}

    def default(self, obj: Obj) -> None:
        obj["type"] = obj.get("type") or "Opaque"
        for key, value in (obj.pop("stringData", None) or {}).items():
            child(obj, "data")[key] = base64.b64encode(value.encode()).decode()

    def _size(self, obj: Obj) -> int:
        return _decoded_size(obj.get("data") or {})

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
