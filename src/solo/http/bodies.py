"""Request bodies: JSON and YAML into objects, with limits, and the duplicate fields that were found on the way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
from collections import Counter
from functools import lru_cache
from typing import Any

import msgspec

from kube.machinery import errors
from kube.machinery.schema.numbers import write_whole
from solo.http.negotiation import JSON, PROTOBUF, YAML
from solo.registry.body import summary

Obj = dict[str, Any]

MAX_BODY = 3 * 1024 * 1024
MAX_DEPTH = 200
MAX_YAML_NODES = 500_000
MAX_REPEATED = 100
"""Of more repeated keys in YAML the first are told; each costs a header or a line of the answer."""
SLOW_YAML = 64 * 1024
"""YAML takes about a second a megabyte: from this size on it is read beside the event loop."""
APPLY_PATCH = "application/apply-patch+yaml"
_SPACED_KEY = re.compile(rb'"\s+:')
_AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_NINETEEN_DIGITS = b"0" * 19
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)
_OPERATION_FIELDS = {"op", "path", "from", "value"}
ACCEPTED = (JSON, YAML, PROTOBUF)

_decode = msgspec.json.Decoder().decode


def decode_object(body: bytes, media_type: str, kind: str, repeated: list[str] | None = None) -> Obj:
    """The object in a body. Raises 400 where it is none, 415 for a media type that is not spoken.

    A key that a YAML document has twice counts as given the last time; what `fieldValidation` says of it is appended to
    `repeated`.
    """
    value = decode_value(body, media_type, kind, repeated)
    if not isinstance(value, dict):
        if value is None:
            raise _unrecognized(kind, f"Object 'Kind' is missing in '{body.decode(errors='replace')}'", body)
        names = {list: "array", str: "string", bool: "bool"}
        shown = names.get(type(value), "number")
        raise _not_read(kind, f"json: cannot unmarshal {shown} into an object", body)
    return value


async def read_object(body: bytes, media_type: str, kind: str, repeated: list[str] | None = None) -> Obj:
    """`decode_object` that does not keep other requests waiting."""
    if media_type in (YAML, APPLY_PATCH) and len(body) > SLOW_YAML:
        return await asyncio.to_thread(decode_object, body, media_type, kind, repeated)
    return decode_object(body, media_type, kind, repeated)


def decode_value(body: bytes, media_type: str, kind: str, repeated: list[str] | None = None) -> Any:
    """The value in a body, an object or (for a JSON patch) a list; else as `decode_object`."""
    if media_type in (YAML, APPLY_PATCH):
        value = _decode_yaml(body, kind, repeated if repeated is not None else [])
        write_whole(value)  # as what makes JSON of YAML does
    elif media_type == PROTOBUF:
        value = _decode_protobuf(body)
    elif media_type == JSON or media_type.endswith("+json"):
        try:
            value = _read_json(body)
        except (msgspec.DecodeError, ValueError) as problem:
            text = str(problem) if body else "unexpected end of JSON input"
            raise _not_read(kind, text, body) from None
        except RecursionError:
            raise errors.bad_request("the object is nested too deeply") from None
    else:
        raise errors.unsupported_media_type(ACCEPTED)
    # Each level of JSON is a bracket in the text; YAML and protobuf need none.
    if media_type in (YAML, APPLY_PATCH, PROTOBUF) or body.count(b"{") + body.count(b"[") > MAX_DEPTH:
        check_depth(value)
    return value


def _decode_protobuf(body: bytes) -> Any:
    from kube.machinery.protobuf import decode_unknown

    try:
        return decode_unknown(body)[2]
    except ValueError as problem:
        raise errors.bad_request(f"the body cannot be read: {problem}") from None
    except RecursionError:
        raise errors.bad_request("the object is nested too deeply") from None


def _read_json(body: bytes) -> Any:
    """The value of a JSON text. As in Go, what is no UTF-8 and halves of surrogate pairs become U+FFFD, and whole
    numbers beyond 64 bits floats."""
    try:
        value = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        mended = _ESCAPE.sub(_mend, body.decode(errors="replace")).encode()
        if mended == body:
            raise
        value = _decode(mended)
    # A search for digits by a pattern takes twenty times as long, on each write.
    return _bounded(value) if _NINETEEN_DIGITS in body.translate(_AS_ZEROS) else value


def _mend(escape: re.Match[str]) -> str:
    return "\\ufffd" if escape["half"] else escape[0]


def _bounded(value: Any) -> Any:
    """A value with numbers that others can read. Raises ValueError for what is none of 64 bits as a float either."""
    if isinstance(value, dict):
        return {key: _bounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_bounded(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("Number out of range")
    if type(value) is not int or -(2**63) <= value < 2**63:
        return value
    try:
        return float(value)
    except OverflowError:
        raise ValueError("Number out of range") from None


def _not_read(kind: str, detail: str, body: bytes) -> errors.StatusError:
    return _unrecognized(kind, f"couldn't get version/kind; json parse error: {detail}", body)


def _unrecognized(kind: str, detail: str, body: bytes) -> errors.StatusError:
    return errors.bad_request(
        f"the object provided is unrecognized (must be of type {kind}): {detail} ({summary(body)})"
    )


def check_depth(value: Any) -> None:
    """Raises 400 for a value that is nested too deeply to be walked safely."""
    level = [value]
    for _ in range(MAX_DEPTH):
        following: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                following.extend(part for part in item.values() if isinstance(part, (dict, list)))
            elif isinstance(item, list):
                following.extend(part for part in item if isinstance(part, (dict, list)))
        if not following:
            return
        level = following
    raise errors.bad_request(f"the object is nested more than {MAX_DEPTH} levels deep")


def duplicate_fields(body: bytes, value: Any) -> list[str]:
    """Fields that a JSON body, which was read as `value`, gives twice, as `fieldValidation` reports them."""
    # Each key that was written is a `":` in the text; so with as many as there are different keys, none came twice.
    if body.count(b'":') == _count_keys(value) and not _SPACED_KEY.search(body):
        return []
    found: list[str] = []
    _collect(json.loads(body, object_pairs_hook=_mark_duplicates), "", found)
    return found


def _count_keys(value: Any) -> int:
    count, left = 0, [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            count += len(item)
            left += item.values()
        elif isinstance(item, list):
            left += item
    return count


def patch_problems(patch: Any, body: bytes) -> list[str]:
    """What `fieldValidation` says of a patch itself: fields that are there twice, or that no operation has."""
    repeated = duplicate_fields(body, patch)
    if not isinstance(patch, list):
        return repeated
    unknown = [
        f'json patch unknown field "[{index}].{key}"'
        for index, operation in enumerate(patch)
        if isinstance(operation, dict)
        for key in operation.keys() - _OPERATION_FIELDS
    ]
    return unknown + [f"json patch {text}" for text in repeated]


def field_places(value: Any) -> dict[str, int]:
    """The place in the document of every field, by its path."""
    places: dict[str, int] = {}

    def walk(item: Any, path: str) -> None:
        if isinstance(item, dict):
            for key, child in item.items():
                where = f"{path}.{key}" if path else key
                places[where] = len(places)
                walk(child, where)
        elif isinstance(item, list):
            for index, child in enumerate(item):
                walk(child, f"{path}[{index}]")

    walk(value, "")
    return places


class _Duplicates(dict[str, Any]):
    """An object that remembers which keys came twice."""

    repeated: tuple[str, ...] = ()


def _mark_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) == len(pairs):
        return plain
    marked = _Duplicates(plain)
    counts = Counter(key for key, _ in pairs)
    marked.repeated = tuple(key for key, count in counts.items() if count > 1)
    return marked


def _collect(value: Any, path: str, found: list[str]) -> None:
    if isinstance(value, dict):
        if isinstance(value, _Duplicates):
            found.extend(f'duplicate field "{path}{key}"' for key in value.repeated)
        for key, item in value.items():
            _collect(item, f"{path}{key}.", found)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _collect(item, f"{path.rstrip('.')}[{index}].", found)


def _decode_yaml(body: bytes, kind: str, repeated: list[str]) -> Any:
    import yaml

    try:
        if body[:1] == b"{":
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
                return _read_json(body)  # JSON is YAML, and this reader of it is a hundred times faster
        loader = _loader()(body)
        loader.repeated = repeated
        try:
            value = loader.get_data()  # of several documents the first counts
        finally:
            loader.dispose()
        if _expanded(value, {}) > MAX_YAML_NODES:
            raise errors.bad_request("the YAML document's aliases expand to too much")
        # The same restrictions as JSON: string keys, no dates, no bytes.
        return _decode(msgspec.json.encode(_bounded(value)))
    except yaml.YAMLError as problem:
        text = getattr(problem, "problem", None) or str(problem).replace("\n", " ")
        raise _unrecognized(kind, f"yaml: {text}", body) from None
    except RecursionError:
        raise errors.bad_request("the object is nested too deeply") from None
    except (TypeError, ValueError, msgspec.MsgspecError) as problem:
        raise errors.bad_request(f"the object provided is unrecognized (must be of type {kind}): {problem}") from None


def _expanded(value: Any, known: dict[int, int]) -> int:
    """How many values a document has once its aliases are written out, without writing them out."""
    if not isinstance(value, (dict, list)):
        return 1
    size = known.get(id(value))
    if size is None:
        known[id(value)] = MAX_YAML_NODES  # a document that contains itself is too much
        items = value.values() if isinstance(value, dict) else value
        size = known[id(value)] = 1 + sum(_expanded(item, known) for item in items)
    return size


@lru_cache(maxsize=1)
def _loader() -> Any:
    """A safe loader with the scalars that kubectl's YAML has: no dates, no base-60 numbers. It notes duplicate keys."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]
        repeated: list[str]

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                if isinstance(key.value, str) and key.tag != "tag:yaml.org,2002:merge":
                    if key.value in seen and len(self.repeated) < MAX_REPEATED:
                        self.repeated.append(f'line {key.start_mark.line + 1}: key "{key.value}" already set in map')
                    seen.add(key.value)
            made = super().construct_mapping(node, deep)
            return {str(key).lower() if isinstance(key, bool) else key: value for key, value in made.items()}

    dropped = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in dropped]
        for first, resolvers in base.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:int",
        re.compile(r"^(?:[-+]?0b[01_]+|[-+]?0o?[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+)$"),
        list("-+0123456789"),
    )
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(
            r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)$"
        ),
        list("-+0123456789."),
    )
    # YAML 1.1 as Go's yaml package reads it: y and n are booleans, too.
    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^[yYnN]$"), list("yYnN"))
    Loader.bool_values = {**base.bool_values, "y": True, "n": False}
    Loader.add_constructor("tag:yaml.org,2002:binary", lambda loader, node: _yaml_binary(loader, node))
    Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: _yaml_int(loader.construct_scalar(node)))
    return Loader


def _yaml_binary(loader: Any, node: Any) -> str:
    """What is written in base64, as the text that it is."""
    data: bytes = loader.construct_yaml_binary(node)
    return data.decode(errors="replace")


def _yaml_int(text: str) -> int:
    plain = text.replace("_", "").lower()
    digits = plain.lstrip("+-")
    sign = -1 if plain.startswith("-") else 1
    if digits.startswith("0o"):
        return sign * int(digits[2:], 8)
    if digits.startswith("0x"):
        return sign * int(digits[2:], 16)
    if digits.startswith("0b"):
        return sign * int(digits[2:], 2)
    return sign * int(digits, 8 if len(digits) > 1 and digits.startswith("0") else 10)
