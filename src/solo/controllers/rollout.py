"""The arithmetic of a rollout, without I/O: template hashes, revisions, and how many replicas each set gets next.

Follows kube-controller-manager's `pkg/controller/deployment` (rolling.go, recreate.go, util/deployment_util.go).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Obj = dict[str, Any]

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
NOT_COPIED = frozenset(
    {
        REVISION,
        REVISION_HISTORY,
        DESIRED_REPLICAS,
        MAX_REPLICAS,
        "deprecated.deployment.rollback.to",
        "kubectl.kubernetes.io/last-applied-configuration",
    }
)
_HISTORY_CHARACTERS = 2000
DEFAULT_PROGRESS_DEADLINE_SECONDS = 600
DEFAULT_HISTORY_LIMIT = 10

_SAFE_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def template_hash(template: Mapping[str, Any], collisions: int) -> str:
    """A short name for a pod template (FNV-1a, in the letters that Kubernetes uses)."""
    value = 0x811C9DC5
    text = json.dumps(template, sort_keys=True, separators=(",", ":")) + (str(collisions) if collisions else "")
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return "".join(_SAFE_ALPHABET[ord(digit) % len(_SAFE_ALPHABET)] for digit in str(value))


def same_template(replica_set: Mapping[str, Any], template: Mapping[str, Any]) -> bool:
    """Whether a ReplicaSet makes the pods that `template` describes."""
    return _without_hash(replica_set["spec"]["template"]) == _without_hash(template)


def _without_hash(template: Mapping[str, Any]) -> Obj:
    meta = {key: value for key, value in (template.get("metadata") or {}).items() if value is not None}
    labels = {key: value for key, value in (meta.pop("labels", None) or {}).items() if key != HASH_LABEL}
    return {**template, "metadata": {**meta, "labels": labels}}


def revision(obj: Mapping[str, Any]) -> int:
    """The revision annotation as a number, 0 when there is none."""
    try:
        return int((obj["metadata"].get("annotations") or {}).get(REVISION, 0))
    except ValueError:
        return 0


def past_revisions(replica_set: Mapping[str, Any], number: int) -> dict[str, str]:
    """The annotation that keeps the revisions which a set had before it became `number`; none if that is its first."""
    annotations = replica_set["metadata"].get("annotations") or {}
    before = annotations.get(REVISION)
    if before is None or revision(replica_set) >= number:
        return {}
    known = [each for each in annotations.get(REVISION_HISTORY, "").split(",") if each] + [before]
    while len(",".join(known)) > _HISTORY_CHARACTERS:
        known.pop(0)
    return {REVISION_HISTORY: ",".join(known)}


def scaled(value: int | str | None, total: int, *, round_up: bool) -> int:
    """A number, or a percentage of `total` (intstr.GetScaledValueFromIntOrPercent)."""
    if isinstance(value, str) and value.endswith("%"):
        share = total * int(value[:-1]) / 100
        return math.ceil(share) if round_up else math.floor(share)
    return int(value or 0)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a rolling update has to keep to."""

    replicas: int
    max_surge: int
    max_unavailable: int

    @property
    def min_available(self) -> int:
        return self.replicas - self.max_unavailable

    @property
    def max_total(self) -> int:
        return self.replicas + self.max_surge

    @classmethod
    def of(cls, deployment: Mapping[str, Any]) -> Bounds:
        """Read a Deployment's spec; both bounds at zero would never move, so one pod may then be unavailable."""
        spec = deployment["spec"]
        replicas = wanted(deployment)
        strategy = spec.get("strategy") or {}
        if strategy.get("type") == "Recreate":
            return cls(replicas, 0, replicas)
        rolling = strategy.get("rollingUpdate") or {}
        surge = scaled(rolling.get("maxSurge", "25%"), replicas, round_up=True)
        unavailable = scaled(rolling.get("maxUnavailable", "25%"), replicas, round_up=False)
        if surge == 0 and unavailable == 0:
            unavailable = 1
        return cls(replicas, surge, min(unavailable, replicas))


def wanted(obj: Mapping[str, Any]) -> int:
    """`spec.replicas`, 1 when it is not given."""
    value = obj["spec"].get("replicas")
    return 1 if value is None else int(value)


def available(obj: Mapping[str, Any]) -> int:
    return int((obj.get("status") or {}).get("availableReplicas") or 0)


def existing(obj: Mapping[str, Any]) -> int:
    """Pods that there are, whatever is wanted."""
    return int((obj.get("status") or {}).get("replicas") or 0)


def next_new_size(bounds: Bounds, new: Mapping[str, Any], sets: Iterable[Mapping[str, Any]]) -> int:
    """How many replicas the new set may have now, `sets` being all of them."""
    size = wanted(new)
    if size >= bounds.replicas:
        return bounds.replicas
    room = bounds.max_total - sum(wanted(each) for each in sets)
    return size + max(0, min(room, bounds.replicas - size))


def next_old_sizes(bounds: Bounds, new: Mapping[str, Any], old: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """New sizes, by name, of the old sets that are to shrink: unhealthy replicas first, then as availability allows."""
    sizes = {each["metadata"]["name"]: wanted(each) for each in old}
    total = wanted(new) + sum(sizes.values())
    spare = total - bounds.min_available - (wanted(new) - available(new))
    changed: dict[str, int] = {}
    for each in old:
        name = each["metadata"]["name"]
        cut = min(max(spare, 0), max(0, sizes[name] - available(each)))
        if cut:
            sizes[name] = changed[name] = sizes[name] - cut
            spare -= cut
    healthy_spare = available(new) + sum(available(each) for each in old) - bounds.min_available
    for each in old:
        name = each["metadata"]["name"]
        cut = min(max(healthy_spare, 0), sizes[name])
        if cut:
            sizes[name] = changed[name] = sizes[name] - cut
            healthy_spare -= cut
    return changed


def is_complete(deployment: Mapping[str, Any], status: Mapping[str, Any]) -> bool:
    """Whether every replica is of the new template and available, and no other is left."""
    replicas = wanted(deployment)
    return bool(
        status.get("updatedReplicas", 0) == replicas
        and status.get("replicas", 0) == replicas
        and status.get("availableReplicas", 0) == replicas
    )
