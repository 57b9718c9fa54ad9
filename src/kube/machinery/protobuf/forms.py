"""Messages that JSON writes in a way of their own: times, quantities, lists in a message, one of two things.

Each of FORMS is a function from the message's fields, as decoded, to the JSON value; None is Go's null, which an
object leaves out. Those of WRITTEN lead back. The sources are the UnmarshalJSON, MarshalJSON and protobuf methods of
the Go types of the same names.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from kube.machinery.durations import parse_rfc3339, rfc3339, rfc3339_micro
from kube.machinery.protobuf.wire import ProtobufError

Obj = dict[str, Any]

_META = "io.k8s.apimachinery.pkg.apis.meta.v1"
_CRD = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ZERO = datetime(1, 1, 1, tzinfo=UTC)
_INT, _STRING = 0, 1


def embedded_json(data: memoryview) -> Any:
    """The value of a JSON text in bytes; None where there is none."""
    if not data:
        return None
    try:
        value = json.loads(bytes(data).decode("utf-8"), parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except RecursionError:
        raise ProtobufError("embedded JSON is nested too deeply") from None
    except ValueError:
        raise ProtobufError("an embedded value is not JSON") from None
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _moment(message: Obj) -> datetime | None:
    """Go writes its zero time as an empty message."""
    if not message:
        return None
    seconds, nanos = message.get("seconds", 0), message.get("nanos", 0)
    if not 0 <= nanos < 1_000_000_000:
        raise ProtobufError("a time has an illegal number of nanoseconds")
    try:
        moment = _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)
    except OverflowError:
        raise ProtobufError("a time is outside of the years 1 to 9999") from None
    return None if moment == _ZERO else moment


def _time(message: Obj) -> str | None:
    moment = _moment(message)
    return None if moment is None else rfc3339(moment)


def _micro_time(message: Obj) -> str | None:
    moment = _moment(message)
    return None if moment is None else rfc3339_micro(moment)


def _int_or_string(message: Obj) -> int | str:
    kind = message.get("type", _INT)
    if kind not in (_INT, _STRING):
        raise ProtobufError(f"{kind} is no type of IntOrString")
    number: int = message.get("intVal", 0)
    text: str = message.get("strVal", "")
    return text if kind == _STRING else number


def _quantity(message: Obj) -> str:
    return message.get("string") or "0"


def _raw(message: Obj) -> Any:
    return message.get("raw")


def _items(message: Obj) -> list[str]:
    items: list[str] = message.get("items", [])
    return items


def _schema_or(name: str, default: Any) -> Callable[[Obj], Any]:
    def read(message: Obj) -> Any:
        return message["schema"] if "schema" in message else message.get(name, default)

    return read


FORMS: dict[str, Callable[[Obj], Any]] = {
    f"{_META}.Time": _time,
    f"{_META}.MicroTime": _micro_time,
    f"{_META}.FieldsV1": _raw,
    f"{_META}.Verbs": _items,
    "io.k8s.apimachinery.pkg.runtime.RawExtension": _raw,
    "io.k8s.apimachinery.pkg.api.resource.Quantity": _quantity,
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": _int_or_string,
    "io.k8s.api.authentication.v1.AttestationValue": _items,
    "io.k8s.api.authentication.v1.ExtraValue": _items,
    "io.k8s.api.authorization.v1.ExtraValue": _items,
    f"{_CRD}.JSON": _raw,
    f"{_CRD}.JSONSchemaPropsOrArray": _schema_or("jSONSchemas", []),
    f"{_CRD}.JSONSchemaPropsOrBool": _schema_or("allows", False),
    f"{_CRD}.JSONSchemaPropsOrStringArray": _schema_or("property", []),
}


def _written_time(text: str) -> Obj:
    since = parse_rfc3339(text) - _EPOCH
    return {"seconds": since.days * 86400 + since.seconds, "nanos": since.microseconds * 1000}


def _written_int_or_string(value: int | str) -> Obj:
    return {"type": _STRING, "strVal": value} if isinstance(value, str) else {"type": _INT, "intVal": value}


def _written_quantity(value: int | float | str) -> Obj:
    return {"string": str(value)}


def _written_raw(value: Any) -> Obj:
    return {"raw": value}


def _written_items(value: list[str]) -> Obj:
    return {"items": value}


def _written_schema_or(name: str, **beside: bool) -> Callable[[Any], Obj]:
    def write(value: Any) -> Obj:
        return {**beside, "schema": value} if isinstance(value, dict) else {name: value}

    return write


_BACK: dict[Callable[[Obj], Any], Callable[[Any], Obj]] = {
    _time: _written_time,
    _micro_time: _written_time,
    _raw: _written_raw,
    _items: _written_items,
    _quantity: _written_quantity,
    _int_or_string: _written_int_or_string,
}
WRITTEN: dict[str, Callable[[Any], Obj]] = {
    **{name: _BACK[form] for name, form in FORMS.items() if form in _BACK},
    f"{_CRD}.JSONSchemaPropsOrArray": _written_schema_or("jSONSchemas"),
    f"{_CRD}.JSONSchemaPropsOrBool": _written_schema_or("allows", allows=True),
    f"{_CRD}.JSONSchemaPropsOrStringArray": _written_schema_or("property"),
}
