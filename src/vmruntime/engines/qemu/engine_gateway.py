"""The gateway of a namespace as a pod: the node agent looks after it, so that it outlives the manager."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

from kube.client.aio import AsyncClient
from kube.client.errors import ConnectionFailed
from kube.machinery.errors import StatusError
from kube.machinery.resources import PODS
from vmruntime.api import names
from vmruntime.api.meta import Obj, dig, is_deleting, uid_of
from vmruntime.engines.qemu.engine_pods import gateway_pod, has_ended
from vmruntime.engines.qemu.host_tools import ToolError
from vmruntime.engines.qemu.namespace_bridge import GatewayAway

_DISTRIBUTION = "vmruntime"


class ClusterGateway:
    """The one pod of this cluster's network."""

    def __init__(self, client: AsyncClient, root: Path) -> None:
        self._client = client
        argv = [sys.executable, "-P", "-m", "vmruntime.engines.qemu.gateway", str(root)]
        self._pod = gateway_pod(argv, str(root), version(_DISTRIBUTION))

    async def ensure(self) -> None:
        """Have it run, by the program that this one belongs to. Raises GatewayAway while that takes time."""
        try:
            found = await self._find()
            if found is None:
                await self._client.create(PODS, self._pod, names.NAMESPACE)
            elif is_deleting(found):
                raise GatewayAway("its former gateway is still ending")
            elif not _is_as(found, self._pod):
                await self._delete(found)
                raise GatewayAway("its gateway is replaced")
        except (StatusError, ConnectionFailed) as error:
            raise GatewayAway(f"its gateway's pod: {error}") from error

    async def remove(self) -> None:
        """Have it end. Raises ToolError."""
        try:
            if (found := await self._find()) is not None and not is_deleting(found):
                await self._delete(found)
        except (StatusError, ConnectionFailed) as error:
            raise ToolError(f"its gateway's pod: {error}") from error

    async def _find(self) -> Obj | None:
        try:
            return await self._client.get(PODS, names.NETWORK_GATEWAY, names.NAMESPACE)
        except StatusError as error:
            if error.code != 404:
                raise
            return None

    async def _delete(self, pod: Obj) -> None:
        try:
            await self._client.delete(PODS, names.NETWORK_GATEWAY, names.NAMESPACE, uid=uid_of(pod))
        except StatusError as error:
            if error.code not in (404, 409):
                raise


def _is_as(found: Obj, wanted: Obj) -> bool:
    """Whether a pod that is there runs, and what is wanted: the same program of the same version."""
    if has_ended(found) or dig(found, "metadata", "labels") != dig(wanted, "metadata", "labels"):
        return False
    return [entry["command"] for entry in found["spec"]["containers"]] == [
        entry["command"] for entry in wanted["spec"]["containers"]
    ]
