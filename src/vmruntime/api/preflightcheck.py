"""VMRuntimePreflightCheck: one run of the checks that nodes must pass before VMs are used."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from kube.machinery.resources import Resource
from vmruntime.api import names
from vmruntime.api.meta import (
    AGE,
    Column,
    Obj,
    array,
    boolean,
    crd,
    dig,
    name_of,
    root_schema,
    string,
    struct,
    timestamp,
)

RESOURCE = Resource(names.GROUP, names.VERSION, "vmruntimepreflightchecks", "VMRuntimePreflightCheck")

KEEP_NEWEST = 10


def definition() -> Obj:
    """The CustomResourceDefinition; present from installation on, as checks can be asked for at any time."""
    result = struct(
        "One check on one node.",
        {
            "checkName": string("CPU, KVM, ..."),
            "passed": boolean("Whether it passed."),
            "message": string("What was found; on a failure also which setting helps."),
        },
    )
    node = struct(
        "The checks of one node.",
        {"passed": boolean("Whether all of them passed."), "results": array("Check by check.", result)},
    )
    status = struct(
        "The outcome. Empty until the check has run.",
        {
            "passed": boolean("Whether every node passed every check."),
            "message": string("Why not, in one sentence."),
            "useEmulation": boolean("The useEmulation setting of the VMRuntime at that time."),
            "completionTime": timestamp("When the check was done."),
            "checks": {"type": "object", "description": "Outcome by node name.", "additionalProperties": node},
        },
    )
    schema = root_schema(
        "VMRuntimePreflightCheck runs the preflight checks once, when it is created. It needs no spec.",
        struct("Nothing can be set.", {}),
        status,
    )
    return crd(
        RESOURCE,
        singular="vmruntimepreflightcheck",
        short_names=("vmruntimepfc",),
        columns=(Column("Pass", ".status.passed", "boolean"), AGE),
        schema=schema,
    )


def automatic(runtime_uid: str, generation: int, cause: str = "") -> Obj:
    """The check that a change of the VMRuntime triggers.

    The name follows from the runtime, the generation of its spec and the cause, so that a controller that was killed
    after creating it finds it again instead of creating another.
    """
    seed = f"{runtime_uid}/{generation}/{cause}"
    return check_object(f"{names.PREFLIGHT_PREFIX}{uuid.uuid5(uuid.NAMESPACE_OID, seed)}")


def check_object(name: str) -> Obj:
    return {
        "apiVersion": RESOURCE.api_version,
        "kind": RESOURCE.kind,
        "metadata": {"name": name, "namespace": names.NAMESPACE},
    }


def is_done(obj: Obj) -> bool:
    return bool(dig(obj, "status", "completionTime"))


def newest_first(checks: Iterable[Obj]) -> list[Obj]:
    """By time of completion where there is one: creation times have whole seconds only."""

    def age_key(obj: Obj) -> tuple[str, str, str]:
        created = str(dig(obj, "metadata", "creationTimestamp", default=""))
        return created, str(dig(obj, "status", "completionTime", default="")), name_of(obj)

    return sorted(checks, key=age_key, reverse=True)


def summary(obj: Obj) -> Obj:
    """What `VMRuntime.status.preflightCheckSummary` says about a finished check."""
    features: dict[str, bool] = {}
    for node in dig(obj, "status", "checks", default={}).values():
        for result in node.get("results", []):
            name = str(result.get("checkName", ""))
            features[name] = features.get(name, True) and result.get("passed") is True
    text: Obj = {
        "preflightCheckName": name_of(obj),
        "preflightCheckPassed": dig(obj, "status", "passed") is True,
        "useEmulation": dig(obj, "status", "useEmulation") is True,
        "featureStatuses": {name: {"passed": passed} for name, passed in sorted(features.items())},
    }
    if message := dig(obj, "status", "message"):
        text["message"] = message
    return text
