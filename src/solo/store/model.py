"""The values that the store hands out: keys, stored objects and events.

An object is kept as its encoded JSON; the parsed form is made on first use and dropped again when a newer version
replaces it, so that the history costs bytes and not dictionaries.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import msgspec

Obj = dict[str, Any]
EventType = Literal["ADDED", "MODIFIED", "DELETED"]


class _Metadata(msgspec.Struct):
    labels: dict[str, str] | None = None


class _Labelled(msgspec.Struct):
    """What a label selector looks at; the rest is skipped in a fraction of the time that it takes to build it."""

    metadata: _Metadata


_label_decoder = msgspec.json.Decoder(_Labelled)
_decoder = msgspec.json.Decoder(dict[str, Any])
_encoder = msgspec.json.Encoder()

_WIRE_PREFIX: dict[str, bytes] = {
    kind: b'{"type":"%s","object":' % kind.encode() for kind in ("ADDED", "MODIFIED", "DELETED")
}


class Key(NamedTuple):
    """Where an object lives: `pods` or `deployments.apps`, its namespace ("" for cluster-scoped), its name."""

    resource: str
    namespace: str
    name: str


class Stored:
    """One version of one object. `obj` is shared by everybody who reads it and must not be changed."""

    __slots__ = ("__weakref__", "_obj", "key", "raw", "rv")

    def __init__(self, key: Key, rv: int, raw: bytes, obj: Obj | None = None) -> None:
        self.key = key
        self.rv = rv
        self.raw = raw
        self._obj = obj

    @property
    def obj(self) -> Obj:
        """The parsed object; treat it as immutable."""
        if self._obj is None:
            self._obj = _decoder.decode(self.raw)
        return self._obj

    @property
    def labels(self) -> dict[str, str] | None:
        """The object's labels, without keeping its parsed form for them."""
        if self._obj is None:
            return _label_decoder.decode(self.raw).metadata.labels
        labels: dict[str, str] | None = self._obj["metadata"].get("labels")
        return labels

    def look(self) -> Obj:
        """The parsed object for one look, not kept: for who goes through all of them."""
        return self._obj if self._obj is not None else _decoder.decode(self.raw)

    def drop_parsed(self) -> None:
        """Forget the parsed form; the next use of `obj` makes it again."""
        self._obj = None

    def __repr__(self) -> str:
        return f"Stored({self.key.resource} {self.key.namespace}/{self.key.name} rv={self.rv})"


class Event:
    """A change that happened: its type, the object after it (a deleted one: its last state) and its revision.

    `prev` is the version before, for watchers with a selector: an object that has left the selection is to be shown
    to them as deleted. It is None for ADDED, and for a change whose predecessor was lost with a file of schema 1.
    """

    __slots__ = ("prev", "rv", "stored", "type")

    def __init__(self, type_: EventType, stored: Stored, prev: Stored | None = None) -> None:
        self.type = type_
        self.stored = stored
        self.rv = stored.rv
        self.prev = prev

    @property
    def superseded(self) -> list[int]:
        """The versions that nothing needs once this event is forgotten: the one before it, its own if it deleted."""
        before = [self.prev.rv] if self.prev is not None else []
        return [*before, self.rv] if self.type == "DELETED" else before

    @property
    def wire(self) -> bytes:
        """The line of a watch response (a copy of the object's bytes, not an encoding)."""
        return b"%s%s}\n" % (_WIRE_PREFIX[self.type], self.stored.raw)

    def __repr__(self) -> str:
        return f"Event({self.type} {self.stored!r})"


def with_revision(key: Key, obj: Obj, rv: int) -> Stored:
    """Encode `obj` as the version `rv`. `obj` and its metadata are copied, deeper levels are shared."""
    metadata = dict(obj.get("metadata") or {})
    metadata["resourceVersion"] = str(rv)
    version = {**obj, "metadata": metadata}
    return Stored(key, rv, _encoder.encode(version), version)
