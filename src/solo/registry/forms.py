"""Kinds that are served in another form than they are stored in, because two kinds share their objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

Obj = dict[str, Any]


class Form(Protocol):
    """The two directions between what a kind serves and what is stored; neither changes the object it is given.

    apiVersion and the order of the fields are not its business.
    """

    def served(self, obj: Obj) -> Obj:
        """A stored object as the kind has it."""
        ...

    def stored(self, obj: Obj) -> Obj:
        """An object of the kind as it is stored."""
        ...


class Renamed:
    """Some top-level fields are called differently: `names` has the served name of each, and the stored one."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._stored = dict(names)
        self._served = {stored: served for served, stored in names.items()}

    def served(self, obj: Obj) -> Obj:
        return {self._served.get(key, key): value for key, value in obj.items()}

    def stored(self, obj: Obj) -> Obj:
        return {self._stored.get(key, key): value for key, value in obj.items()}
