"""allOf, anyOf, oneOf and not: checks made of other schemas, with the summary that kube-openapi adds to the details."""

from __future__ import annotations

from typing import Any

from kube.machinery.errors import Cause, cause
from kube.machinery.schema.common import MISSING, NO_PATH, Check, Validator


def _mismatch(path: str, text: str) -> Cause:
    return cause("FieldValueInvalid", NO_PATH, f'"{path}" {text}', '""')


def _failures(validator: Validator, value: Any, path: str) -> list[Cause]:
    errors: list[Cause] = []
    validator(value, MISSING, path, errors)
    return errors


def any_of(validators: list[Validator]) -> Check:
    def check(value: Any, path: str, errors: list[Cause]) -> None:
        first: list[Cause] = []
        for validator in validators:
            failures = _failures(validator, value, path)
            if not failures:
                return
            first = first or failures
        errors.append(_mismatch(path, "must validate at least one schema (anyOf)"))
        errors.extend(first)

    return check


def one_of(validators: list[Validator]) -> Check:
    def check(value: Any, path: str, errors: list[Cause]) -> None:
        results = [_failures(validator, value, path) for validator in validators]
        valid = sum(not failures for failures in results)
        if valid == 1:
            return
        found = f"Found {valid} valid alternatives" if valid else "Found none valid"
        errors.append(_mismatch(path, f"must validate one and only one schema (oneOf). {found}"))
        if not valid:
            errors.extend(results[0])

    return check


def all_of(validators: list[Validator]) -> Check:
    def check(value: Any, path: str, errors: list[Cause]) -> None:
        results = [_failures(validator, value, path) for validator in validators]
        failed = sum(map(bool, results))
        for failures in results:
            errors.extend(failures)
        if failed:
            none = ". None validated" if failed == len(results) else ""
            errors.append(_mismatch(path, f"must validate all the schemas (allOf){none}"))

    return check


def none_of(validator: Validator) -> Check:
    def check(value: Any, path: str, errors: list[Cause]) -> None:
        if not _failures(validator, value, path):
            errors.append(_mismatch(path, "must not validate the schema (not)"))

    return check
