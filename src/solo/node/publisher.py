"""Write the status of one pod to the API, when it differs from what was written last."""

from __future__ import annotations

import logging
from typing import Any

from kube.machinery.durations import now_rfc3339
from kube.machinery.errors import StatusError
from kube.machinery.resources import PODS
from solo.node import status
from solo.node.addresses import Addresses
from solo.node.context import NodeContext
from solo.node.status import ContainerView

log = logging.getLogger(__name__)

Obj = dict[str, Any]


class StatusPublisher:
    """The agent's word on one pod. `written` is what it said last."""

    def __init__(self, context: NodeContext, pod: Obj) -> None:
        self._context = context
        self.written: Obj = pod.get("status") or {}

    async def publish(
        self, pod: Obj, views: dict[str, ContainerView], addresses: Addresses, failed: tuple[str, str] | None
    ) -> None:
        """Write the status of `pod` by its containers' `views`; `failed` as `status.build` has it.

        StatusError or ConnectionFailed as the API answers; a pod that is gone is no error.
        """
        wanted = status.build({**pod, "status": self._base(pod)}, views, now_rfc3339(), addresses, failed=failed)
        patch = status.changes(self.written, wanted)
        if not patch:
            return
        metadata = pod["metadata"]
        name, namespace = metadata["name"], metadata["namespace"]
        body = {"metadata": {"uid": metadata["uid"]}, "status": patch}
        try:
            await self._context.client.patch(PODS, name, body, namespace, subresource="status")
        except StatusError as error:
            if error.code not in (404, 409):
                raise
            log.debug("pod %s/%s is gone, its status is not written", namespace, name)
        self.written = wanted

    def _base(self, pod: Obj) -> Obj:
        """Our last status with the conditions that others may have added since."""
        own = {entry["type"] for entry in self.written.get("conditions") or []}
        current = (pod.get("status") or {}).get("conditions") or []
        foreign = [entry for entry in current if entry.get("type") not in own]
        return {**self.written, "conditions": [*(self.written.get("conditions") or []), *foreign]}
