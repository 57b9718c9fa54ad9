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

from solo.controllers.job_indexes import ending_of
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


def is_stopped(pod: Mapping[str, Any]) -> bool:
    """Whether the controller has stopped a pod: if it fails of that, it is no fault of its own."""
    return bool(pod["metadata"].get("deletionTimestamp")) and not is_tracked(pod)


class Ended:
    """The pods of Jobs that have ended, remembered when they are deleted, for the time to wait after failures.

    After a restart there is what is left of them; Kubernetes has the times in memory, too.
    """

    def __init__(self) -> None:
        self._known: dict[Place, tuple[str, dict[str, Obj]]] = {}

    def learn(self, place: Place, job: Obj, pods: Iterable[Obj]) -> list[Obj]:
        """Take in what has ended by now; returns what is known of the Job, as far as it still matters."""
        job_uid = job["metadata"]["uid"]
        uid, known = self._known.get(place, (job_uid, {}))
        new = {pod["metadata"]["uid"]: pod for pod in pods if ending_of(pod) is not None and not is_stopped(pod)}
        known = _that_matter(job, {**known, **new} if uid == job_uid else new)
        self._known[place] = job_uid, known
        return list(known.values())

    def forget(self, place: Place) -> None:
        self._known.pop(place, None)


def _that_matter(job: Obj, ended: Mapping[str, Obj]) -> dict[str, Obj]:
    """A success makes up for the failures before it, unless each index has its own."""
    endings = {uid: ending for uid, pod in ended.items() if (ending := ending_of(pod)) is not None}
    if job["spec"].get("backoffLimitPerIndex") is not None:
        return {uid: ended[uid] for uid, ending in endings.items() if not ending.success}
    success = max((ending.moment for ending in endings.values() if ending.success), default=None)
    return {uid: ended[uid] for uid, ending in endings.items() if success is None or ending.moment >= success}
