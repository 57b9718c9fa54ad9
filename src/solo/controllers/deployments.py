"""Deployments: a ReplicaSet for each version of the pod template, and the way from the old one to the new one.

Follows kube-controller-manager's `pkg/controller/deployment`; the arithmetic is in `rollout` and `scaling`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from kube.client.aio import AsyncClient
from kube.client.events import EventRecorder
from kube.client.queue import WorkQueue
from kube.machinery.durations import now_rfc3339, parse_rfc3339
from kube.machinery.errors import StatusError
from kube.machinery.resources import DEPLOYMENTS, PODS, REPLICASETS
from solo.controllers import rollout, scaling
from solo.controllers.ownership import Place, claim, controller_of, controller_reference
from solo.controllers.pods import is_active, place_of, update_status
from solo.controllers.watches import Obj, Watches

logger = logging.getLogger(__name__)


class DeploymentController:
    """Takes (namespace, name) of Deployments."""

    def __init__(self, client: AsyncClient, watches: Watches, queue: WorkQueue[Place]) -> None:
        self._client = client
        self._queue = queue
        self._events = EventRecorder(client, "deployment-controller")
        watches.subscribe(DEPLOYMENTS, lambda kind, obj, old: self._queue.add(place_of(obj)))
        watches.subscribe(REPLICASETS, self._on_replica_set)
        watches.subscribe(PODS, self._on_pod)

    def _on_replica_set(self, kind: str, obj: Obj, old: Obj | None) -> None:
        reference = controller_of(obj)
        if reference is not None and reference.get("kind") == DEPLOYMENTS.kind:
            self._queue.add((obj["metadata"]["namespace"], reference["name"]))

    def _on_pod(self, kind: str, pod: Obj, old: Obj | None) -> None:
        """A pod that is really gone lets a Recreate go on."""
        reference = controller_of(pod)
        if kind == "DELETED" and reference is not None and reference.get("kind") == REPLICASETS.kind:
            labels = pod["metadata"].get("labels") or {}
            suffix = "-" + labels.get(rollout.HASH_LABEL, "")
            if len(suffix) > 1 and reference["name"].endswith(suffix):
                self._queue.add((pod["metadata"]["namespace"], reference["name"].removesuffix(suffix)))

    async def reconcile(self, place: Place) -> float | None:
        """One step of one Deployment's rollout, and its status."""
        namespace, name = place
        try:
            deployment = await self._client.get(DEPLOYMENTS, name, namespace)
        except StatusError as exc:
            if exc.code == 404:
                return None
            raise
        sets = await claim(self._client, deployment, DEPLOYMENTS, REPLICASETS)
        new = _newest_match(sets, deployment)
        old = [each for each in sets if each is not new]
        if not deployment["metadata"].get("deletionTimestamp"):
            if deployment["spec"].get("paused") or scaling.is_scaled(deployment, sets):
                await self._share_replicas(deployment, new, old)
            else:
                new = await self._ensure_new(deployment, new, old)
                if new is None:
                    return 0.0
                await self._advance(deployment, new, old)
                await self._forget_history(deployment, old)
        return await self._report(deployment, new, old)

    # ---- the new set

    async def _ensure_new(self, deployment: Obj, new: Obj | None, old: Sequence[Obj]) -> Obj | None:
        """The set of the current template, made or brought up to date; None after a clash of names."""
        newest = max((rollout.revision(each) for each in old), default=0)
        if new is None:
            new = await self._create_new(deployment, newest + 1, old)
            if new is None:
                return None
        number = max(newest + 1, rollout.revision(new))
        revision = str(number)
        annotations = {**_annotations(deployment, revision), **rollout.past_revisions(new, number)}
        present = new["metadata"].get("annotations") or {}
        if not annotations.items() <= present.items():
            patch = {"metadata": {"annotations": annotations}}
            meta = new["metadata"]
            new.update(await self._client.patch(REPLICASETS, meta["name"], patch, meta["namespace"]))
        await self._set_revision(deployment, revision)
        return new

    async def _create_new(self, deployment: Obj, revision: int, old: Sequence[Obj]) -> Obj | None:
        meta, spec = deployment["metadata"], deployment["spec"]
        collisions = int((deployment.get("status") or {}).get("collisionCount") or 0)
        template = spec["template"]
        digest = rollout.template_hash(template, collisions)
        template_meta = template.get("metadata") or {}
        labels = {**(template_meta.get("labels") or {}), rollout.HASH_LABEL: digest}
        bounds = rollout.Bounds.of(deployment)
        body: Obj = {
            "apiVersion": REPLICASETS.api_version,
            "kind": REPLICASETS.kind,
            "metadata": {
                "name": f"{meta['name']}-{digest}",
                "namespace": meta["namespace"],
                "labels": labels,
                "annotations": {
                    **_annotations(deployment, str(revision)),
                    **scaling.replicas_annotations(deployment),
                },
                "ownerReferences": [controller_reference(deployment, DEPLOYMENTS)],
            },
            "spec": {
                "replicas": 0,
                "minReadySeconds": int(spec.get("minReadySeconds") or 0),
                "selector": _with_hash(spec["selector"], digest),
                "template": {**template, "metadata": {**template_meta, "labels": labels}},
            },
        }
        empty = {"metadata": {"name": ""}, "spec": {"replicas": 0}}
        if _strategy(deployment) != "Recreate":
            body["spec"]["replicas"] = rollout.next_new_size(bounds, empty, old)
        elif not any(rollout.wanted(each) or rollout.existing(each) for each in old):
            body["spec"]["replicas"] = bounds.replicas
        try:
            created = await self._client.create(REPLICASETS, body)
        except StatusError as exc:
            if exc.reason != "AlreadyExists":
                raise
            # Another template has this hash: count the clash and take another name.
            status = {**(deployment.get("status") or {}), "collisionCount": collisions + 1}
            await update_status(self._client, deployment, status, DEPLOYMENTS)
            return None
        if body["spec"]["replicas"]:
            await self._say_scaled(deployment, created, 0, body["spec"]["replicas"])
        return created

    async def _set_revision(self, deployment: Obj, revision: str) -> None:
        meta = deployment["metadata"]
        if (meta.get("annotations") or {}).get(rollout.REVISION) != revision:
            patch = {"metadata": {"annotations": {rollout.REVISION: revision}}}
            # Through the status, as an annotation that is written by other ways makes a new generation.
            written = await self._client.patch(
                DEPLOYMENTS, meta["name"], patch, meta["namespace"], subresource="status"
            )
            deployment.update(written)

    # ---- sizes

    async def _advance(self, deployment: Obj, new: Obj, old: Sequence[Obj]) -> None:
        bounds = rollout.Bounds.of(deployment)
        if _strategy(deployment) == "Recreate":
            for each in old:
                await self._scale(deployment, each, 0)
            if not await self._has_pods(deployment, old):
                await self._scale(deployment, new, bounds.replicas)
            return
        size = rollout.next_new_size(bounds, new, [new, *old])
        if size != rollout.wanted(new):
            await self._scale(deployment, new, size)
        else:
            for name, smaller in rollout.next_old_sizes(bounds, new, old).items():
                await self._scale(deployment, next(each for each in old if each["metadata"]["name"] == name), smaller)

    async def _has_pods(self, deployment: Obj, sets: Sequence[Obj]) -> bool:
        """Whether a pod of these sets still runs (one that is ending does)."""
        uids = {each["metadata"]["uid"] for each in sets}
        if not uids:
            return False
        for pod in (await self._client.list(PODS, deployment["metadata"]["namespace"]))["items"]:
            reference = controller_of(pod)
            if reference is not None and reference.get("uid") in uids:
                ending = pod["metadata"].get("deletionTimestamp")
                if is_active(pod) or (ending and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")):
                    return True
        return False

    async def _share_replicas(self, deployment: Obj, new: Obj | None, old: Sequence[Obj]) -> None:
        """Follow `spec.replicas`; a rollout that is under way does not go on in this step, a paused one not at all."""
        sets = {each["metadata"]["name"]: each for each in [*old, *([] if new is None else [new])]}
        for name, size in scaling.sizes(deployment, new, old).items():
            await self._scale(deployment, sets[name], size)

    async def _scale(self, deployment: Obj, replica_set: Obj, replicas: int) -> None:
        before = rollout.wanted(replica_set)
        annotations = scaling.replicas_annotations(deployment)
        meta = replica_set["metadata"]
        if before == replicas and annotations.items() <= (meta.get("annotations") or {}).items():
            return
        patch = {"metadata": {"annotations": annotations}, "spec": {"replicas": replicas}}
        replica_set.update(await self._client.patch(REPLICASETS, meta["name"], patch, meta["namespace"]))
        if before != replicas:
            await self._say_scaled(deployment, replica_set, before, replicas)

    async def _say_scaled(self, deployment: Obj, replica_set: Obj, before: int, after: int) -> None:
        direction = "up" if after > before else "down"
        text = f"Scaled {direction} replica set {replica_set['metadata']['name']} from {before} to {after}"
        await self._events.event(deployment, "Normal", "ScalingReplicaSet", text)

    async def _forget_history(self, deployment: Obj, old: Sequence[Obj]) -> None:
        limit = deployment["spec"].get("revisionHistoryLimit")
        keep = rollout.DEFAULT_HISTORY_LIMIT if limit is None else int(limit)
        idle = [
            each
            for each in sorted(old, key=rollout.revision)
            if not rollout.wanted(each) and not rollout.existing(each) and not each["metadata"].get("deletionTimestamp")
        ]
        for each in idle[: max(0, len(idle) - keep)]:
            meta = each["metadata"]
            try:
                await self._client.delete(REPLICASETS, meta["name"], meta["namespace"], uid=meta["uid"])
            except StatusError as exc:
                if exc.code not in (404, 409):
                    raise

    # ---- status

    async def _report(self, deployment: Obj, new: Obj | None, old: Sequence[Obj]) -> float | None:
        """Write the status if it changed; returns the seconds until the progress deadline, if one runs."""
        before = deployment.get("status") or {}
        sets = [*old, new] if new is not None else list(old)
        available = sum(rollout.available(each) for each in sets)
        status: Obj = {
            "observedGeneration": deployment["metadata"].get("generation", 0),
            "replicas": sum(rollout.existing(each) for each in sets),
            "updatedReplicas": rollout.existing(new) if new is not None else 0,
            "readyReplicas": sum(int((each.get("status") or {}).get("readyReplicas") or 0) for each in sets),
            "availableReplicas": available,
            "unavailableReplicas": max(0, max(rollout.wanted(deployment), _total(sets)) - available),
        }
        status = {key: value for key, value in status.items() if value or key == "observedGeneration"}
        if before.get("collisionCount"):
            status["collisionCount"] = before["collisionCount"]
        conditions = [dict(each) for each in before.get("conditions") or ()]
        _set_condition(conditions, *_availability(deployment, available))
        again = _set_progress(conditions, deployment, before, status, new)
        failures = [
            condition
            for condition in ((new or {}).get("status") or {}).get("conditions") or ()
            if condition.get("type") == "ReplicaFailure"
        ]
        status["conditions"] = [each for each in conditions if each["type"] != "ReplicaFailure"] + failures
        if status != before:
            await update_status(self._client, deployment, status, DEPLOYMENTS)
        return again


def _newest_match(sets: Sequence[Obj], deployment: Obj) -> Obj | None:
    """The set of the current template; of several the oldest, as Kubernetes picks it."""
    template = deployment["spec"]["template"]
    matching = [each for each in sets if rollout.same_template(each, template)]
    matching.sort(key=lambda each: (each["metadata"].get("creationTimestamp", ""), each["metadata"]["name"]))
    return matching[0] if matching else None


def _strategy(deployment: Mapping[str, Any]) -> str:
    return str((deployment["spec"].get("strategy") or {}).get("type") or "RollingUpdate")


def _annotations(deployment: Mapping[str, Any], revision: str) -> dict[str, str]:
    """The annotations of a ReplicaSet: the Deployment's own (`kubectl rollout history` reads them) and the revision."""
    own = deployment["metadata"].get("annotations") or {}
    copied = {key: value for key, value in own.items() if key not in rollout.NOT_COPIED}
    return {**copied, rollout.REVISION: revision}


def _with_hash(selector: Mapping[str, Any], digest: str) -> Obj:
    return {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), rollout.HASH_LABEL: digest}}


