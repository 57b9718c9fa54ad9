"""ValidatingAdmissionPolicy: CEL rules that cluster administrators write, with parameters (admissionregistration/v1).

A policy acts through its bindings; each binding brings parameters and says whether a failed validation denies, warns
or is only noted. Messages are those of apiserver's `admission/plugin/policy/validating`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kube.machinery import errors
from kube.machinery.errors import StatusError
from kube.machinery.resources import VALIDATINGADMISSIONPOLICIES, VALIDATINGADMISSIONPOLICYBINDINGS
from kube.machinery.selectors import label_selector_from_dict
from solo.registry.catalog import Catalog
from solo.registry.kinds import Kind
from solo.registry.matching import Matcher
from solo.registry.objects import dig
from solo.registry.registry import Attributes
from solo.registry.review import admission_request
from solo.store import Key, Store

logger = logging.getLogger(__name__)

Obj = dict[str, Any]

VARIABLES = ("object", "oldObject", "request", "params", "namespaceObject", "variables")
_POLICIES = VALIDATINGADMISSIONPOLICIES.group_resource
_BINDINGS = VALIDATINGADMISSIONPOLICYBINDINGS.group_resource
_CODES = {"Unauthorized": 401, "Forbidden": 403, "RequestEntityTooLarge": 413, "Invalid": 422}


@dataclass(frozen=True, slots=True)
class Failure:
    """One validation that did not hold, or a policy that could not be evaluated."""

    message: str
    reason: str = "Invalid"


class PolicyAdmission:
    """The admission plug-in."""

    def __init__(self, store: Store, catalog: Catalog) -> None:
        self._store = store
        self._catalog = catalog
        self._matcher = Matcher(store, catalog)

    async def admit(self, attributes: Attributes) -> None:
        """Evaluate every policy that is bound to this request. Raises the denial, 401, 403, 413 or 422."""
        if attributes.kind.store_resource in (_POLICIES, _BINDINGS) or not self._store.count(_BINDINGS):
            return
        for stored in self._store.list(_BINDINGS)[0]:
            binding = stored.obj
            policy = self._store.get(Key(_POLICIES, "", dig(binding, "spec", "policyName") or ""))
            if policy is None or not self._applies(policy.obj, binding, attributes):
                continue
            for failure in self._failures(policy.obj, binding, attributes):
                _act(policy.key.name, stored.key.name, binding, failure, attributes)

    def _applies(self, policy: Obj, binding: Obj, attributes: Attributes) -> bool:
        return self._matcher.matches(policy["spec"].get("matchConstraints"), attributes) and self._matcher.matches(
            binding["spec"].get("matchResources"), attributes
        )

    def _failures(self, policy: Obj, binding: Obj, attributes: Attributes) -> Iterator[Failure]:
        """What is wrong with the request in the eyes of one binding."""
        ignore = policy["spec"].get("failurePolicy") == "Ignore"
        try:
            parameters = self._parameters(policy, binding, attributes)
        except _NotConfigured as problem:
            if not ignore:
                yield Failure(str(problem))
            return
        shared = self._activation(attributes)
        for parameter in parameters:
            evaluation = _Evaluation(policy["spec"], {**shared, "params": parameter}, ignore)
            yield from evaluation.failures()

    def _activation(self, attributes: Attributes) -> Obj:
        return {
            "object": attributes.obj,
            "oldObject": attributes.old,
            "request": admission_request(attributes),
            "namespaceObject": self._matcher.namespace_object(attributes.namespace),
        }

    def _parameters(self, policy: Obj, binding: Obj, attributes: Attributes) -> list[Obj | None]:
        """The parameter objects; [None] for a policy without any. Raises _NotConfigured."""
        param_kind, reference = policy["spec"].get("paramKind"), binding["spec"].get("paramRef")
        if not param_kind or not reference:
            return [None]
        kind = self._catalog.by_kind(param_kind["apiVersion"], param_kind["kind"])
        if kind is None:
            raise _NotConfigured(
                "failed to configure policy: failed to find resource referenced by paramKind: "
                f"'{param_kind['apiVersion']}, Kind={param_kind['kind']}'"
            )
        found = self._find(kind, reference, attributes)
        if not found and reference.get("parameterNotFoundAction") == "Deny":
            raise _NotConfigured(
                "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
            )
        return list(found)

    def _find(self, kind: Kind, reference: Obj, attributes: Attributes) -> list[Obj]:
        namespace = ""
        if kind.resource.namespaced:
            namespace = reference.get("namespace") or attributes.namespace
            if not namespace:
                raise _NotConfigured("failed to configure binding: cannot use namespaced paramRef in policy binding "
                                     "that matches cluster-scoped resources")  # fmt: skip
        if reference.get("name"):
            stored = self._store.get(Key(kind.store_resource, namespace, reference["name"]))
            return [kind.served(stored.obj)] if stored else []
        selector = label_selector_from_dict(reference.get("selector") or {})
        items = self._store.list(kind.store_resource, namespace or None)[0]
        return [kind.served(item.obj) for item in items if selector.matches(dig(item.obj, "metadata", "labels"))]


class _NotConfigured(Exception):
    """A policy cannot be evaluated for want of its parameters."""


class _Evaluation:
    """One policy on one request with one parameter object; variables are evaluated when an expression needs them."""

    def __init__(self, spec: Obj, activation: Obj, ignore_errors: bool) -> None:
        self._spec = spec
        self._activation = activation
        self._ignore_errors = ignore_errors
        self._definitions = {item["name"]: item["expression"] for item in spec.get("variables") or []}
        self._values: Obj = {}

    def failures(self) -> Iterator[Failure]:
        from kube.machinery.cel import CelError

        try:
            for condition in self._spec.get("matchConditions") or []:
                if self._evaluate(condition["expression"]) is not True:
                    return
        except CelError as problem:
            if not self._ignore_errors:
                yield Failure(f"failed to evaluate match conditions: {problem}")
            return
        for validation in self._spec.get("validations") or []:
            expression = validation["expression"]
            try:
                holds = self._evaluate(expression)
            except CelError as problem:
                if not self._ignore_errors:
                    yield Failure(f"expression '{expression}' resulted in error: {problem}")
                continue
            if holds is not True:
                yield Failure(self._message(validation), validation.get("reason") or "Invalid")

    def _evaluate(self, expression: str) -> Any:
        from kube.machinery.cel import compile_cel

        program = compile_cel(expression, VARIABLES)
        for name in program.refers_to("variables"):
            if name in self._definitions and name not in self._values:
                self._values[name] = self._evaluate(self._definitions[name])
        return program.evaluate({**self._activation, "variables": self._values})

    def _message(self, validation: Obj) -> str:
        """The message for a failed validation; a message expression that fails falls back to the plain message."""
        from kube.machinery.cel import CelError

        expression = validation.get("messageExpression")
        if expression:
            try:
                text = self._evaluate(expression)
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
    name = attributes.name or dig(attributes.obj, "metadata", "generateName") or ""
    text = f"ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {failure.message}"
    problem = errors.forbidden(attributes.kind.resource.group_resource, name, text)
    problem.reason = failure.reason
    problem.code = _CODES.get(failure.reason, 422)
    problem.details = {**(problem.details or {}), "causes": [{"message": failure.message}]}
    return problem
