"""What the admission policies written in CEL have in common: bindings, parameters, variables and match conditions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kube.machinery.cel.costs import PER_OBJECT, Meter
from kube.machinery.cel.literals import without_types
from kube.machinery.cel.values import plain
from kube.machinery.errors import StatusError
from kube.machinery.resources import ADMISSION_GROUP
from solo.auth.rbac import Authorizer as Access
from solo.registry.authority import authorizer_of
from solo.registry.catalog import Catalog
from solo.registry.kinds import Kind
from solo.registry.matching import Matcher, SelectorError, read_selector
from solo.registry.objects import dig
from solo.registry.registry import Attributes
from solo.registry.review import admission_request
from solo.registry.views import Views
from solo.store import Key, Store, Stored

Obj = dict[str, Any]

VARIABLES = ("object", "oldObject", "request", "params", "namespaceObject", "variables", "authorizer")
OUT_OF_BUDGET = "validation failed due to running out of cost budget, no further validation rules will be run"


class NotConfigured(Exception):
    """A policy cannot be evaluated for want of its parameters, or because its selectors cannot be read."""


class BoundPolicies:
    """The policies of one kind (`policies` and `bindings` are group resources) as requests meet them."""

    def __init__(
        self, store: Store, catalog: Catalog, views: Views, access: Access, policies: str, bindings: str
    ) -> None:
        self._store = store
        self._access = access
        self._views = views
        self._catalog = catalog
        self._matcher = Matcher(store, catalog)
        self._policies = policies
        self._bindings = bindings

    def applicable(self, attributes: Attributes) -> Iterator[tuple[Stored, Stored]]:
        """Policies with the bindings by which they apply, in order of the bindings' names.

        None for the objects that steer admission itself, so that they can be repaired.
        """
        if attributes.kind.resource.group == ADMISSION_GROUP or not self._store.count(self._bindings):
            return
        for binding in self._store.list(self._bindings)[0]:
            policy = self._store.get(Key(self._policies, "", dig(binding.obj, "spec", "policyName") or ""))
            if policy is not None and self._applies(policy.obj, binding.obj, attributes):
                yield policy, binding

    def _applies(self, policy: Obj, binding: Obj, attributes: Attributes) -> bool:
        """Whether both match; selectors that cannot be read do, since `evaluations` then raises."""
        try:
            return all(self._matcher.matches(match, attributes) for match in _matches(policy, binding))
        except SelectorError:
            return True

    async def evaluations(self, policy: Obj, binding: Obj, attributes: Attributes) -> list[Evaluation]:
        """One evaluation for each parameter object. Raises NotConfigured."""
        _check_selectors(policy, binding)
        shared = {
            "object": attributes.obj,
            "oldObject": attributes.old,
            "request": admission_request(attributes),
            "authorizer": authorizer_of(self._access, attributes),
            "namespaceObject": self._matcher.namespace_object(attributes.namespace),
        }
        return [
            Evaluation(policy["spec"], {**shared, "params": parameter})
            for parameter in await self._parameters(policy, binding, attributes)
        ]

    async def _parameters(self, policy: Obj, binding: Obj, attributes: Attributes) -> list[Obj | None]:
        """The parameter objects; [None] for a policy without any."""
        param_kind, reference = policy["spec"].get("paramKind"), binding["spec"].get("paramRef")
        if not param_kind or not reference:
            return [None]
        kind = self._catalog.by_kind(param_kind["apiVersion"], param_kind["kind"])
        if kind is None:
            raise NotConfigured(
                "failed to configure policy: failed to find resource referenced by paramKind: "
                f"'{param_kind['apiVersion']}, Kind={param_kind['kind']}'"
            )
        try:
            found = await self._views.all(kind, self._find(kind, reference, attributes))
        except StatusError as problem:
            raise NotConfigured(f"failed to configure binding: {problem.message}") from None
        if not found and reference.get("parameterNotFoundAction") == "Deny":
            raise NotConfigured(
                "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
            )
        return [kind.served(item.obj) for item in found]

    def _find(self, kind: Kind, reference: Obj, attributes: Attributes) -> list[Stored]:
        namespace = ""
        if kind.resource.namespaced:
            namespace = reference.get("namespace") or attributes.namespace
            if not namespace:
                raise NotConfigured("failed to configure binding: cannot use namespaced paramRef in policy binding "
                                    "that matches cluster-scoped resources")  # fmt: skip
        if reference.get("name"):
            stored = self._store.get(Key(kind.store_resource, namespace, reference["name"]))
            return [stored] if stored else []
        try:
            selector = read_selector(reference.get("selector") or {})
        except SelectorError as problem:
            raise NotConfigured(f"failed to configure binding: {problem}") from None
        items = self._store.list(kind.store_resource, namespace or None)[0]
        return [item for item in items if selector.matches(dig(item.obj, "metadata", "labels"))]


def _matches(policy: Obj, binding: Obj) -> tuple[Obj | None, Obj | None]:
    """What a policy and its binding are about."""
    return policy["spec"].get("matchConstraints"), binding["spec"].get("matchResources")


def _check_selectors(policy: Obj, binding: Obj) -> None:
    """Raises NotConfigured for a selector that cannot be read."""
    for match in _matches(policy, binding):
        for key in ("namespaceSelector", "objectSelector"):
            selector = dig(match, key)
            if selector:
                try:
                    read_selector(selector)
                except SelectorError as problem:
                    raise NotConfigured(f"failed to configure policy: {problem}") from None


class Evaluation:
    """One policy on one request with one parameter object; variables are evaluated when an expression needs them."""

    def __init__(self, spec: Obj, activation: Obj) -> None:
        self._spec = spec
        self._activation = activation
        self._definitions = {item["name"]: item["expression"] for item in spec.get("variables") or []}
        self._values: Obj = {}
        self._budget = PER_OBJECT

    def conditions_hold(self) -> bool:
        """Whether all match conditions hold. Raises CelError."""
        conditions = self._spec.get("matchConditions") or []
        return all(self.evaluate(condition["expression"]) is True for condition in conditions)

    def show(self, obj: Obj | None) -> None:
        """Let the expressions that follow see another object."""
        self._activation = {**self._activation, "object": obj}
        self._values = {}

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of the policy. Raises CelError, also when all together cost too much."""
        from kube.machinery.cel import CelCostError, compile_cel

        program = compile_cel(without_types(expression), VARIABLES)
        for name in program.refers_to("variables"):
            if name in self._definitions and name not in self._values:
                self._values[name] = self.evaluate(self._definitions[name])
        meter = Meter()
        try:
            return plain(program.run({**self._activation, "variables": self._values}, meter))
        finally:
            self._budget -= meter.cost
            if self._budget < 0:
                raise CelCostError(OUT_OF_BUDGET)
