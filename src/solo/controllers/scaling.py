"""What becomes of ReplicaSets when `spec.replicas` of their Deployment changes, without I/O.

In the middle of a rollout the change is shared among the sets by their sizes, so that the risk stays what it was; the
rollout goes on afterwards. Follows kube-controller-manager's `pkg/controller/deployment` (sync.go, deployment_util.go).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from solo.controllers.rollout import DESIRED_REPLICAS, MAX_REPLICAS, Bounds, available, existing, wanted

Obj = dict[str, Any]


def replicas_annotations(deployment: Mapping[str, Any]) -> dict[str, str]:
    """What a set remembers of its Deployment when it was last given a size."""
    bounds = Bounds.of(deployment)
    return {DESIRED_REPLICAS: str(bounds.replicas), MAX_REPLICAS: str(bounds.max_total)}


def is_scaled(deployment: Mapping[str, Any], sets: Sequence[Obj]) -> bool:
    """Whether `spec.replicas` is another than when the sets got their sizes."""
    desired = (_annotation(each, DESIRED_REPLICAS) for each in sets if wanted(each))
    return any(each not in (None, wanted(deployment)) for each in desired)


def sizes(deployment: Mapping[str, Any], new: Obj | None, old: Sequence[Obj]) -> dict[str, int]:
    """The sizes, by name, that sets get for the new `spec.replicas`, before a rollout goes on."""
    sets = [*old, new] if new is not None else [*old]
    active = [each for each in sets if wanted(each)]
    if len(active) < 2:
        latest = new if new is not None else max(old, key=_age, default=None)
        only = active[0] if active else latest
        return {} if only is None else {_name(only): wanted(deployment)}
    if new is not None and _is_saturated(deployment, new):
        return {_name(each): 0 for each in active if each is not new}
    if (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
        return {_name(each): wanted(each) for each in active}
    return _proportional(deployment, active)


def _proportional(deployment: Mapping[str, Any], active: list[Obj]) -> dict[str, int]:
    bounds = Bounds.of(deployment)
    add = (bounds.max_total if bounds.replicas else 0) - sum(map(wanted, active))
    # The largest first; of equal ones the newest grows and the oldest shrinks.
    active.sort(key=_age, reverse=add > 0)
    active.sort(key=wanted, reverse=True)
    found: dict[str, int] = {}
    left = add
    for each in active:
        share = _share(deployment, bounds, each)
        share = min(share, left) if add > 0 else max(share, left)
        left -= share
        found[_name(each)] = wanted(each) + share
    first = _name(active[0])
    found[first] = max(0, found[first] + left)
    return found


def _share(deployment: Mapping[str, Any], bounds: Bounds, replica_set: Obj) -> int:
    """How much a set grows in proportion to its part of all replicas that there could be before."""
    size = wanted(replica_set)
    if bounds.replicas == 0:
        return -size
    before = _annotation(replica_set, MAX_REPLICAS) or existing(deployment)
    grown = size * bounds.max_total / before if before else size
    return math.floor(grown + 0.5) - size


def _is_saturated(deployment: Mapping[str, Any], new: Obj) -> bool:
    """Whether the new set is all that is wanted."""
    replicas = wanted(deployment)
    return wanted(new) == _annotation(new, DESIRED_REPLICAS) == available(new) == replicas


def _annotation(replica_set: Mapping[str, Any], key: str) -> int | None:
    """A number that is annotated, None when there is none."""
    text = (replica_set["metadata"].get("annotations") or {}).get(key, "")
    return int(text) if text.isdecimal() else None


def _name(obj: Mapping[str, Any]) -> str:
    return str(obj["metadata"]["name"])


def _age(obj: Mapping[str, Any]) -> tuple[str, str]:
    return str(obj["metadata"].get("creationTimestamp") or ""), _name(obj)
