"""What the three kinds of patches share: copies and equality of JSON values, and the error for a patch that fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from kube.machinery.errors import StatusError, bad_request

P = ParamSpec("P")
T = TypeVar("T")


def clone(value: Any) -> Any:
    """A deep copy of plain JSON; several times faster than copy.deepcopy, which handles cycles and classes."""
    if isinstance(value, dict):
        return {key: clone(child) for key, child in value.items()}
    if isinstance(value, list):
        return [clone(child) for child in value]
    return value


def same(left: Any, right: Any) -> bool:
    """JSON equality: numbers by value, but true is not 1 (RFC 6902, section 4.6)."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(child, right[key]) for key, child in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def cannot_apply(problem: str) -> StatusError:
    """422 for a well-formed patch that does not fit the object.

    kube-apiserver gives only the general message; the cause says which operation failed, so that people can act on it.
    """
    return StatusError(
        422,
        "Invalid",
        "the server rejected our request due to an error in our request",
        {"causes": [{"reason": "FieldValueInvalid", "message": problem, "field": "patch"}]},
    )


def refuse_deep_nesting(function: Callable[P, T]) -> Callable[P, T]:
    """Patches and objects are walked recursively: one that is nested too deeply is the client's error, not ours."""

    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except RecursionError:
            raise bad_request("the patch or the object is nested too deeply") from None

    guarded.__doc__ = function.__doc__
    guarded.__name__ = function.__name__
    return guarded
