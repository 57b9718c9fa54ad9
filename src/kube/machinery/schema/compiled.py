"""A compiled schema: defaults, pruning and validation of one kind's objects."""

from __future__ import annotations

from functools import cache
from typing import Any

from kube.machinery.errors import Cause
from kube.machinery.schema.common import MISSING, NO_PATH, Validator
from kube.machinery.schema.defaulting import Defaulter, DefaulterCompiler
from kube.machinery.schema.embedded import Finder, check_object, compile_finder, object_meta, type_problem
from kube.machinery.schema.listtypes import ListCheckCompiler, ListChecker
from kube.machinery.schema.nulls import drop_nulls
from kube.machinery.schema.pruning import Pruner, PrunerCompiler
from kube.machinery.schema.rules import RuleChecker, RuleCompiler, run_rules
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
        embedded: Finder | None,
        lists: ListChecker | None,
        rules: RuleChecker | None,
    ) -> None:
        self._defaulter = defaulter
        self._pruner = pruner
        self._validator = validator
        self._embedded = embedded
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

    def read_embedded(self, obj: Obj) -> list[str]:
        """Remove unknown fields from the metadata of embedded objects in place; returns their paths.

        Raises ValueError for one whose types or metadata cannot be read.
        """
        unknown: list[str] = []
        for inner, path in self._embedded(obj, "") if self._embedded is not None else ():
            if isinstance(inner.get("metadata"), dict):
                drop_nulls(inner["metadata"], object_meta())
            if problem := type_problem(inner, path):
                raise ValueError(f"{problem.field}: {problem.message}")
            if isinstance(inner.get("metadata"), dict):
                found = compile_object_meta().prune(inner["metadata"])
                unknown += [f"{path}.metadata.{field}" for field in found]
        return sorted(unknown)

    def validate(self, obj: Obj, old: Obj | None = None) -> list[Cause]:
        """All that is wrong with an object, in kube-apiserver's words; empty if it is valid.

        With `old` (an update) unchanged parts are not reported and transition rules are evaluated. Duplicates in sets
        and maps are not reported to an object that had some before.
        """
        errors: list[Cause] = []
        self._validator(obj, MISSING if old is None else old, "", errors)
        if self._embedded is not None:
            errors += [problem for inner, path in self._embedded(obj, "") for problem in check_object(inner, path)]
        if self._lists is not None and (old is None or not self._duplicates(old)):
            errors += self._duplicates(obj)
        if self._rules is not None:
            if any(error.reason in _BLOCKING for error in errors):
                errors.append(_NOT_CHECKED)
            else:
                errors += run_rules(self._rules, obj, MISSING if old is None else old)
        return errors

    def validate_default(self, value: Any, place: str) -> list[Cause]:
        """What is wrong with a default that is at `place`; the texts call its fields by their paths within it."""
        found: list[Cause] = []
        self._validator(value, MISSING, "", found)
        errors = [
            Cause(error.reason, error.message, place if error.field == NO_PATH else f"{place}.{error.field}")
            for error in found
        ]
        for old in (value, MISSING) if self._rules is not None else ():
            if self._rules is not None and not errors:
                errors += run_rules(self._rules, value, old, place)
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
        PrunerCompiler().compile(shape),
        ValidatorCompiler().compile(openapi_v3_schema),
        None if native else compile_finder(openapi_v3_schema),
        # Built-in kinds declare sets and maps for merging only; their duplicates are checked kind by kind.
        None if native else ListCheckCompiler().compile(openapi_v3_schema),
        None if native else RuleCompiler().compile(openapi_v3_schema),
    )


@cache
def compile_object_meta() -> Schema:
    """The compiled schema of ObjectMeta."""
    return compile_schema(object_meta(), embedded_root=False)


def _with_object_meta(schema: dict[str, Any]) -> dict[str, Any]:
    properties = dict(schema.get("properties") or {})
    properties.update(apiVersion={"type": "string"}, kind={"type": "string"}, metadata=object_meta())
    return {**schema, "properties": properties}
