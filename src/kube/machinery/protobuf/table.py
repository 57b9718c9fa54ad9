"""The packaged messages: which field of which JSON name has which number and type.

`scripts/generate_protobuf.py` writes the file and tells where the numbers come from.
"""

from __future__ import annotations

import json
import lzma
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal, cast

from kube.machinery.protobuf.wire import ProtobufError

Kind = Literal["string", "bytes", "int32", "int64", "bool", "double", "json", "message"]
Shape = Literal["", "list", "map"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `name` is "" where the message's own fields stand in its place; `message` names the type `message`.

    `leaves_out`: JSON leaves a zero value out, so that it means nothing (Go's omitempty on what is no pointer).
    """

    name: str
    shape: Shape
    kind: Kind
    message: str
    leaves_out: bool


def message_of(api_version: str, kind: str) -> str:
    """The name of a kind's message, which is its OpenAPI definition's. Raises ProtobufError if it is not packaged."""
    kinds = _document()["kinds"]
    name: str | None = kinds.get(f"{api_version} {kind}") or kinds.get(kind)
    if name is None:
        raise ProtobufError(f'no kind "{kind}" of version "{api_version}" can be read from protobuf, send JSON')
    return name


@cache
def message(name: str) -> dict[int, Field]:
    """The fields of a message by their numbers."""
    return {number: _field(json_name, type_, out) for number, json_name, type_, out in _document()["messages"][name]}


def _field(json_name: str, type_: str, leaves_out: bool) -> Field:
    shape, _, element = type_.partition(":")
    if shape not in ("list", "map"):
        shape, element = "", type_
    kind, _, of = element.partition(":")
    return Field(json_name, cast(Shape, shape), cast(Kind, kind), of, leaves_out)


@cache
def _document() -> dict[str, Any]:
    packed = (files(__package__) / "messages.json.xz").read_bytes()
    loaded: dict[str, Any] = json.loads(lzma.decompress(packed))
    return loaded
