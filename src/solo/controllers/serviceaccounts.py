"""What every namespace starts with: the service account `default` and the CA that clients in it check the server by."""

from __future__ import annotations

from functools import partial

from kube.client.aio import AsyncClient
from kube.client.queue import WorkQueue
from kube.machinery.errors import StatusError
from kube.machinery.resources import CONFIGMAPS, NAMESPACES, SERVICEACCOUNTS
from solo.controllers.watches import Obj, Watches

ACCOUNT = "default"
ROOT_CA = "kube-root-ca.crt"
_DESCRIPTION = {
    "kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using "
    "internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed "
    "across distributions of Kubernetes clusters."
}


class ServiceAccountController:
    """Takes the names of namespaces."""

    def __init__(self, client: AsyncClient, watches: Watches, queue: WorkQueue[str]) -> None:
        self._client = client
        self._queue = queue
        self._ca = (client.config.ca_data or b"").decode()
        watches.subscribe(NAMESPACES, lambda kind, obj, old: self._queue.add(obj["metadata"]["name"]))
        for resource, name in ((SERVICEACCOUNTS, ACCOUNT), (CONFIGMAPS, ROOT_CA)):
            watches.notice(resource, partial(self._on_object, name))

    def _on_object(self, name: str, kind: str, obj: Obj, old: Obj | None) -> None:
        """One of ours was changed or deleted."""
        if obj["metadata"]["name"] == name and kind != "ADDED":
            self._queue.add(obj["metadata"]["namespace"])

    async def reconcile(self, namespace: str) -> float | None:
        """Make what is missing in one namespace."""
        try:
            found = await self._client.get(NAMESPACES, namespace)
        except StatusError as exc:
            if exc.code == 404:
                return None
            raise
        if found["metadata"].get("deletionTimestamp"):
            return None
        account: Obj = {
            "apiVersion": "v1",
            "kind": SERVICEACCOUNTS.kind,
            "metadata": {"name": ACCOUNT, "namespace": namespace},
        }
        try:
            await self._client.create(SERVICEACCOUNTS, account)
        except StatusError as exc:
            _expect_there(exc)
        await self._ensure_root_ca(namespace)
        return None

    async def _ensure_root_ca(self, namespace: str) -> None:
        data = {"ca.crt": self._ca}
        meta = {"name": ROOT_CA, "namespace": namespace, "annotations": _DESCRIPTION}
        body: Obj = {"apiVersion": "v1", "kind": CONFIGMAPS.kind, "metadata": meta, "data": data}
        try:
            await self._client.create(CONFIGMAPS, body)
            return
        except StatusError as exc:
            _expect_there(exc)
        present = await self._client.get(CONFIGMAPS, ROOT_CA, namespace)
        if present.get("data") != data:
            await self._client.patch(CONFIGMAPS, ROOT_CA, {"data": data}, namespace)


def _expect_there(exc: StatusError) -> None:
    """Someone was first, or the namespace has begun to end: both are fine. Anything else is raised."""
    if exc.reason != "AlreadyExists" and not (exc.code == 403 and "being terminated" in exc.message):
        raise exc
