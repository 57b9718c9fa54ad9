"""The smallest API that behaves (finalizers, propagation, watches, conflicts), a stand-in for a server, and helpers."""

import asyncio
import itertools
import json
import time
import types

from kube.machinery import errors
from kube.machinery.patch import merge_patch
from kube.machinery.resources import (
    CLUSTERROLES,
    CONFIGMAPS,
    CRDS,
    DEPLOYMENTS,
    EVENTS,
    NAMESPACES,
    PODS,
    REPLICASETS,
    SERVICEACCOUNTS,
    Resource,
)

BUILT_IN = [NAMESPACES, PODS, CONFIGMAPS, SERVICEACCOUNTS, EVENTS, REPLICASETS, DEPLOYMENTS, CLUSTERROLES, CRDS]
WIDGETS = Resource("example.com", "v1", "widgets", "Widget")
VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


class FakeApi:
    """The verbs of AsyncClient over a dictionary."""

    def __init__(self):
        self.config = types.SimpleNamespace(ca_data=b"CA")
        self.resources = {resource.group_resource: resource for resource in BUILT_IN}
        self.objects = {}
        self.history = []
        self.changed = asyncio.Event()
        self.rv = itertools.count(1)
        self.writes = 0

    # -- what the tests use

    def put(self, resource, name, namespace="", **fields):
        """Make an object at once. Every pod has a spec."""
        fields |= {"spec": {}} if resource is PODS and "spec" not in fields else {}
        meta = {"name": name, **fields.pop("metadata", {})}
        if resource.namespaced:
            meta["namespace"] = namespace
        return self._insert(
            resource, {"apiVersion": resource.api_version, "kind": resource.kind, **fields, "metadata": meta}
        )

    def names(self, resource, namespace=None):
        return [
            key[2] for key in sorted(self.objects) if key[0] == resource.group_resource and namespace in (None, key[1])
        ]

    def find(self, resource, name, namespace=""):
        return self.objects.get((resource.group_resource, namespace, name))

    def edit(self, resource, name, namespace="", **patch):
        """Merge-patch an object at once."""
        return self._replace(resource, merge_patch(self.find(resource, name, namespace), patch))

    def serve(self, resource):
        self.resources[resource.group_resource] = resource
        self.put(CRDS, f"{resource.plural}.{resource.group}")

    # -- AsyncClient

    async def get(self, resource, name, namespace=None):
        await asyncio.sleep(0)
        return json.loads(json.dumps(self._require(resource, name, namespace)))

    async def list(self, resource, namespace=None, *_, **__):
        await asyncio.sleep(0)
        self._served(resource)
        found = [
            o for k, o in sorted(self.objects.items()) if k[0] == resource.group_resource and namespace in (None, k[1])
        ]
        version = self.history[-1][0] if self.history else 0
        return {"metadata": {"resourceVersion": str(version)}, "items": json.loads(json.dumps(found))}

    async def watch(self, resource, namespace=None, resource_version=None, *_, **__):
        seen = int(resource_version)
        while True:
            self._served(resource)
            for rv, kind, key, obj in list(self.history):
                if rv > seen and key[0] == resource.group_resource:
                    seen = rv
                    yield {"type": kind, "object": obj}
            await self.changed.wait()

    async def create(self, resource, obj, namespace=None, **_):
        await asyncio.sleep(0)
        self.writes += 1
        meta = obj["metadata"]
        name = meta.get("name") or f"{meta['generateName']}{next(self.rv):05d}"
        if resource.namespaced and self._require(NAMESPACES, meta["namespace"])["metadata"].get("deletionTimestamp"):
            raise errors.forbidden(
                resource.group_resource, name, "unable to create new content because it is being terminated"
            )
        return self._insert(resource, {**json.loads(json.dumps(obj)), "metadata": {**meta, "name": name}})

    async def update_status(self, resource, obj, namespace=None):
        await asyncio.sleep(0)
        self.writes += 1
        meta = obj["metadata"]
        current = self._require(resource, meta["name"], meta.get("namespace"))
        self._check(resource, current, meta)
        return self._replace(resource, {**current, "status": obj["status"]})

    async def patch(self, resource, name, patch, namespace=None, type="merge", subresource=None):
        await asyncio.sleep(0)
        self.writes += 1
        current = self._require(resource, name, namespace)
        self._check(resource, current, patch.get("metadata", {}))
        return self._replace(resource, merge_patch(current, patch))

    async def delete(self, resource, name, namespace=None, propagation=None, grace=None, uid=None, version=None):
        await asyncio.sleep(0)
        self.writes += 1
        current = self._require(resource, name, namespace)
        if uid not in (None, current["metadata"]["uid"]):
            raise errors.conflict(resource.group_resource, name, "uid")
        if version not in (None, current["metadata"]["resourceVersion"]):
            raise errors.conflict(resource.group_resource, name, "version")
        extra = {"Foreground": ["foregroundDeletion"], "Orphan": ["orphan"]}.get(propagation, [])
        meta = {**current["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
        meta["finalizers"] = [*meta.get("finalizers", []), *extra]
        return self._replace(resource, {**current, "metadata": meta})

    async def delete_collection(self, resource, namespace=None, label_selector=None, propagation=None):
        for name in self.names(resource, namespace):
            await self.delete(resource, name, namespace, propagation)

    async def raw(self, method, path, body=None, headers=None):
        await asyncio.sleep(0)
        if method == "PUT" and path.endswith("/finalize"):
            obj = json.loads(body)
            self._replace(NAMESPACES, obj)
            return b"{}"
        groups = {}
        for resource in self.resources.values():
            if bool(resource.group) == (path == "/apis"):
                groups.setdefault(resource.group, []).append(
                    {
                        "resource": resource.plural,
                        "responseKind": {"kind": resource.kind},
                        "scope": "Namespaced" if resource.namespaced else "Cluster",
                        "verbs": VERBS,
                    }
                )
        items = [
            {"metadata": {"name": group}, "versions": [{"version": "v1", "resources": resources}]}
            for group, resources in groups.items()
        ]
        return json.dumps({"items": items}).encode()

    # -- inside

    def _served(self, resource):
        if resource.group_resource not in self.resources:
            raise errors.path_not_found()

    def _require(self, resource, name, namespace=None):
        self._served(resource)
        obj = self.objects.get((resource.group_resource, namespace or "", name))
        if obj is None:
            raise errors.not_found(resource.group_resource, name)
        return obj

    def _check(self, resource, current, meta):
        for field in ("uid", "resourceVersion"):
            if meta.get(field) not in (None, current["metadata"][field]):
                raise errors.conflict(resource.group_resource, meta.get("name", ""), field)

    def _insert(self, resource, obj):
        meta = obj["metadata"]
        key = (resource.group_resource, meta.get("namespace", ""), meta["name"])
        if key in self.objects:
            raise errors.already_exists(resource.group_resource, meta["name"])
        number = next(self.rv)
        meta = {"uid": f"uid-{number}", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1, **meta}
        return self._store("ADDED", key, {**obj, "metadata": meta}, number)

    def _replace(self, resource, obj):
        meta = obj["metadata"]
        key = (resource.group_resource, meta.get("namespace", ""), meta["name"])
        held = meta.get("finalizers") or (obj.get("spec") or {}).get("finalizers")
        if meta.get("deletionTimestamp") and not held:
            return self._store("DELETED", key, obj, next(self.rv))
        if obj.get("spec") != self.objects[key].get("spec"):
            obj = {**obj, "metadata": {**meta, "generation": meta["generation"] + 1}}
        return self._store("MODIFIED", key, obj, next(self.rv))

    def _store(self, kind, key, obj, rv):
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(rv)}}
        if kind == "DELETED":
            self.objects.pop(key, None)
        else:
            self.objects[key] = obj
        self.history.append((rv, kind, key, obj))
        woken, self.changed = self.changed, asyncio.Event()
        woken.set()
        return obj


async def until(condition, seconds=30.0):
    """Wait for a condition of the in-memory API (looked at with every turn of the loop)."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        await asyncio.sleep(0.002)


async def settle(api):
    """Until nobody has written for a while."""
    while True:
        before = api.writes
        await asyncio.sleep(0.03)
        if api.writes == before:
            return


def owned_by(*owners, block=False, controller=False):
    return {
        "ownerReferences": [
            {
                "apiVersion": owner["apiVersion"],
                "kind": owner["kind"],
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
                "blockOwnerDeletion": block,
                "controller": controller,
            }
            for owner in owners
        ]
    }
