"""Who owns whom, as far as the watches have told: the garbage collector's memory, without any I/O.

`observe` and `forget` return the uids that are to be looked at because of the change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kube.machinery.resources import Resource

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


@dataclass(frozen=True, slots=True)
class Owner:
    """An entry of metadata.ownerReferences."""

    api_version: str
    kind: str
    name: str
    uid: str
    block: bool

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Node:
    """What matters of an object."""

    resource: Resource
    namespace: str
    name: str
    uid: str
    owners: tuple[Owner, ...] = ()
    deleting: bool = False
    finalizers: frozenset[str] = frozenset()

    @property
    def waits_for_dependents(self) -> bool:
        """Being deleted in the foreground: it goes when the dependents that block it have gone."""
        return self.deleting and FOREGROUND in self.finalizers

    @property
    def orphans_dependents(self) -> bool:
        return self.deleting and ORPHAN in self.finalizers

    def blocks(self, uid: str) -> bool:
        return any(owner.uid == uid and owner.block for owner in self.owners)

    def is_meant(self, owner: Owner, namespace: str) -> bool:
        """Whether a reference in an object of `namespace` leads here; the uid alone does not make it so."""
        known = (self.uid, self.name, self.resource.kind, self.resource.group)
        return known == (owner.uid, owner.name, owner.kind, owner.group) and self.namespace in ("", namespace)


def node_of(resource: Resource, obj: Mapping[str, Any]) -> Node:
    """The node of an object as the API shows it."""
    meta = obj["metadata"]
    return Node(
        resource,
        meta.get("namespace") or "",
        meta["name"],
        meta["uid"],
        tuple(
            Owner(
                owner.get("apiVersion", ""),
                owner.get("kind", ""),
                owner.get("name", ""),
                owner.get("uid", ""),
                bool(owner.get("blockOwnerDeletion")),
            )
            for owner in meta.get("ownerReferences") or ()
        ),
        bool(meta.get("deletionTimestamp")),
        frozenset(meta.get("finalizers") or ()),
    )


class Graph:
    """All known objects by uid, with their dependents."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._dependents: dict[str, set[str]] = {}

    def get(self, uid: str) -> Node | None:
        return self._nodes.get(uid)

    def dependents(self, uid: str) -> list[Node]:
        """The known objects that name `uid` as an owner."""
        return [self._nodes[each] for each in sorted(self._dependents.get(uid, ()))]

    def observe(self, node: Node) -> set[str]:
        """Take in a new or changed object."""
        before = self._nodes.get(node.uid)
        self._nodes[node.uid] = node
        old_owners = before.owners if before is not None else ()
        self._link(node.uid, old_owners, node.owners)
        visit: set[str] = set()
        if node.owners != old_owners and any(self._is_uncertain(owner, node.namespace) for owner in node.owners):
            visit.add(node.uid)
        if node.owners != old_owners:
            visit |= self._waiting(old_owners)
        was_special = before is not None and (before.waits_for_dependents or before.orphans_dependents)
        if (node.waits_for_dependents or node.orphans_dependents) and not was_special:
            visit.add(node.uid)
            if node.waits_for_dependents:
                visit |= self._dependents.get(node.uid, set())
        return visit

    def forget(self, uid: str) -> set[str]:
        """Take out an object that is gone."""
        node = self._nodes.pop(uid, None)
        visit = set(self._dependents.get(uid, ()))
        if node is not None:
            self._link(uid, node.owners, ())
            visit |= self._waiting(node.owners)
        return visit

    def _is_uncertain(self, owner: Owner, namespace: str) -> bool:
        known = self._nodes.get(owner.uid)
        return known is None or known.waits_for_dependents or not known.is_meant(owner, namespace)

    def _waiting(self, owners: tuple[Owner, ...]) -> set[str]:
        """Those owners that wait for their dependents."""
        known = (self._nodes.get(owner.uid) for owner in owners)
        return {node.uid for node in known if node is not None and node.waits_for_dependents}

    def _link(self, uid: str, old: tuple[Owner, ...], new: tuple[Owner, ...]) -> None:
        for owner in old:
            dependents = self._dependents.get(owner.uid)
            if dependents is not None:
                dependents.discard(uid)
                if not dependents:
                    del self._dependents[owner.uid]
        for owner in new:
            self._dependents.setdefault(owner.uid, set()).add(uid)
