"""What the API serves right now, from aggregated discovery (apidiscovery.k8s.io/v2)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from kube.client.aio import AsyncClient
from kube.machinery.resources import Resource

_ACCEPT = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}


@dataclass(frozen=True, slots=True)
class Served:
    """A resource in its preferred version, and what can be done with it."""

    resource: Resource
    verbs: frozenset[str]

    @property
    def watchable(self) -> bool:
        return {"list", "watch"} <= self.verbs


async def discover(client: AsyncClient) -> list[Served]:
    """Every resource that the server serves, once each.

    Raises what `AsyncClient.raw` does: a controller must not take an answer that it did not get for an empty one.
    """
    found: dict[str, Served] = {}
    for path in ("/api", "/apis"):
        document = json.loads(await client.raw("GET", path, headers=_ACCEPT))
        for group in document["items"]:
            for served in _of_group(group):
                found.setdefault(served.resource.group_resource, served)
    return list(found.values())


def _of_group(group: dict[str, Any]) -> list[Served]:
    name = group.get("metadata", {}).get("name", "")
    return [
        Served(
            Resource(
                name,
                version["version"],
                entry["resource"],
                (entry.get("responseKind") or {}).get("kind", ""),
                entry.get("scope") == "Namespaced",
            ),
            frozenset(entry.get("verbs") or ()),
        )
        for version in group.get("versions") or ()
        for entry in version.get("resources") or ()
    ]
