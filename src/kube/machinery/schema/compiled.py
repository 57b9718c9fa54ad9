"""A compiled schema: defaults, pruning and validation of one kind's objects."""

from __future__ import annotations

from typing import Any

from kube.machinery import builtin
from kube.machinery.errors import Cause
from kube.machinery.schema.common import MISSING, NO_PATH, Validator
from kube.machinery.schema.defaulting import Defaulter, DefaulterCompiler
from kube.machinery.schema.listtypes import ListCheckCompiler, ListChecker
from kube.machinery.schema.pruning import Pruner, PrunerCompiler
from kube.machinery.schema.rules import RuleChecker, RuleCompiler
from kube.machinery.schema.validation import ValidatorCompiler

Obj = dict[str, Any]

# Errors after which kube-apiserver does not evaluate rules (apiextensions' hasBlockingErr).
_BLOCKING = {
    "FieldValueNotSupported",
    "FieldValueRequired",
    "FieldValueTooLong",
    "FieldValueTooMany",
    "FieldValueTypeInvalid",
}
_NOT_CHECKED = Cause(
    "FieldValueInvalid",
    "Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation",
    NO_PATH,
)


class Schema:
    """What `compile_schema` makes. Safe to share between tasks; objects are changed only where it says so."""

    def __init__(
        self,
        defaulter: Defaulter | None,
        pruner: Pruner | None,
        validator: Validator,
        lists: ListChecker | None,
        rules: RuleChecker | None,
    ) -> None:
        self._defaulter = defaulter
        self._pruner = pruner
        self._validator = validator
        self._lists = lists
        self._rules = rules

    def default(self, obj: Obj) -> None:
        """Set defaults in place and remove nulls from fields that are not nullable."""
        if self._defaulter is not None:
            self._defaulter(obj)

    def prune(self, obj: Obj) -> list[str]:
        """Remove unspecified fields in place; returns their paths as kubectl shows them, `spec.list[0].bar`."""
        unknown: list[str] = []
        if self._pruner is not None:
            self._pruner(obj, "", unknown)
        return unknown

    def validate(self, obj: Obj, old: Obj | None = None) -> list[Cause]:
        """All that is wrong with an object, in kube-apiserver's words; empty if it is valid.

        With `old` (an update) unchanged parts are not reported and transition rules are evaluated. Duplicates in sets
        and maps are not reported to an object that had some before.
        """
        errors: list[Cause] = []
        self._validator(obj, MISSING if old is None else old, "", errors)
        if self._lists is not None and (old is None or not self._duplicates(old)):
            errors += self._duplicates(obj)
        if self._rules is not None:
            if any(error.reason in _BLOCKING for error in errors):
                errors.append(_NOT_CHECKED)
            else:
                self._rules(obj, MISSING if old is None else old, False, "", errors)
        return errors

    def _duplicates(self, obj: Obj) -> list[Cause]:
        errors: list[Cause] = []
        if self._lists is not None:
            self._lists(obj, "", errors)
        return errors


def compile_schema(openapi_v3_schema: dict[str, Any], *, embedded_root: bool = True) -> Schema:
    """Compile the structural schema of a CRD version, or a built-in kind's schema (`builtin.openapi_v3_schema`).

    With `embedded_root` the value is a whole Kubernetes object: apiVersion, kind and metadata belong to it whether the
    schema names them or not, and metadata has ObjectMeta's fields. The schema must not be changed afterwards.
    """
    native = "x-go-type" in openapi_v3_schema
    shape = _with_object_meta(openapi_v3_schema) if embedded_root and not native else openapi_v3_schema
    return Schema(
        DefaulterCompiler().compile(shape),
        PrunerCompiler(_object_meta).compile(shape),
        ValidatorCompiler().compile(openapi_v3_schema),
        # Built-in kinds declare sets and maps for merging only; their duplicates are checked kind by kind.
        None if native else ListCheckCompiler().compile(openapi_v3_schema),
        None if native else RuleCompiler().compile(openapi_v3_schema),
    )


def _object_meta() -> dict[str, Any]:
    return builtin.openapi_v3_schema(builtin.OBJECT_META)


def _with_object_meta(schema: dict[str, Any]) -> dict[str, Any]:
    properties = dict(schema.get("properties") or {})
    properties.update(apiVersion={"type": "string"}, kind={"type": "string"}, metadata=_object_meta())
    return {**schema, "properties": properties}
