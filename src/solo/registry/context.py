"""What a request brings along besides its object: who asks, dry run, field validation, and the warnings it earns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kube.machinery import errors
from kube.machinery.errors import StatusError, cause
from solo.auth.authn import User


@dataclass(slots=True)
class RequestContext:
    """One request on its way through the registry. `warnings` become Warning headers.

    `manager` is the name under which managedFields has what the request changes.
    """

    user: User
    dry_run: bool = False
    field_validation: str = "Warn"
    manager: str = "solo"
    warnings: list[str] = field(default_factory=list)

    def report_unknown(self, kind: str, version: str, problems: list[str]) -> None:
        """Deal with unknown and duplicate fields as `fieldValidation` asks (KEP-2885).

        Raises 400 under Strict.
        """
        if not problems or self.field_validation == "Ignore":
            return
        if self.field_validation == "Strict":
            raise errors.bad_request(
                f'{kind} in version "{version}" cannot be handled as a {kind}: '
                f"strict decoding error: {', '.join(problems)}"
            )
        self.warnings.extend(problems)


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
        grace = body.get("gracePeriodSeconds")
        if grace is None and "gracePeriodSeconds" in query:
            grace = query["gracePeriodSeconds"]
        propagation = body.get("propagationPolicy") or query.get("propagationPolicy")
        if propagation is None and (body.get("orphanDependents") is True or query.get("orphanDependents") == "true"):
            propagation = "Orphan"
        if propagation is not None and propagation not in ("Background", "Foreground", "Orphan"):
            problem = cause(
                "FieldValueNotSupported",
                "propagationPolicy",
                'supported values: "Background", "Foreground", "Orphan"',
                f'"{propagation}"',
            )
            raise errors.invalid("meta.k8s.io", "DeleteOptions", "", [problem])
        try:
            seconds = None if grace is None else int(grace)
        except (TypeError, ValueError):
            raise errors.bad_request(f"gracePeriodSeconds {grace!r} is not a number") from None
        preconditions = body.get("preconditions") or {}
        return cls(seconds, propagation, preconditions.get("uid"), preconditions.get("resourceVersion"))


def check_dry_run(values: list[str], options_kind: str) -> bool:
    """The `dryRun` parameter: only `All` exists. Raises 422."""
    if not values:
        return False
    if values != ["All"]:
        printed = "[" + ", ".join(f'"{value}"' for value in values) + "]"
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
                    'supported values: "Ignore", "Strict", "Warn"',
                    f'"{value}"',
                )
            ],
        )
        raise problem
    return value
