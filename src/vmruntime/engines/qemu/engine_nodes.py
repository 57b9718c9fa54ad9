"""What the engine says of the cluster's nodes: where the addresses of its machines' pods are from."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kube.client.aio import AsyncClient
from kube.client.informer import Informer
from kube.machinery.errors import StatusError
from kube.machinery.resources import NODES
from vmruntime.api import names
from vmruntime.api.meta import Obj, annotation, name_of, uid_of

_SYNC_SECONDS = 10.0


class Nodes:
    """The nodes, watched, as one that is made anew has to be told again."""

    def __init__(self, client: AsyncClient, lost: Callable[[], None]) -> None:
        """`lost` is called when a node does not say, or says no more, what it was told."""
        self._client = client
        self._lost = lost
        self._told: str | None = None
        self._informer = Informer(client, NODES)
        self._informer.add_handler(self._handle)

    async def run(self) -> None:
        await self._informer.run()

    def _handle(self, event: str, node: Obj, old: Obj | None) -> None:
        if event != "DELETED" and self._told not in (None, annotation(node, names.POD_CIDRS_ANNOTATION)):
            self._lost()

    async def tell(self, cidrs: Iterable[str]) -> None:
        """Have all nodes say that addresses of pods are from these subnets; none: nothing is said.

        Raises TimeoutError while the nodes aren't known, StatusError.
        """
        await self._informer.wait_synced(_SYNC_SECONDS)
        self._told = wanted = ",".join(cidrs)
        for node in self._informer.items():
            if annotation(node, names.POD_CIDRS_ANNOTATION) == wanted:
                continue
            patch = {"metadata": {"uid": uid_of(node), "annotations": {names.POD_CIDRS_ANNOTATION: wanted or None}}}
            try:
                await self._client.patch(NODES, name_of(node), patch)
            except StatusError as exc:
                if exc.code not in (404, 409):
                    raise
