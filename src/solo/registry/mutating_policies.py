"""MutatingAdmissionPolicy: changes that cluster administrators write in CEL (admissionregistration/v1).

A mutation gives an apply configuration, merged as a server-side apply would, or a JSON patch. Policies come before the
mutating webhooks, in order of their bindings; one that asks for it is evaluated again when others changed the object.
"""

from __future__ import annotations

import logging
from typing import Any

from kube.machinery import errors
from kube.machinery.errors import StatusError
from kube.machinery.patch import json_patch
from kube.machinery.resources import ADMISSION_GROUP
from solo.auth.rbac import Authorizer
from solo.registry.bound_policies import BoundPolicies, Evaluation, NotConfigured
from solo.registry.catalog import Catalog
from solo.registry.objects import copy
from solo.registry.registry import Attributes
from solo.registry.views import Views
from solo.store import Store, Stored

logger = logging.getLogger(__name__)

Obj = dict[str, Any]


class MutatingPolicies:
    """The admission plug-in that changes objects."""

    def __init__(self, store: Store, catalog: Catalog, views: Views, access: Authorizer) -> None:
        self._bound = BoundPolicies(
            store,
            catalog,
            views,
            access,
            f"mutatingadmissionpolicies.{ADMISSION_GROUP}",
            f"mutatingadmissionpolicybindings.{ADMISSION_GROUP}",
        )

    async def mutate(self, attributes: Attributes) -> None:
        """Change `attributes.obj`. Raises 403 for a policy that fails and may not."""
        if attributes.obj is None or attributes.operation == "CONNECT":
            return
        done: list[tuple[Stored, Stored, Obj | None]] = []
        for policy, binding in self._bound.applicable(attributes):
            await self._change(policy, binding, attributes)
            done.append((policy, binding, attributes.obj))
        for policy, binding, left in done:
            if policy.obj["spec"].get("reinvocationPolicy") == "IfNeeded" and attributes.obj != left:
                await self._change(policy, binding, attributes)

    async def _change(self, policy: Stored, binding: Stored, attributes: Attributes) -> None:
        from kube.machinery.cel import CelError

        before = attributes.obj
        try:
            for evaluation in await self._bound.evaluations(policy.obj, binding.obj, attributes):
                if evaluation.conditions_hold():
                    _mutate(policy.obj["spec"], evaluation, attributes)
        except (CelError, NotConfigured, StatusError, _MutationError) as problem:
            attributes.obj = before
            subject = f"policy '{policy.key.name}' with binding '{binding.key.name}'"
            if policy.obj["spec"].get("failurePolicy") == "Ignore":
                logger.info("%s failed: %s", subject, problem)
                return
            resource = attributes.kind.resource.group_resource
            raise errors.forbidden(resource, attributes.shown_name, f"{subject} denied request: {problem}") from None


class _MutationError(Exception):
    """A mutation whose value is not what its type says."""


def _mutate(spec: Obj, evaluation: Evaluation, attributes: Attributes) -> None:
    for mutation in spec.get("mutations") or []:
        assert attributes.obj is not None
        evaluation.show(attributes.obj)
        if mutation["patchType"] == "JSONPatch":
            changed = _patched(attributes.obj, evaluation.evaluate(mutation["jsonPatch"]["expression"]))
        else:
            changed = _applied(attributes, evaluation.evaluate(mutation["applyConfiguration"]["expression"]))
        attributes.obj = copy(changed)


def _patched(obj: Obj, operations: Any) -> Obj:
    if not isinstance(operations, list):
        raise _MutationError("a JSONPatch expression must give a list of JSONPatch operations")
    changed = json_patch(copy(obj), operations)
    if not isinstance(changed, dict):
        raise _MutationError("the patch leaves no object")
    return changed


def _applied(attributes: Attributes, configuration: Any) -> Obj:
    if not isinstance(configuration, dict):
        raise _MutationError("an ApplyConfiguration expression must give an Object")
    for key in ("apiVersion", "kind"):
        if key in configuration:
            raise _MutationError(f"an ApplyConfiguration must not set {key}")
    assert attributes.obj is not None
    return attributes.kind.books.merged(attributes.obj, configuration)
