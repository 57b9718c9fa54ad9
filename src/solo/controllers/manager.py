"""Starts all controllers on one set of watches and keeps them going."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from kube.client.aio import AsyncClient
from kube.client.queue import Controller, WorkQueue
from solo.controllers.aggregation import AggregationController
from solo.controllers.deployments import DeploymentController
from solo.controllers.gc import GarbageCollector
from solo.controllers.namespaces import NamespaceController
from solo.controllers.replicasets import Place, ReplicaSetController
from solo.controllers.serviceaccounts import ServiceAccountController
from solo.controllers.watches import Watches

logger = logging.getLogger(__name__)

RESTART_SECONDS = 1.0
SYNC_SECONDS = 30.0
MAX_DELAY_SECONDS = 10.0
COLLECTORS = 8
WORKERS = 2


async def run_all(client: AsyncClient) -> None:
    """Run every controller until cancelled. `client` has to be allowed everything."""
    watches = Watches(client)
    names = [WorkQueue[str](max_delay=MAX_DELAY_SECONDS) for _ in range(4)]
    places = [WorkQueue[Place](max_delay=MAX_DELAY_SECONDS) for _ in range(2)]
    collector = GarbageCollector(client, watches, names[0])
    namespaces = NamespaceController(client, watches, names[1])
    accounts = ServiceAccountController(client, watches, names[2])
    aggregation = AggregationController(client, watches, names[3])
    replica_sets = ReplicaSetController(client, watches, places[0])
    deployments = DeploymentController(client, watches, places[1])
    collecting = Controller("garbage-collector", names[0], collector.reconcile, COLLECTORS)

    async def collect() -> None:
        # With half of the graph, dependents would be overlooked: an owner would go too early, or leave them tied.
        await watches.wait_synced(SYNC_SECONDS)
        await collecting.run()

    loops: dict[str, Callable[[], Awaitable[None]]] = {
        "watches": watches.run,
        "garbage-collector": collect,
        "namespaces": Controller("namespaces", names[1], namespaces.reconcile, WORKERS).run,
        "serviceaccounts": Controller("serviceaccounts", names[2], accounts.reconcile, WORKERS).run,
        "aggregation": Controller("aggregation", names[3], aggregation.reconcile).run,
        "replicasets": Controller("replicasets", places[0], replica_sets.reconcile, WORKERS).run,
        "deployments": Controller("deployments", places[1], deployments.reconcile, WORKERS).run,
    }
    async with asyncio.TaskGroup() as group:
        for name, loop in loops.items():
            group.create_task(_guard(name, loop), name=f"controller-{name}")


async def _guard(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run a loop that should never end; when it does, say so and start it again."""
    while True:
        try:
            await run()
            logger.error("%s ended, starting it again", name)
        except Exception:
            logger.exception("%s failed, starting it again", name)
        await asyncio.sleep(RESTART_SECONDS)
