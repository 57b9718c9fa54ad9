"""StatefulSets: pods with names of their own, made and replaced in order (`pkg/controller/statefulset`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from kube.client.aio import AsyncClient
from kube.client.events import EventRecorder
from kube.client.queue import WorkQueue
from kube.machinery.errors import StatusError
from kube.machinery.resources import PERSISTENTVOLUMECLAIMS, PODS, STATEFULSETS
from solo.controllers.ownership import Place, adding_owner, claim
from solo.controllers.pods import (
    create_pod,
    delete_pod,
    host_name,
    is_active,
    place_of,
    pod_of,
    read,
    ready_seconds,
    update_status,
)
from solo.controllers.revisions import HASH_LABEL, History
from solo.controllers.rollout import wanted
from solo.controllers.watches import Obj, Watches

NAME_LABEL = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL = "apps.kubernetes.io/pod-index"


@dataclass(frozen=True)
class _Pass:
    """What one pass knows: the set, its pods by ordinal, and the names of the revisions old and new."""

    owner: Obj
    pods: dict[int, Obj]
    old: str
    new: str
    now: datetime

    @property
    def ordinals(self) -> range:
        start = int((self.owner["spec"].get("ordinals") or {}).get("start") or 0)
        return range(start, start + wanted(self.owner))

    @property
    def in_order(self) -> bool:
        return bool(self.owner["spec"].get("podManagementPolicy", "OrderedReady") == "OrderedReady")

    def available(self, pod: Obj) -> bool:
        age = ready_seconds(pod, self.now) if is_active(pod) else None
        return age is not None and age >= int(self.owner["spec"].get("minReadySeconds") or 0)

    def revision_for(self, ordinal: int) -> str:
        """A pod below the partition stays with the old revision."""
        strategy = self.owner["spec"].get("updateStrategy") or {}
        partition = int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
        rolling = strategy.get("type", "RollingUpdate") == "RollingUpdate"
        return self.old if rolling and ordinal - self.ordinals.start < partition else self.new


class StatefulSetController:
    """Takes (namespace, name) of StatefulSets."""

    def __init__(self, client: AsyncClient, watches: Watches, queue: WorkQueue[Place]) -> None:
        self._client = client
        self._queue = queue
        self._events = EventRecorder(client, "statefulset-controller")
        watches.subscribe(STATEFULSETS, lambda kind, obj, old: self._queue.add(place_of(obj)))
        watches.subscribe(PODS, adding_owner(queue, STATEFULSETS))

    async def reconcile(self, place: Place) -> float | None:
        """Take one set a step further: make, replace or remove what its order allows now."""
        owner = await read(self._client, STATEFULSETS, place)
        if owner is None or owner["metadata"].get("deletionTimestamp"):
            return None
        found = await claim(self._client, owner, STATEFULSETS, PODS)
        pods = {ordinal: pod for pod in found if (ordinal := _ordinal(owner, pod)) is not None}
        history = await History.read(self._client, owner, STATEFULSETS)
        new = str((await history.current())["metadata"]["name"])
        old = str((owner.get("status") or {}).get("currentRevision") or "")
        current = _Pass(owner, pods, old if history.find(old) else new, new, datetime.now(UTC))
        failure = await self._step(current, history)
        await history.trim({_label(pod) for pod in pods.values()} | {current.old})
        again = await self._report(current)
        if failure is not None:
            raise failure
        return again

    async def _step(self, current: _Pass, history: History) -> StatusError | None:
        for ordinal in current.ordinals:
            pod = current.pods.get(ordinal)
            if pod is not None and not is_active(pod) and not pod["metadata"].get("deletionTimestamp"):
                await delete_pod(self._client, self._events, current.owner, pod)
                return None
            if pod is None:
                made = await self._create(current, ordinal, history)
                if isinstance(made, StatusError):
                    return made
                pod = current.pods[ordinal] = made
            if current.in_order and not current.available(pod):
                return None
        surplus = sorted((each for each in current.pods if each not in current.ordinals), reverse=True)
        if surplus:
            await self._remove(current, surplus[:1] if current.in_order else surplus)
            return None
        await self._roll(current)
        return None

    async def _remove(self, current: _Pass, ordinals: Iterable[int]) -> None:
        for ordinal in ordinals:
            pod = current.pods[ordinal]
            if not pod["metadata"].get("deletionTimestamp"):
                await delete_pod(self._client, self._events, current.owner, pod)

    async def _roll(self, current: _Pass) -> None:
        """Replace one pod that is not of its revision, the highest first; the others have to be available."""
        if (current.owner["spec"].get("updateStrategy") or {}).get("type") == "OnDelete":
            return
        for ordinal in reversed(current.ordinals):
            pod = current.pods[ordinal]
            if pod["metadata"].get("deletionTimestamp"):
                return
            if _label(pod) != current.revision_for(ordinal):
                await delete_pod(self._client, self._events, current.owner, pod)
                return
            if not current.available(pod):
                return

    async def _create(self, current: _Pass, ordinal: int, history: History) -> Obj | StatusError:
        owner = current.owner
        name = f"{owner['metadata']['name']}-{ordinal}"
        label = current.revision_for(ordinal)
        revision = history.find(label)
        template = revision["data"]["spec"]["template"] if revision is not None else owner["spec"]["template"]
        pod = pod_of(owner, STATEFULSETS, template)
        meta = pod["metadata"]
        meta["name"] = name
        del meta["generateName"]
        own = {NAME_LABEL: name, INDEX_LABEL: str(ordinal), HASH_LABEL: label}
        meta["labels"] = {**(meta.get("labels") or {}), **own}
        spec = {**pod["spec"], **host_name(name)}
        if owner["spec"].get("serviceName"):
            spec["subdomain"] = owner["spec"]["serviceName"]
        volumes = list(spec.get("volumes") or [])
        for claim_template in owner["spec"].get("volumeClaimTemplates") or ():
            claimed = await self._claim(owner, claim_template, name)
            volume = claim_template["metadata"]["name"]
            volumes = [each for each in volumes if each.get("name") != volume]
            volumes.append({"name": volume, "persistentVolumeClaim": {"claimName": claimed}})
        if volumes:
            spec["volumes"] = volumes
        return await create_pod(self._client, self._events, owner, {**pod, "spec": spec})

    async def _claim(self, owner: Obj, template: Obj, pod_name: str) -> str:
        """The claim of one pod for one template; claims outlive their pods."""
        name = f"{template['metadata']['name']}-{pod_name}"
        labels = (owner["spec"]["selector"] or {}).get("matchLabels") or {}
        meta = {**template["metadata"], "name": name, "namespace": owner["metadata"]["namespace"]}
        meta["labels"] = {**(meta.get("labels") or {}), **labels}
        body: Obj = {"apiVersion": "v1", "kind": PERSISTENTVOLUMECLAIMS.kind, "metadata": meta}
        try:
            await self._client.create(PERSISTENTVOLUMECLAIMS, {**body, "spec": template["spec"]})
        except StatusError as exc:
            if exc.reason != "AlreadyExists":
                raise
        return name

    async def _report(self, current: _Pass) -> float | None:
        owner, pods = current.owner, [pod for pod in current.pods.values() if is_active(pod)]
        before = owner.get("status") or {}
        ages = [age for age in (ready_seconds(pod, current.now) for pod in pods) if age is not None]
        updated = sum(_label(pod) == current.new for pod in pods)
        done = updated == len(pods) == len(current.ordinals) == sum(current.available(pod) for pod in pods)
        old = current.new if done else current.old
        status: Obj = {
            "observedGeneration": owner["metadata"].get("generation", 0),
            "replicas": len(pods),
            "availableReplicas": sum(current.available(pod) for pod in pods),
            "currentRevision": old,
            "updateRevision": current.new,
            "collisionCount": int(before.get("collisionCount") or 0),
        }
        optional = {
            "readyReplicas": len(ages),
            "currentReplicas": sum(_label(pod) == old for pod in pods),
            "updatedReplicas": updated,
        }
        status.update({key: value for key, value in optional.items() if value})
        if "conditions" in before:
            status["conditions"] = before["conditions"]
        if status != before:
            await update_status(self._client, owner, status, STATEFULSETS)
        minimum = int(owner["spec"].get("minReadySeconds") or 0)
        waiting = [minimum - age for age in ages if age < minimum]
        return min(waiting) if waiting else None


def _ordinal(owner: Obj, pod: Obj) -> int | None:
    base, _, number = str(pod["metadata"]["name"]).rpartition("-")
    return int(number) if base == owner["metadata"]["name"] and number.isdecimal() else None


def _label(pod: Obj) -> str:
    return str((pod["metadata"].get("labels") or {}).get(HASH_LABEL) or "")
