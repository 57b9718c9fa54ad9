"""Small steps on API objects that every controller takes: ensure, remove, write a status, hold a finalizer."""

from __future__ import annotations

from kube.client.aio import AsyncClient
from kube.machinery.errors import StatusError
from kube.machinery.resources import Resource
from vmruntime.api.meta import Obj, dig, merge_diff, name_of, namespace_of, uid_of


async def ensure(client: AsyncClient, resource: Resource, wanted: Obj) -> None:
    """Make the object what `wanted` says; fields that it doesn't mention, and equal ones, are left alone."""
    name, namespace = name_of(wanted), namespace_of(wanted) or None
    try:
        found = await client.get(resource, name, namespace)
    except StatusError as exc:
        if exc.code != 404:
            raise
        try:
            await client.create(resource, wanted, namespace)
            return
        except StatusError as created:
            if created.reason != "AlreadyExists":
                raise
            found = await client.get(resource, name, namespace)
    if not _contains(found, wanted):
        await client.patch(resource, name, wanted, namespace)


def _contains(found: object, wanted: object) -> bool:
    """Whether `found` has everything that `wanted` has. Entries that servers default are allowed beside it."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_contains(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        if not isinstance(found, list) or len(found) != len(wanted):
            return False
        return all(_contains(mine, yours) for mine, yours in zip(found, wanted, strict=True))
    return found == wanted


async def remove(client: AsyncClient, resource: Resource, name: str, namespace: str | None = None) -> bool:
    """Delete the object if it is there; whether it was."""
    try:
        await client.delete(resource, name, namespace)
    except StatusError as exc:
        if exc.code != 404:
            raise
        return False
    return True


async def find(client: AsyncClient, resource: Resource, name: str, namespace: str | None = None) -> Obj | None:
    """The object, None if there is none."""
    try:
        return await client.get(resource, name, namespace)
    except StatusError as exc:
        if exc.code != 404:
            raise
        return None


async def write_status(client: AsyncClient, resource: Resource, obj: Obj, status: Obj) -> Obj | None:
    """Write what differs between the object's status and `status`; None if nothing does.

    The write carries the version that the decision was made on: 409 if that is outdated, and then the next pass
    decides again on what is true.
    """
    patch = merge_diff(dig(obj, "status", default={}), status)
    if not patch:
        return None
    body = {"metadata": {"resourceVersion": dig(obj, "metadata", "resourceVersion")}, "status": patch}
    return await client.patch(resource, name_of(obj), body, namespace_of(obj) or None, subresource="status")


async def set_finalizer(client: AsyncClient, resource: Resource, obj: Obj, finalizer: str, present: bool) -> Obj | None:
    """Add or remove a finalizer; None if the object is gone. 409 if it was changed meanwhile."""
    listed = [entry for entry in dig(obj, "metadata", "finalizers", default=[]) if entry != finalizer]
    if present:
        listed.append(finalizer)
    metadata = {
        "finalizers": listed,
        "uid": uid_of(obj),
        "resourceVersion": dig(obj, "metadata", "resourceVersion"),
    }
    try:
        return await client.patch(resource, name_of(obj), {"metadata": metadata}, namespace_of(obj) or None)
    except StatusError as exc:
        if exc.code != 404:
            raise
        return None
