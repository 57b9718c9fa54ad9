"""What a request brings along besides its object: who asks, dry run, field validation, and the warnings it earns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kube.machinery import errors
from kube.machinery.errors import StatusError, cause
from kube.machinery.queries import flag
from solo.auth.authn import User


@dataclass(slots=True)
class BodyProblems:
    """What is odd about a request's body: fields that are there twice, in words.

    `places` is given where problems are reported in the order of the document, as those of typed JSON are.
    """

    repeated: list[str] = field(default_factory=list)
    places: Mapping[str, int] | None = None
    is_patch: bool = False

    def with_unknown(self, unknown: list[str]) -> list[str]:
        """These problems and unknown fields, once each."""
        if self.places is None:
            return [*self.repeated, *unknown]
        places, paths = self.places, {_path(text) for text in unknown}
        listed = [*unknown, *(text for text in self.repeated if _path(text) not in paths)]
        return sorted(listed, key=lambda text: places.get(_path(text), len(places)))


def _path(problem: str) -> str:
    """The field that a problem is about: `unknown field "spec.x"`."""
    return problem.partition('"')[2].removesuffix('"')


def _as_one_error(problems: list[str]) -> list[str]:
    """Problems of a YAML document are one error of its reader."""
    lines = [text for text in problems if text.startswith("line ")]
    if not lines:
        return problems
    return ["\n  ".join(["yaml: unmarshal errors:", *lines]), *(text for text in problems if text not in lines)]


@dataclass(slots=True)
class RequestContext:
    """One request on its way through the registry. `warnings` become Warning headers.

    `manager` is the name under which managedFields has what the request changes. `options` are the verb's options as
    admission sees them, besides the dry run.
    """

    user: User
    dry_run: bool = False
    field_validation: str = "Warn"
    manager: str = "solo"
    warnings: list[str] = field(default_factory=list)
    body: BodyProblems = field(default_factory=lambda: BodyProblems())
    options: Mapping[str, Any] = field(default_factory=dict)

    def report_unknown(self, kind: str, version: str, unknown: list[str]) -> None:
        """Deal with unknown fields, and with those that the body has twice, as `fieldValidation` asks (KEP-2885).

        Raises 400 under Strict.
        """
        problems = self.body.with_unknown(unknown)
        if not problems or self.field_validation == "Ignore":
            return
        if self.field_validation == "Strict":
            text = f"strict decoding error: {', '.join(_as_one_error(problems))}"
            subject = f'{kind} in version "{version}" cannot be handled as a {kind}: '
            raise errors.bad_request(text if self.body.is_patch else subject + text)
        self.warn(problems)

    def warn(self, texts: Iterable[str]) -> None:
        """Add warnings, each once."""
        self.warnings.extend(dict.fromkeys(text for text in texts if text not in self.warnings))


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """meta/v1 DeleteOptions, read and checked."""

    grace: int | None = None
    propagation: str | None = None
    uid: str | None = None
    resource_version: str | None = None

    @classmethod
    def read(cls, body: dict[str, Any], query: dict[str, str]) -> DeleteOptions:
        """From the body and, where that is silent, the query. Raises 422 for a value that does not exist."""
        if body.get("kind", "DeleteOptions") != "DeleteOptions":
            raise errors.bad_request(f"the body of a deletion must be DeleteOptions, not {body['kind']}")
        if body.get("orphanDependents") is not None and body.get("propagationPolicy") is not None:
            detail = "orphanDependents and deletionPropagation cannot be both set"
            printed = f'"{body["propagationPolicy"]}"'
            problem = cause("FieldValueInvalid", "propagationPolicy", detail, printed)
            raise errors.invalid("meta.k8s.io", "DeleteOptions", "", [problem])
        grace = body.get("gracePeriodSeconds")
        if grace is None and "gracePeriodSeconds" in query:
            grace = query["gracePeriodSeconds"]
        propagation = body.get("propagationPolicy") or query.get("propagationPolicy")
        if propagation is None:
            orphan = body.get("orphanDependents")
            if orphan is None and "orphanDependents" in query:
                orphan = flag(query, "orphanDependents")
            if orphan is not None:
                propagation = "Orphan" if orphan else "Background"
        if propagation is not None and propagation not in ("Background", "Foreground", "Orphan"):
            problem = cause(
                "FieldValueNotSupported",
                "propagationPolicy",
                'supported values: "Foreground", "Background", "Orphan", "nil"',
                f'"{propagation}"',
            )
            raise errors.invalid("meta.k8s.io", "DeleteOptions", "", [problem])
        try:
            seconds = None if grace is None else int(grace)
        except (TypeError, ValueError):
            raise errors.bad_request(f'strconv.ParseInt: parsing "{grace}": invalid syntax') from None
        preconditions = body.get("preconditions") or {}
        return cls(seconds, propagation, preconditions.get("uid"), preconditions.get("resourceVersion"))

    def shown(self, grace: int | None) -> dict[str, Any]:
        """What admission sees of them where an object has `grace` seconds to end."""
        preconditions = {"uid": self.uid, "resourceVersion": self.resource_version}
        told = {
            "gracePeriodSeconds": grace,
            "preconditions": {key: value for key, value in preconditions.items() if value is not None} or None,
            "propagationPolicy": self.propagation,
        }
        return {key: value for key, value in told.items() if value is not None}


def check_dry_run(values: list[str], options_kind: str) -> bool:
    """The `dryRun` parameter: only `All` exists. Raises 422."""
    if not values:
        return False
    if values != ["All"]:
        printed = "[" + ",".join(f'"{value}"' for value in values) + "]"
        raise errors.invalid(
            "meta.k8s.io",
            options_kind,
            "",
            [cause("FieldValueNotSupported", "dryRun", 'supported values: "All"', printed)],
        )
    return True


def check_field_validation(value: str | None, options_kind: str) -> str:
    """The `fieldValidation` parameter; Warn when it is not given. Raises 422."""
    if not value:
        return "Warn"
    if value not in ("Strict", "Warn", "Ignore"):
        problem: StatusError = errors.invalid(
            "meta.k8s.io",
            options_kind,
            "",
            [
                cause(
                    "FieldValueNotSupported",
                    "fieldValidation",
                    'supported values: "", "Ignore", "Strict", "Warn"',
                    f'"{value}"',
                )
            ],
        )
        raise problem
    return value