def _total(sets: Sequence[Mapping[str, Any]]) -> int:
    return sum(rollout.wanted(each) for each in sets)


def _availability(deployment: Obj, available: int) -> tuple[str, str, str, str]:
    if available >= rollout.Bounds.of(deployment).min_available:
        return "Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability."
    return "Available", "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability."


def _set_progress(
    conditions: list[Obj], deployment: Obj, before: Mapping[str, Any], status: Obj, new: Obj | None
) -> float | None:
    """Set the Progressing condition; returns the seconds until its deadline passes."""
    if new is None or deployment["spec"].get("paused"):
        if deployment["spec"].get("paused"):
            _set_condition(conditions, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused")
        return None
    name = new["metadata"]["name"]
    if rollout.is_complete(deployment, status):
        text = f'ReplicaSet "{name}" has successfully progressed.'
        _set_condition(conditions, "Progressing", "True", "NewReplicaSetAvailable", text)
        return None
    counted = ("updatedReplicas", "readyReplicas", "availableReplicas")
    moved = any(status.get(key, 0) > before.get(key, 0) for key in counted)
    moved |= status["observedGeneration"] != before.get("observedGeneration")
    current = next((each for each in conditions if each["type"] == "Progressing"), None)
    if moved or current is None or current["reason"] == "DeploymentPaused":
        text = f'ReplicaSet "{name}" is progressing.'
        _set_condition(conditions, "Progressing", "True", "ReplicaSetUpdated", text, touch=True)
        current = next(each for each in conditions if each["type"] == "Progressing")
    elif current["reason"] == "NewReplicaSetAvailable":
        return None  # it was complete before: losing a replica is no new rollout
    deadline = int(deployment["spec"].get("progressDeadlineSeconds") or rollout.DEFAULT_PROGRESS_DEADLINE_SECONDS)
    waited = (datetime.now(UTC) - parse_rfc3339(current["lastUpdateTime"])).total_seconds()
    if waited < deadline:
        return deadline - waited + 0.5
    text = f'ReplicaSet "{name}" has timed out progressing.'
    _set_condition(conditions, "Progressing", "False", "ProgressDeadlineExceeded", text)
    return None


def _set_condition(
    conditions: list[Obj], type_: str, status: str, reason: str, message: str, *, touch: bool = False
) -> None:
    """Set one condition in place; `touch` renews lastUpdateTime though nothing else changed."""
    now = now_rfc3339()
    wanted = {"type": type_, "status": status, "reason": reason, "message": message}
    for condition in conditions:
        if condition["type"] == type_:
            if condition.get("status") != status:
                condition["lastTransitionTime"] = now
            if touch or not wanted.items() <= condition.items():
                condition.update(wanted, lastUpdateTime=now)
            return
    conditions.append({**wanted, "lastUpdateTime": now, "lastTransitionTime": now})
