"""What is wrong with names and amounts of resources, in containers, quotas and limit ranges.

Rules of core `validateResourceRequirements`, `validateResourceName` and `ValidateResourceQuantityValue`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from kube.machinery import names
from kube.machinery.errors import Cause, cause
from kube.machinery.quantity import parse_quantity
from solo.registry.objects import quote
from solo.registry.rules.fieldchecks import invalid

Obj = dict[str, Any]

HUGE_PAGES = "hugepages-"
_QUOTA_HUGE_PAGES = (HUGE_PAGES, f"requests.{HUGE_PAGES}")
_CONTAINER = ("cpu", "memory", "ephemeral-storage")
_COUNTS = (
    "pods", "resourcequotas", "services", "replicationcontrollers", "secrets", "configmaps", "persistentvolumeclaims",
    "services.nodeports", "services.loadbalancers",
)  # fmt: skip
_QUOTA = frozenset(
    {
        *_CONTAINER, *_COUNTS, "requests.cpu", "requests.memory", "requests.storage", "requests.ephemeral-storage",
        "limits.cpu", "limits.memory", "limits.ephemeral-storage",
    }
)  # fmt: skip
_STANDARD = _QUOTA | {"storage"}


def resource_name(name: str, field: str) -> list[Cause]:
    """A name that is qualified, or one of those that every cluster knows."""
    causes = [invalid(field, name, text) for text in names.qualified_name(name)]
    if not causes and "/" not in name and name not in _STANDARD and not name.startswith(_QUOTA_HUGE_PAGES):
        causes.append(invalid(field, name, "must be a standard resource type or fully qualified"))
    return causes


def container_resource(name: str, field: str) -> list[Cause]:
    """The name of what a container can ask for."""
    causes = resource_name(name, field)
    if "/" not in name:
        if name not in _CONTAINER and not name.startswith(HUGE_PAGES):
            causes.append(invalid(field, name, "must be a standard resource for containers"))
    elif not _native(name) and not _extended(name):
        causes.append(invalid(field, name, "doesn't follow extended resource name standard"))
    return causes


def quota_resource(name: str, field: str) -> list[Cause]:
    """The name of what a quota can limit."""
    causes = resource_name(name, field)
    if "/" not in name and not standard_quota(name):
        causes.append(invalid(field, name, "must be a standard resource for quota"))
    return causes


def standard_quota(name: str) -> bool:
    """Whether it is one of the resources that every quota knows."""
    return name in _QUOTA or name.startswith(_QUOTA_HUGE_PAGES)


def amount_causes(name: str, amount: Any, field: str) -> list[Cause]:
    """An amount of the resource `name`: no less than nothing, and whole where it is counted."""
    try:
        value = parse_quantity(amount)
    except ValueError as problem:
        return [cause("FieldValueInvalid", field, str(problem), quote(str(amount)))]
    causes = []
    if value < 0:
        causes.append(invalid(field, str(amount), "must be greater than or equal to 0"))
    # Thousandths, rounded up, because that is how finely it is looked at there.
    if (name in _COUNTS or _extended(name)) and math.ceil(value * 1000) % 1000:
        causes.append(invalid(field, str(amount), "must be an integer"))
    return causes


def overcommitted(name: str) -> bool:
    """Whether a container may ask for less of it than it can get in the end."""
    return _native(name) and not name.startswith(HUGE_PAGES)


def requirement_causes(resources: Obj, field: str) -> Iterator[Cause]:
    """What a container asks for, and what it may have at most."""
    amounts = {part: resources.get(part) or {} for part in ("limits", "requests")}
    wrong: set[tuple[str, str]] = set()
    for part, given in amounts.items():
        for name, amount in given.items():
            place = f"{field}.{part}[{name}]"
            yield from container_resource(name, place)
            found = amount_causes(name, amount, place)
            yield from found
            if found:
                wrong.add((part, name))
            elif part == "requests" and ("limits", name) not in wrong:
                yield from _bounded(name, amount, amounts["limits"].get(name), field)
    asked = {*amounts["limits"], *amounts["requests"]}
    if any(name.startswith(HUGE_PAGES) for name in asked) and not asked & {"cpu", "memory"}:
        yield cause("FieldValueForbidden", field, "HugePages require cpu or memory")


def _bounded(name: str, amount: Any, limit: Any, field: str) -> Iterator[Cause]:
    if limit is None:
        if not overcommitted(name):
            detail = "Limit must be set for non overcommitable resources"
            yield cause("FieldValueRequired", f"{field}.limits", detail)
        return
    difference: Decimal = parse_quantity(amount) - parse_quantity(limit)
    if difference and not overcommitted(name):
        yield invalid(f"{field}.requests", str(amount), f"must be equal to {name} limit of {limit}")
    elif difference > 0:
        yield invalid(f"{field}.requests", str(amount), f"must be less than or equal to {name} limit of {limit}")


def _native(name: str) -> bool:
    """Whether it is Kubernetes' own."""
    return "/" not in name or "kubernetes.io/" in name


def _extended(name: str) -> bool:
    return not _native(name) and not name.startswith("requests.") and not names.qualified_name(f"requests.{name}")
