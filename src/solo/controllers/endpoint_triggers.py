"""When what a Service's endpoints depend on last changed (`k8s.io/endpointslice/util`, TriggerTimeTracker).

Written as an annotation, it tells what follows EndpointSlices how old the news is. It is not exact: of several changes
between two looks the first counts, and of a Service that is new to us its making.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from solo.controllers.ownership import Place
from solo.controllers.pods import place_of
from solo.controllers.watches import Obj

TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"


class TriggerTimes:
    """What was seen of each Service and its pods at the last look. Times are texts of RFC 3339, in UTC."""

    def __init__(self) -> None:
        self._seen: dict[Place, tuple[str, dict[str, str]]] = {}

    def look(self, service: Obj, pods: Iterable[Obj]) -> str:
        """The earliest change since the last look, "" for none."""
        made = str(service["metadata"].get("creationTimestamp") or "")
        times = {pod["metadata"]["name"]: since for pod in pods if (since := _ready_since(pod))}
        before = self._seen.get(place_of(service))
        self._seen[place_of(service)] = made, times
        if before is None:
            return made
        changed = [since for name, since in times.items() if since > before[1].get(name, "")]
        if made > before[0]:
            changed.append(made)
        return min(changed, default="")

    def forget(self, place: Place) -> None:
        """The Service is gone."""
        self._seen.pop(place, None)


def annotated(annotations: Mapping[str, str] | None, trigger: str) -> dict[str, str]:
    """Annotations with the time of a change, without one if it is not known."""
    kept = {key: value for key, value in (annotations or {}).items() if key != TRIGGER_TIME}
    return {**kept, TRIGGER_TIME: trigger} if trigger else kept


def _ready_since(pod: Obj) -> str:
    """When a pod became ready, or ceased to be."""
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Ready":
            return str(condition.get("lastTransitionTime") or "")
    return ""
