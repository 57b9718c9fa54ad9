"""Starts all controllers on one set of watches and keeps them going."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Protocol, TypeVar

from kube.client.aio import AsyncClient
from kube.client.queue import Controller, WorkQueue
from kube.machinery.resources import REPLICASETS, REPLICATIONCONTROLLERS
from solo.controllers.aggregation import AggregationController
from solo.controllers.budgets import BudgetController
from solo.controllers.cronjobs import CronJobController
from solo.controllers.daemonsets import DaemonSetController
from solo.controllers.deployments import DeploymentController
from solo.controllers.endpoints import EndpointsController
from solo.controllers.gc import GarbageCollector
from solo.controllers.jobs import JobController
from solo.controllers.namespaces import NamespaceController
from solo.controllers.ownership import Place
from solo.controllers.podgc import PodCollector
from solo.controllers.replicasets import ReplicaSetController
from solo.controllers.scheduling import SchedulingController
from solo.controllers.serviceaccounts import ServiceAccountController
from solo.controllers.statefulsets import StatefulSetController
from solo.controllers.tokens import IssueToken, TokenController
from solo.controllers.watches import Watches

logger = logging.getLogger(__name__)

K = TypeVar("K", contravariant=True)


class Reconciler(Protocol[K]):
    """What a controller is to the loop that runs it."""

    async def reconcile(self, key: K, /) -> float | None: ...


RESTART_SECONDS = 1.0
SYNC_SECONDS = 30.0
MAX_DELAY_SECONDS = 10.0
COLLECTORS = 8
WORKERS = 2


MakeByPlace = Callable[[AsyncClient, Watches, WorkQueue[Place]], Reconciler[Place]]

BY_NAME: Mapping[str, Callable[[AsyncClient, Watches, WorkQueue[str]], Reconciler[str]]] = {
    "namespaces": NamespaceController,
    "serviceaccounts": ServiceAccountController,
    "aggregation": AggregationController,
}
BY_PLACE: Mapping[str, MakeByPlace] = {
    "replicasets": partial(ReplicaSetController, resource=REPLICASETS),
    "replicationcontrollers": partial(ReplicaSetController, resource=REPLICATIONCONTROLLERS),
    "deployments": DeploymentController,
    "daemonsets": DaemonSetController,
    "statefulsets": StatefulSetController,
    "jobs": JobController,
    "cronjobs": CronJobController,
    "budgets": BudgetController,
    "scheduling": SchedulingController,
    "endpoints": EndpointsController,
}


async def run_all(client: AsyncClient, own_node: str, issue_token: IssueToken) -> None:
    """Run every controller until cancelled. `client` has to be allowed everything; `own_node` is this server's."""
    watches = Watches(client)
    collector_queue = WorkQueue[str](max_delay=MAX_DELAY_SECONDS)
    collector = GarbageCollector(client, watches, collector_queue)
    collecting = Controller("garbage-collector", collector_queue, collector.reconcile, COLLECTORS)

    async def collect() -> None:
        # With half of the graph, dependents would be overlooked: an owner would go too early, or leave them tied.
        await watches.wait_synced(SYNC_SECONDS)
        await collecting.run()

    loops: dict[str, Callable[[], Awaitable[None]]] = {"watches": watches.run, "garbage-collector": collect}
    for name, by_name in BY_NAME.items():
        names = WorkQueue[str](max_delay=MAX_DELAY_SECONDS)
        loops[name] = Controller(name, names, by_name(client, watches, names).reconcile, WORKERS).run
    of_places: dict[str, MakeByPlace] = {
        **BY_PLACE,
        "podgc": partial(PodCollector, own_node=own_node),
        "tokens": partial(TokenController, issue=issue_token),
    }
    for name, by_place in of_places.items():
        places = WorkQueue[Place](max_delay=MAX_DELAY_SECONDS)
        loops[name] = Controller(name, places, by_place(client, watches, places).reconcile, WORKERS).run
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
