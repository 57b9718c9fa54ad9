"""A store of the test's own, and a registry of built-in kinds over it, for tests that need no other."""

from __future__ import annotations

import pytest

from kube.machinery.errors import StatusError
from solo.auth.user import MASTERS, User
from solo.registry.builtins import builtin_kinds
from solo.registry.catalog import Catalog
from solo.registry.context import DeleteOptions, RequestContext
from solo.registry.registry import Registry
from solo.store import Key, Store

ADMIN = User("admin", (MASTERS,))


class World:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.catalog = Catalog(store, builtin_kinds(lambda: ("node", {"kubernetes.io/hostname": "node"})))
        self.registry = Registry(store, self.catalog)

    def kind(self, plural, group="", version="v1"):
        return self.catalog.lookup(group, version, plural)

    async def create(self, plural, obj, namespace="", group="", **context):
        result = await self.registry.create(
            self.kind(plural, group), namespace, "", obj, RequestContext(ADMIN, **context)
        )
        return result if isinstance(result, dict) else result.obj

    async def change(self, plural, name, change, namespace="", group="", subresource=""):
        result = await self.registry.update(
            self.kind(plural, group), namespace, name, change, RequestContext(ADMIN), subresource=subresource
        )
        return result if isinstance(result, dict) else result.obj

    async def delete(self, plural, name, namespace="", group="", **options):
        return await self.registry.delete(
            self.kind(plural, group), namespace, name, DeleteOptions(**options), RequestContext(ADMIN)
        )

    def get(self, plural, name, namespace=""):
        stored = self.store.get(Key(plural, namespace, name))
        return stored.obj if stored else None


@pytest.fixture
async def store(tmp_path):
    opened = Store.open(tmp_path / "state.db")
    yield opened
    await opened.close()


@pytest.fixture
async def world(store):
    world = World(store)
    await world.create("namespaces", {"metadata": {"name": "ns"}})
    return world


def with_(obj, **changes):
    """A change function: a copy of the present object with other top-level values."""
    return lambda present: {**present, "metadata": dict(present["metadata"]), **changes}


def meta(**changes):
    return lambda present: {**present, "metadata": {**present["metadata"], **changes}}


def pod(name="p", **spec):
    containers = [{"name": "c", "image": "host", "command": ["true"]}]
    return {"metadata": {"name": name}, "spec": {"containers": containers, **spec}}


async def refused(action) -> StatusError:
    """The refusal that awaiting `action` ends in."""
    with pytest.raises(StatusError) as problem:
        await action
    return problem.value
