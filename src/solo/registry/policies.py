"""ValidatingAdmissionPolicy: CEL rules that cluster administrators write, with parameters (admissionregistration/v1).

A policy acts through its bindings; each binding brings parameters and says whether a failed validation denies, warns
or is only noted. Messages are those of apiserver's `admission/plugin/policy/validating`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from kube.machinery import errors
from kube.machinery.errors import StatusError
from kube.machinery.resources import VALIDATINGADMISSIONPOLICIES, VALIDATINGADMISSIONPOLICYBINDINGS
from solo.auth.rbac import Authorizer
from solo.registry.bound_policies import BoundPolicies, Evaluation, NotConfigured
from solo.registry.catalog import Catalog
from solo.registry.registry import Attributes
from solo.registry.views import Views
from solo.store import Store

logger = logging.getLogger(__name__)

Obj = dict[str, Any]

_CODES = {"Unauthorized": 401, "Forbidden": 403, "RequestEntityTooLarge": 413, "Invalid": 422}


@dataclass(frozen=True, slots=True)
class Failure:
    """One validation that did not hold, or a policy that could not be evaluated."""

    message: str
    reason: str = "Invalid"


class PolicyAdmission:
    """The admission plug-in."""

    def __init__(self, store: Store, catalog: Catalog, views: Views, access: Authorizer) -> None:
        policies, bindings = VALIDATINGADMISSIONPOLICIES, VALIDATINGADMISSIONPOLICYBINDINGS
        self._bound = BoundPolicies(store, catalog, views, access, policies.group_resource, bindings.group_resource)

    async def admit(self, attributes: Attributes) -> None:
        """Evaluate every policy that is bound to this request. Raises the denial, 401, 403, 413 or 422."""
        for policy, binding in self._bound.applicable(attributes):
            async for failure in self._failures(policy.obj, binding.obj, attributes):
                _act(policy.key.name, binding.key.name, binding.obj, failure, attributes)

    async def _failures(self, policy: Obj, binding: Obj, attributes: Attributes) -> AsyncIterator[Failure]:
        """What is wrong with the request in the eyes of one binding."""
        ignore = policy["spec"].get("failurePolicy") == "Ignore"
        try:
            evaluations = await self._bound.evaluations(policy, binding, attributes)
        except NotConfigured as problem:
            if not ignore:
                yield Failure(str(problem))
            return
        for evaluation in evaluations:
            for failure in _failures(policy["spec"], evaluation, ignore_errors=ignore):
                yield failure


def _failures(spec: Obj, evaluation: Evaluation, *, ignore_errors: bool) -> Iterator[Failure]:
    from kube.machinery.cel import CelError

    try:
        if not evaluation.conditions_hold():
            return
    except CelError as problem:
        if not ignore_errors:
            yield Failure(f"failed to evaluate match conditions: {problem}")
        return
    for validation in spec.get("validations") or []:
        expression = validation["expression"]
        try:
            holds = evaluation.evaluate(expression)
        except CelError as problem:
            if not ignore_errors:
                yield Failure(f"expression '{expression}' resulted in error: {problem}")
            continue
        if holds is not True:
            yield Failure(_message(validation, evaluation), validation.get("reason") or "Invalid")


def _message(validation: Obj, evaluation: Evaluation) -> str:
    """The message for a failed validation; a message expression that fails falls back to the plain message."""
    from kube.machinery.cel import CelError

    expression = validation.get("messageExpression")
    if expression:
        try:
            text = evaluation.evaluate(expression)
            if isinstance(text, str) and text.strip() and "\n" not in text:
                return text.strip()
        except CelError as problem:
            logger.info("messageExpression %r failed: %s", expression, problem)
    return str(validation.get("message") or f"failed expression: {validation['expression'].strip()}").strip()


def _act(policy: str, binding: str, obj: Obj, failure: Failure, attributes: Attributes) -> None:
    """Do what the binding wants done about a failure."""
    for action in obj["spec"].get("validationActions") or []:
        if action == "Deny":
            raise _denial(policy, binding, failure, attributes)
        if action == "Warn":
            subject = f"ValidatingAdmissionPolicy '{policy}' with binding '{binding}'"
            attributes.context.warnings.append(f"Validation failed for {subject}: {failure.message}")
        elif action == "Audit":
            logger.info("policy %s, binding %s: %s", policy, binding, failure.message)


def _denial(policy: str, binding: str, failure: Failure, attributes: Attributes) -> StatusError:
    text = f"ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {failure.message}"
    problem = errors.forbidden(attributes.kind.resource.group_resource, attributes.shown_name, text)
    problem.reason = failure.reason
    problem.code = _CODES.get(failure.reason, 422)
    problem.details = {**(problem.details or {}), "causes": [{"message": text}]}
    return problem
