"""Endpoints and EndpointSlices: where a Service is served (kube-controller-manager's endpoint, endpointslice and
endpointslicemirroring controllers).

A Service with a selector has them from its pods; one without has EndpointSlices from the Endpoints of its name, which
somebody else writes. `endpoint_rules` says what they hold; here they are made so.
"""

from __future__ import annotations

from kube.client.aio import AsyncClient
from kube.client.queue import WorkQueue
from kube.machinery.errors import StatusError
from kube.machinery.resources import ENDPOINTS, ENDPOINTSLICES, PODS, SERVICES, Resource
from kube.machinery.selectors import label_selector_from_dict
from solo.controllers import endpoint_rules as rules
from solo.controllers.endpoint_triggers import TriggerTimes, annotated
from solo.controllers.ownership import Place
from solo.controllers.pods import place_of, read
from solo.controllers.watches import Obj, Watches


class EndpointsController:
    """Takes (namespace, name) of Services."""

    def __init__(self, client: AsyncClient, watches: Watches, queue: WorkQueue[Place]) -> None:
        self._client = client
        self._queue = queue
        self._selectors: dict[str, dict[str, dict[str, str]]] = {}
        self._gone: set[Place] = set()
        self._triggers = TriggerTimes()
        watches.subscribe(SERVICES, self._on_service)
        watches.subscribe(PODS, self._on_pod)
        watches.subscribe(ENDPOINTS, self._on_endpoints)
        watches.subscribe(ENDPOINTSLICES, self._on_slice)

    def _on_service(self, kind: str, service: Obj, old: Obj | None) -> None:
        namespace, name = place_of(service)
        known = self._selectors.setdefault(namespace, {})
        known.pop(name, None)
        selector = service["spec"].get("selector")
        if kind == "DELETED":
            self._gone.add((namespace, name))
        elif selector:
            known[name] = selector
        if not known:
            del self._selectors[namespace]
        self._queue.add((namespace, name))

    def _on_pod(self, kind: str, pod: Obj, old: Obj | None) -> None:
        namespace = pod["metadata"]["namespace"]
        if namespace not in self._selectors:
            return
        if kind == "MODIFIED" and old is not None and rules.pod_facts(pod) == rules.pod_facts(old):
            return
        versions = [(version["metadata"].get("labels") or {}).items() for version in (pod, old) if version is not None]
        for name, selector in self._selectors[namespace].items():
            if any(selector.items() <= labels for labels in versions):
                self._queue.add((namespace, name))

    def _on_endpoints(self, kind: str, endpoints: Obj, old: Obj | None) -> None:
        namespace, name = place_of(endpoints)
        ours = rules.is_ours(endpoints)
        # Endpoints of ours are looked at when somebody else touched them, and at the start: their Service may be gone.
        if not ours or kind != "MODIFIED" or name not in self._selectors.get(namespace, {}):
            self._queue.add((namespace, name))

    def _on_slice(self, kind: str, slice_: Obj, old: Obj | None) -> None:
        labels = slice_["metadata"].get("labels") or {}
        if kind != "ADDED" and labels.get(rules.MANAGED_BY) in rules.MANAGERS and labels.get(rules.SERVICE_NAME):
            self._queue.add((slice_["metadata"]["namespace"], labels[rules.SERVICE_NAME]))

    async def reconcile(self, place: Place) -> float | None:
        """Make the Endpoints and EndpointSlices of one Service what they should be."""
        service = await read(self._client, SERVICES, place)
        endpoints = await read(self._client, ENDPOINTS, place)
        try:
            if service is None:
                self._triggers.forget(place)
                await self._forget(place, endpoints)
            elif service["spec"].get("selector") and service["spec"]["type"] != "ExternalName":
                selector = label_selector_from_dict({"matchLabels": service["spec"]["selector"]})
                pods = (await self._client.list(PODS, place[0], label_selector=str(selector)))["items"]
                trigger = self._triggers.look(service, pods)
                await self._write_endpoints(service, endpoints, rules.subsets(service, pods), trigger)
                await self._write_slices(place, rules.slices(service, pods), trigger)
            else:
                await self._write_slices(place, rules.mirrored(service, endpoints), "")
        except StatusError as exc:
            if not (exc.code == 403 and "being terminated" in exc.message):
                raise
        self._gone.discard(place)
        return None

    async def _forget(self, place: Place, endpoints: Obj | None) -> None:
        """Delete the Endpoints of a Service that is gone; slices have an owner, and go with that.

        Endpoints that somebody made go with a Service, too, but not for want of one.
        """
        if endpoints is not None and (place in self._gone or rules.is_ours(endpoints)):
            await self._delete(ENDPOINTS, endpoints)

    async def _write_endpoints(self, service: Obj, present: Obj | None, subsets: list[Obj], trigger: str) -> None:
        """`trigger` is the time of the change that led here, which is noted if there is something to write."""
        wanted = rules.endpoints_of(service, subsets)
        if present is None:
            await self._client.create(ENDPOINTS, _noting(wanted, wanted["metadata"], trigger))
            return
        labels = wanted["metadata"]["labels"]
        if (present.get("subsets") or []) != subsets or (present["metadata"].get("labels") or {}) != labels:
            metadata = {**present["metadata"], "labels": labels}
            await self._client.update(ENDPOINTS, _noting(wanted, metadata, trigger))

    async def _write_slices(self, place: Place, wanted: list[Obj], trigger: str) -> None:
        """Each wanted slice takes the place of a present one of its kind; what is left over goes."""
        namespace, name = place
        found = await self._client.list(ENDPOINTSLICES, namespace, label_selector=f"{rules.SERVICE_NAME}={name}")
        left = [item for item in found["items"] if rules.manager_of(item) in rules.MANAGERS]
        missing = []
        for slice_ in wanted:
            exact = next((item for item in left if rules.same(item, slice_)), None)
            if exact is not None:
                left.remove(exact)
            else:
                missing.append(slice_)
        for slice_ in missing:
            present = next((item for item in left if rules.replaceable(item, slice_)), None)
            if present is None:
                await self._client.create(ENDPOINTSLICES, _noting(slice_, slice_["metadata"], trigger))
            else:
                left.remove(present)
                metadata = {**present["metadata"], "labels": slice_["metadata"]["labels"]}
                await self._client.update(ENDPOINTSLICES, _noting(slice_, metadata, trigger))
        for item in left:
            await self._delete(ENDPOINTSLICES, item)

    async def _delete(self, resource: Resource, obj: Obj) -> None:
        metadata = obj["metadata"]
        try:
            await self._client.delete(resource, metadata["name"], metadata["namespace"], uid=metadata["uid"])
        except StatusError as exc:
            if exc.code not in (404, 409):
                raise


def _noting(obj: Obj, metadata: Obj, trigger: str) -> Obj:
    """An object with this metadata, and the time of the change that it is made for."""
    kept = {key: value for key, value in metadata.items() if key != "annotations"}
    annotations = annotated(metadata.get("annotations"), trigger)
    return {**obj, "metadata": {**kept, "annotations": annotations} if annotations else kept}
