"""Eviction of pods: a deletion that PodDisruptionBudgets may refuse (policy/v1 Eviction)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kube.machinery import errors
from kube.machinery.durations import now_rfc3339
from kube.machinery.errors import StatusError
from kube.machinery.resources import PODDISRUPTIONBUDGETS
from kube.machinery.selectors import label_selector_from_dict
from solo.registry.bootstrap import SYSTEM
from solo.registry.context import DeleteOptions, RequestContext, check_dry_run
from solo.registry.kinds import Kind
from solo.registry.objects import child, copy, dig
from solo.registry.registry import Attributes, Registry
from solo.store import Key, Stored

Obj = dict[str, Any]

_BUDGETS = PODDISRUPTIONBUDGETS.group_resource
_MESSAGE = "Cannot evict pod as it would violate the pod's disruption budget."
_RETRY_SECONDS = 10


async def evict(
    registry: Registry, kind: Kind, namespace: str, name: str, eviction: Obj, context: RequestContext
) -> None:
    """Delete a pod if admission and its budget, if any, allow that now, and take it off the budget first.

    Raises 400, 404, 409, 422, 429 (not now) and 500 (more than one budget), besides what admission raises.
    """
    asked = Attributes("CREATE", kind, namespace, name, eviction, None, "eviction", context)
    agreed = await registry.offer(asked, lambda given: _accept(given, name, context))
    given = agreed.get("deleteOptions") or {}
    options = DeleteOptions.read(given, {})
    dry_run = context.dry_run or check_dry_run(list(given.get("dryRun") or []), "DeleteOptions")
    await _delete(registry, kind, namespace, name, options, replace(context, dry_run=dry_run))


def _accept(eviction: Obj, name: str, context: RequestContext) -> None:
    """Let the request and the Eviction in it have the same dry run. Raises 400 for another pod, 500 if they differ."""
    named = child(eviction, "metadata").get("name") or ""
    if named != name:
        raise errors.bad_request(f"name in URL does not match name in Eviction object: {name} and {named}")
    options = eviction.get("deleteOptions")
    if options is None or not context.dry_run:
        return
    given = options.get("dryRun") or ["All"]
    if given != ["All"]:
        text = f"Non-matching dry-run options in request and content: [All] and [{' '.join(given)}]"
        raise StatusError(500, "", text)
    options["dryRun"] = given


async def _delete(
    registry: Registry, kind: Kind, namespace: str, name: str, options: DeleteOptions, context: RequestContext
) -> None:
    stored = registry.store.get(Key(kind.store_resource, namespace, name))
    if stored is None:
        raise errors.not_found(kind.resource.group_resource, name)
    if not _unbudgeted(stored.obj):
        budgets = _budgets(registry, stored)
        if len(budgets) > 1:
            text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            raise errors.internal(text)
        if budgets and not _may_go_unhealthy(stored.obj, budgets[0].obj):
            await _take(registry, budgets[0], name, context)
    await registry.past_admission().delete(kind, namespace, name, options, context)


def _unbudgeted(pod: Obj) -> bool:
    """A pod that does not run, or ends already, is nobody's loss."""
    ended = dig(pod, "status", "phase") in ("Succeeded", "Failed", "Pending")
    return ended or bool(dig(pod, "metadata", "deletionTimestamp"))


def _budgets(registry: Registry, pod: Stored) -> list[Stored]:
    labels = dig(pod.obj, "metadata", "labels")
    return [
        budget
        for budget in registry.store.list(_BUDGETS, pod.key.namespace)[0]
        if label_selector_from_dict(dig(budget.obj, "spec", "selector")).matches(labels)
    ]


def _may_go_unhealthy(pod: Obj, budget: Obj) -> bool:
    """Whether a pod that is not ready may go without asking the budget."""
    conditions = dig(pod, "status", "conditions") or []
    if any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions):
        return False
    if dig(budget, "spec", "unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = budget.get("status") or {}
    desired = int(status.get("desiredHealthy") or 0)
    return desired > 0 and int(status.get("currentHealthy") or 0) >= desired


async def _take(registry: Registry, budget: Stored, pod: str, context: RequestContext) -> None:
    """Write into the budget that one more pod goes. Raises 429 when it does not allow that."""
    kind = registry.catalog.storage_kind(_BUDGETS)
    assert kind is not None

    def change(current: Obj) -> Obj:
        status = current.get("status") or {}
        if int(status.get("observedGeneration") or 0) < int(current["metadata"].get("generation") or 0):
            text = f"The disruption budget {budget.key.name} is still being processed by the server."
            raise _refused(text)
        allowed = int(status.get("disruptionsAllowed") or 0)
        if allowed <= 0:
            healthy, desired = int(status.get("currentHealthy") or 0), int(status.get("desiredHealthy") or 0)
            text = f"The disruption budget {budget.key.name} needs {desired} healthy pods and has {healthy} currently"
            raise _refused(text, retry=0)
        changed: Obj = copy(current)
        changed["status"]["disruptionsAllowed"] = allowed - 1
        child(changed["status"], "disruptedPods")[pod] = now_rfc3339()
        return changed

    ask = RequestContext(SYSTEM, dry_run=context.dry_run)
    await registry.update(kind, budget.key.namespace, budget.key.name, change, ask, subresource="status")


def _refused(text: str, retry: int = _RETRY_SECONDS) -> StatusError:
    details: Obj = {"causes": [{"reason": "DisruptionBudget", "message": text}]}
    if retry:
        details["retryAfterSeconds"] = retry
    return StatusError(429, "TooManyRequests", _MESSAGE, details)
