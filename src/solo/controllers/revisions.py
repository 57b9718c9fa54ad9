"""The history of a template: ControllerRevisions, by which `kubectl rollout history` and `undo` work."""

from __future__ import annotations

import json
from typing import Any

from kube.client.aio import AsyncClient
from kube.machinery.errors import StatusError
from kube.machinery.resources import CONTROLLERREVISIONS, Resource
from solo.controllers.ownership import claim, controller_reference
from solo.controllers.rollout import DEFAULT_HISTORY_LIMIT, template_hash
from solo.controllers.watches import Obj

HASH_LABEL = "controller-revision-hash"


class History:
    """The revisions of one owner, newest last."""

    def __init__(self, client: AsyncClient, owner: Obj, resource: Resource, revisions: list[Obj]) -> None:
        self._client = client
        self._owner = owner
        self._resource = resource
        self._revisions = sorted(revisions, key=lambda each: int(each["revision"]))

    @classmethod
    async def read(cls, client: AsyncClient, owner: Obj, resource: Resource) -> History:
        """Read what is there, orphans with the owner's labels taken in."""
        return cls(client, owner, resource, await claim(client, owner, resource, CONTROLLERREVISIONS))

    def find(self, label: str) -> Obj | None:
        """The revision whose pods have this label: its hash, or (StatefulSets) its name."""
        return next((each for each in self._revisions if label in _labels(each)), None)

    async def current(self) -> Obj:
        """The revision of the owner's present template, made or moved to the front if need be."""
        # In the order of a Go map: clients compare the bytes with those of the present template.
        data = json.loads(_plain({"spec": {"template": {**self._owner["spec"]["template"], "$patch": "replace"}}}))
        last = int(self._revisions[-1]["revision"]) if self._revisions else 0
        for each in self._revisions:
            if _plain(each["data"]) != _plain(data):
                continue
            if int(each["revision"]) == last:
                return each
            meta = each["metadata"]
            patch = {"revision": last + 1}
            moved = await self._client.patch(CONTROLLERREVISIONS, meta["name"], patch, meta["namespace"])
            self._revisions.remove(each)
            self._revisions.append(moved)
            return moved
        made = await self._create(data, last + 1)
        self._revisions.append(made)
        return made

    async def _create(self, data: Obj, number: int) -> Obj:
        meta = self._owner["metadata"]
        labels = (self._owner["spec"]["template"].get("metadata") or {}).get("labels") or {}
        collisions = 0
        while True:
            label = template_hash(data, collisions)
            revision: Obj = {
                "apiVersion": CONTROLLERREVISIONS.api_version,
                "kind": CONTROLLERREVISIONS.kind,
                "metadata": {
                    "name": f"{meta['name']}-{label}",
                    "namespace": meta["namespace"],
                    "labels": {**labels, HASH_LABEL: label},
                    "ownerReferences": [controller_reference(self._owner, self._resource)],
                },
                "data": data,
                "revision": number,
            }
            try:
                return await self._client.create(CONTROLLERREVISIONS, revision)
            except StatusError as exc:
                if exc.reason != "AlreadyExists":
                    raise
                collisions += 1

    async def trim(self, used: set[str]) -> None:
        """Delete the oldest revisions beyond the limit that no pod is of; `used` are the labels of the pods."""
        limit = self._owner["spec"].get("revisionHistoryLimit")
        spare = [each for each in self._revisions[:-1] if not used & _labels(each)]
        kept = DEFAULT_HISTORY_LIMIT if limit is None else int(limit)
        for each in spare[: max(0, len(spare) - kept)]:
            meta = each["metadata"]
            try:
                await self._client.delete(CONTROLLERREVISIONS, meta["name"], meta["namespace"], uid=meta["uid"])
            except StatusError as exc:
                if exc.code not in (404, 409):
                    raise


def _labels(revision: Obj) -> set[str]:
    meta = revision["metadata"]
    return {str(meta["name"]), str((meta.get("labels") or {}).get(HASH_LABEL))}


def _plain(data: Any) -> str:
    return json.dumps(data, sort_keys=True)
