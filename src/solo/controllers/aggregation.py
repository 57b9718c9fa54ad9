"""Aggregated ClusterRoles: their rules are those of the roles that their aggregationRule selects, written out."""

from __future__ import annotations

import logging

from kube.client.aio import AsyncClient
from kube.client.queue import WorkQueue
from kube.machinery.errors import StatusError
from kube.machinery.resources import CLUSTERROLES
from kube.machinery.selectors import label_selector_from_dict
from solo.controllers.watches import Obj, Watches

logger = logging.getLogger(__name__)


class AggregationController:
    """Takes the names of ClusterRoles that have an aggregationRule."""

    def __init__(self, client: AsyncClient, watches: Watches, queue: WorkQueue[str]) -> None:
        self._client = client
        self._queue = queue
        self._aggregated: set[str] = set()
        watches.subscribe(CLUSTERROLES, self._on_role)

    def _on_role(self, kind: str, role: Obj, old: Obj | None) -> None:
        name = role["metadata"]["name"]
        if kind == "DELETED" or not role.get("aggregationRule"):
            self._aggregated.discard(name)
        else:
            self._aggregated.add(name)
        # Whatever changed may be selected by any of them.
        for each in self._aggregated:
            self._queue.add(each)

    async def reconcile(self, name: str) -> float | None:
        """Write the rules of one aggregated role, if they changed."""
        roles: list[Obj] = (await self._client.list(CLUSTERROLES))["items"]
        role = next((each for each in roles if each["metadata"]["name"] == name), None)
        selectors = ((role or {}).get("aggregationRule") or {}).get("clusterRoleSelectors")
        if role is None or not selectors:
            return None
        try:
            rules = aggregate(role, roles)
        except ValueError as problem:
            logger.warning(
                "the rules of ClusterRole %s stay as they are: its aggregationRule is invalid: %s", name, problem
            )
            return None
        if rules != (role.get("rules") or []):
            patch = {"metadata": {"resourceVersion": role["metadata"]["resourceVersion"]}, "rules": rules}
            try:
                await self._client.patch(CLUSTERROLES, name, patch)
            except StatusError as exc:
                if exc.code != 404:
                    raise
        return None


def aggregate(role: Obj, roles: list[Obj]) -> list[Obj]:
    """The rules of the roles that `role` selects, in order of their names, each rule once. Raises ValueError."""
    compiled = [label_selector_from_dict(each) for each in role["aggregationRule"]["clusterRoleSelectors"]]
    rules: list[Obj] = []
    for other in sorted(roles, key=lambda each: str(each["metadata"]["name"])):
        if other["metadata"]["name"] == role["metadata"]["name"]:
            continue
        if any(selector.matches(other["metadata"].get("labels")) for selector in compiled):
            rules += [rule for rule in other.get("rules") or () if rule not in rules]
    return rules
