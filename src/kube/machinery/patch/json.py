"""JSON patch (RFC 6902), `application/json-patch+json`.

All or nothing: operations work on a copy that is handed out only when every one succeeded. As kube-apiserver does, an
array index may be negative (from the end), and the number of operations and the growth through `copy` are limited:
a few hundred copies of a document into itself would otherwise outgrow the memory.
"""

from __future__ import annotations

import json
import re
from typing import Any

from kube.machinery.errors import StatusError, bad_request, too_large
from kube.machinery.patch._values import cannot_apply, clone, refuse_deep_nesting, same

MAX_OPERATIONS = 10_000
MAX_COPIED_BYTES = 3 * 1024 * 1024

_INDEX = re.compile(r"0|-?[1-9][0-9]{0,9}")
_BAD_ESCAPE = re.compile(r"~(?![01])")


@refuse_deep_nesting
def json_patch(doc: dict[str, Any], operations: Any) -> dict[str, Any]:
    """The object after all operations.

    Raises StatusError 400 when `operations` is no list of operation objects, 413 when there are more than
    MAX_OPERATIONS, 422 when an operation is incomplete, its path does not exist or its test fails.
    """
    if not isinstance(operations, list):
        raise bad_request("error decoding patch: a JSON patch must be an array of operations")
    for operation in operations:
        _check_shape(operation)
    if len(operations) > MAX_OPERATIONS:
        raise too_large(f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}")
    document = _Document(clone(doc))
    for operation in operations:
        document.apply(operation)
    if not isinstance(document.root, dict):
        raise cannot_apply("the patch replaces the object by something that is no object")
    return document.root


def _check_shape(operation: Any) -> None:
    if not isinstance(operation, dict):
        raise bad_request("error decoding patch: each operation of a JSON patch must be an object")
    for member in ("op", "path", "from"):
        if not isinstance(operation.get(member, ""), str):
            raise bad_request(f"error decoding patch: {member!r} must be a string")


class _Document:
    """A document under change. Paths are lists of unescaped reference tokens (RFC 6901)."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self._copied = 0

    def apply(self, operation: dict[str, Any]) -> None:
        name = operation.get("op")
        path = _tokens(operation, "path")
        match name:
            case "add":
                self._add(path, clone(_value(operation)))
            case "remove":
                self._remove(path)
            case "replace":
                self._replace(path, clone(_value(operation)))
            case "test":
                self._test(path, _value(operation))
            case "move":
                self._move(_tokens(operation, "from"), path)
            case "copy":
                self._copy(_tokens(operation, "from"), path)
            case _:
                raise cannot_apply(f"Unexpected kind: {name or 'unknown'}")

    def _add(self, path: list[str], value: Any) -> None:
        if not path:
            self.root = value
            return
        parent, key = self._get(path[:-1]), path[-1]
        if isinstance(parent, dict):
            parent[key] = value
        elif isinstance(parent, list):
            parent.insert(len(parent) if key == "-" else _position(key, len(parent) + 1, path), value)
        else:
            raise _missing(path)

    def _remove(self, path: list[str]) -> Any:
        if not path:
            raise cannot_apply("the whole document cannot be removed")
        parent, key = self._get(path[:-1]), path[-1]
        if isinstance(parent, dict) and key in parent:
            return parent.pop(key)
        if isinstance(parent, list):
            return parent.pop(_position(key, len(parent), path))
        raise _missing(path)

    def _replace(self, path: list[str], value: Any) -> None:
        """As in kube-apiserver, and unlike the RFC, the member of an object need not exist yet: clients rely on it."""
        if not path:
            self.root = value
            return
        parent, key = self._get(path[:-1]), path[-1]
        if isinstance(parent, dict):
            parent[key] = value
        elif isinstance(parent, list):
            parent[_position(key, len(parent), path)] = value
        else:
            raise _missing(path)

    def _test(self, path: list[str], expected: Any) -> None:
        parent = self._get(path[:-1]) if path else None
        # A member that is absent counts as null, as kube-apiserver has it; an absent list item is an error.
        current = parent.get(path[-1]) if isinstance(parent, dict) else self._get(path)
        if not same(current, expected):
            raise cannot_apply(f"testing value {_pointer(path)} failed: test failed")

    def _move(self, source: list[str], path: list[str]) -> None:
        self._get(source)
        if source == path:
            return
        if path[: len(source)] == source:
            raise cannot_apply(f"{_pointer(source)} cannot be moved into itself")
        self._add(path, self._remove(source))

    def _copy(self, source: list[str], path: list[str]) -> None:
        value = self._get(source)
        self._copied += len(json.dumps(value))
        if self._copied > MAX_COPIED_BYTES:
            raise cannot_apply(
                f"Unable to complete the copy, the accumulated size increase of copy is {self._copied}, "
                f"exceeding the limit {MAX_COPIED_BYTES}"
            )
        self._add(path, clone(value))

    def _get(self, path: list[str]) -> Any:
        value = self.root
        for token in path:
            if isinstance(value, dict) and token in value:
                value = value[token]
            elif isinstance(value, list):
                value = value[_position(token, len(value), path)]
            else:
                raise _missing(path)
        return value


def _tokens(operation: dict[str, Any], member: str) -> list[str]:
    """The reference tokens of a JSON pointer (RFC 6901); the empty pointer is the whole document."""
    pointer = operation.get(member)
    if pointer is None:
        raise cannot_apply(f"{operation.get('op')} operation does not apply: it has no {member!r}")
    if not pointer:
        return []
    if not pointer.startswith("/") or _BAD_ESCAPE.search(pointer):
        raise cannot_apply(f"{pointer!r} is not a JSON pointer")
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]


def _pointer(tokens: list[str]) -> str:
    return "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in tokens)


def _value(operation: dict[str, Any]) -> Any:
    if "value" not in operation:
        raise cannot_apply(f"{operation['op']} operation does not apply: it has no 'value'")
    return operation["value"]


def _position(token: str, length: int, path: list[str]) -> int:
    """A list index; negative ones count from `length`."""
    if not _INDEX.fullmatch(token):
        raise cannot_apply(f"{token!r} in {_pointer(path)} is not an array index")
    index = int(token)
    if not -length <= index < length:
        raise cannot_apply(f"{_pointer(path)}: Unable to access invalid index: {index}: invalid index referenced")
    return index % length


def _missing(path: list[str]) -> StatusError:
    return cannot_apply(f"doc is missing path: {_pointer(path)}: missing value")
