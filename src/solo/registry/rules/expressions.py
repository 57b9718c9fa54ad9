"""CEL expressions of policies and webhooks when they are written: what they may refer to and what they must give.

The checker takes every variable for dynamic. Fields of those whose types Kubernetes declares (apiserver's
`admission/plugin/cel/compile.go`) are looked up here; types that follow from theirs are not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kube.machinery.cel.literals import without_types
from kube.machinery.errors import Cause, cause
from solo.registry.objects import quote

Obj = dict[str, Any]

_TEXT: Obj = {"type": "string"}
_NUMBER: Obj = {"type": "integer"}
_LIST: Obj = {"type": "array"}
_TEXTS_BY_NAME: Obj = {"type": "object", "additionalProperties": _TEXT}


def _object(**properties: Obj) -> Obj:
    return {"type": "object", "properties": properties}


_GROUP_KIND = _object(group=_TEXT, version=_TEXT, kind=_TEXT)
_GROUP_RESOURCE = _object(group=_TEXT, version=_TEXT, resource=_TEXT)
_DECLARED: Mapping[str, Obj] = {
    "request": _object(
        kind=_GROUP_KIND,
        resource=_GROUP_RESOURCE,
        subResource=_TEXT,
        requestKind=_GROUP_KIND,
        requestResource=_GROUP_RESOURCE,
        requestSubResource=_TEXT,
        name=_TEXT,
        namespace=_TEXT,
        operation=_TEXT,
        userInfo=_object(
            username=_TEXT, uid=_TEXT, groups=_LIST, extra={"type": "object", "additionalProperties": _LIST}
        ),
        dryRun={"type": "boolean"},
        options={},
    ),
    "namespaceObject": _object(
        metadata=_object(
            name=_TEXT,
            generateName=_TEXT,
            namespace=_TEXT,
            labels=_TEXTS_BY_NAME,
            annotations=_TEXTS_BY_NAME,
            UID=_TEXT,
            creationTimestamp={},
            deletionGracePeriodSeconds=_NUMBER,
            deletionTimestamp={},
            generation=_NUMBER,
            resourceVersion=_TEXT,
            finalizers=_LIST,
        ),
        spec=_object(finalizers=_LIST),
        status=_object(conditions=_LIST, phase=_TEXT),
    ),
}
_TYPED = re.compile(r"\b(?:request|namespaceObject|variables)\b")
_PLAIN_TYPE = re.compile(r"(?<![\w.])[A-Z_]+\b")
_NAMES = {"null": "null_type", "timestamp": "google.protobuf.Timestamp", "duration": "google.protobuf.Duration"}


@dataclass(frozen=True, slots=True)
class Scope:
    """The variables that an expression sees, and the names of those that the policy itself has declared so far."""

    variables: tuple[str, ...]
    declared: tuple[str, ...] = ()

    def schemas(self) -> dict[str, Obj]:
        """What is known of the variables' fields."""
        known = {name: schema for name, schema in _DECLARED.items() if name in self.variables}
        if "variables" in self.variables:
            known["variables"] = _object(**{name: {} for name in self.declared})
        return known

    def without(self, variable: str) -> Scope:
        """The scope of an expression that does not see one of them."""
        return Scope(tuple(name for name in self.variables if name != variable), self.declared)


def check_expression(expression: str, field: str, scope: Scope, wanted: tuple[str, ...] = ()) -> list[Cause]:
    """Compile an expression that is to give one of the types `wanted`, or any where there are none."""
    from kube.machinery.cel import CelError, compile_cel
    from kube.machinery.schema.celtypes import first_undefined

    problem = None
    try:
        program = compile_cel(without_types(expression), scope.variables)
    except CelError as error:
        problem = f"compilation failed: {error}"
    else:
        schemas = scope.schemas()
        undefined = first_undefined(expression, schemas) if schemas else None
        if undefined is not None:
            problem = f"compilation failed: {undefined}"
        elif wanted:
            problem = _wrong_type(expression, program.result_type, wanted)
    return [] if problem is None else [cause("FieldValueInvalid", field, problem, quote(expression))]


def _wrong_type(expression: str, given: str, wanted: tuple[str, ...]) -> str | None:
    given = _PLAIN_TYPE.sub(_go_type, given).replace("<", "(").replace(">", ")")
    # Where Kubernetes knows the type of a variable, what is dynamic here may be what is wanted.
    if given in wanted or (given == "dyn" and _TYPED.search(expression)):
        return None
    if len(wanted) == 1:
        return f"must evaluate to {wanted[0]} but got {given}"
    return f"must evaluate to one of [{' '.join(wanted)}] but got {given}"


def _go_type(found: re.Match[str]) -> str:
    name = found.group().lower()
    return _NAMES.get(name, name)
