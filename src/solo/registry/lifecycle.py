"""Where new objects may be made: not in a namespace, nor of a kind, that is gone or about to go."""

from __future__ import annotations

from kube.machinery import errors
from kube.machinery.errors import StatusError
from solo.registry.catalog import Catalog
from solo.registry.kinds import Kind
from solo.registry.objects import dig
from solo.store import Key, Store


def check_namespace(store: Store, kind: Kind, namespace: str, name: str) -> None:
    """Admission plug-in NamespaceLifecycle. Raises 404 or 403."""
    stored = store.get(Key("namespaces", "", namespace))
    if stored is None:
        raise errors.not_found("namespaces", namespace)
    if dig(stored.obj, "metadata", "deletionTimestamp"):
        problem = errors.forbidden(
            kind.resource.group_resource,
            name,
            f"unable to create new content in namespace {namespace} because it is being terminated",
        )
        detail = {
            "reason": "NamespaceTerminating",
            "message": f"namespace {namespace} is being terminated",
            "field": "metadata.namespace",
        }
        problem.details = {**(problem.details or {}), "causes": [detail]}
        raise problem


def check_place(store: Store, catalog: Catalog, kind: Kind, key: Key) -> None:
    """Webhooks may have taken long: what is made in a namespace, or of a kind, that is gone would stay for ever.

    Raises 403, 404 or 405.
    """
    if key.namespace:
        check_namespace(store, kind, key.namespace, key.name)
    if kind.custom:
        resource = kind.resource
        now = catalog.lookup(resource.group, resource.version, resource.plural)
        if now is None or now.terminating:
            raise definition_ends(kind)


def definition_ends(kind: Kind) -> StatusError:
    """The refusal of a new object of a kind whose definition is being deleted."""
    refusal = errors.method_not_allowed("create", kind.resource.group_resource)
    refusal.message = "create not allowed while custom resource definition is terminating"
    return refusal
