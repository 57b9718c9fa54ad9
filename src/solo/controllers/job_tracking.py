"""Which ended pods of a Job are in the counters of its status: each is counted once, although pods come and go.

Kubernetes holds a pod back with a finalizer until it is counted. Here the pod is marked with an annotation of that
name, which holds up nobody who deletes it. Counting takes three steps, any of which may be done again after a crash:
the uids of the ended pods are noted in `status.uncountedTerminatedPods`, their marks are taken off, and the counters go
up by what is noted. A pod without a mark has been counted, or is not to be.
Source: kube-controller-manager's `pkg/controller/job` (job_controller.go, backoff_utils.go).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from solo.controllers.job_indexes import Ending, ending_of
from solo.controllers.ownership import Place

Obj = dict[str, Any]

TRACKING = "batch.kubernetes.io/job-tracking"


def is_tracked(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is to be counted when it ends."""
    return TRACKING in (pod["metadata"].get("annotations") or {})


class Tally:
    """The counters `succeeded` and `failed` of a Job's status with the uids that are to be added to them."""

    def __init__(self, before: Mapping[str, Any]) -> None:
        self._before = before
        self._noted = {key: list(uids) for key, uids in (before.get("uncountedTerminatedPods") or {}).items()}

    def add(self, key: str, pods: Iterable[Obj]) -> None:
        """Note those pods that are to be counted and are not noted yet."""
        known = {uid for uids in self._noted.values() for uid in uids}
        uids = [pod["metadata"]["uid"] for pod in pods if is_tracked(pod)]
        if new := [uid for uid in uids if uid not in known]:
            self._noted.setdefault(key, []).extend(new)

    def total(self, key: str) -> int:
        return int(self._before.get(key) or 0) + len(self._noted.get(key, ()))

    @property
    def noted(self) -> Obj:
        """As `status.uncountedTerminatedPods`."""
        return dict(self._noted)


class Endings:
    """When the pods of Jobs ended, remembered beyond the pods themselves.

    After a restart there is what the pods tell; Kubernetes has it in memory, too.
    """

    def __init__(self) -> None:
        self._known: dict[Place, tuple[str, dict[str, Ending]]] = {}

    def learn(self, place: Place, job: Obj, pods: Iterable[Obj]) -> list[Ending]:
        """Take in what has ended by now; returns what is known of the Job since its last success."""
        job_uid = job["metadata"]["uid"]
        uid, known = self._known.get(place, (job_uid, {}))
        if uid != job_uid:
            known = {}
        for pod in pods:
            ending = ending_of(pod)
            # What the controller stops has failed for no fault of its own.
            if ending is not None and (is_tracked(pod) or not pod["metadata"].get("deletionTimestamp")):
                known[pod["metadata"]["uid"]] = ending
        success = max((each.moment for each in known.values() if each.success), default=None)
        known = {uid: each for uid, each in known.items() if success is None or each.moment >= success}
        self._known[place] = job_uid, known
        return list(known.values())

    def forget(self, place: Place) -> None:
        self._known.pop(place, None)
