"""The variable `authorizer` of admission expressions: may somebody do something (apiserver's pkg/cel/library/authz.go)?

`authorizer.group('apps').resource('deployments').namespace('x').check('create').allowed()`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kube.machinery import names
from kube.machinery.cel.values import CelError, no_overload


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: a verb on a resource, or on a path. `account` is "" for whoever makes the request."""

    account: str = ""
    verb: str = ""
    path: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""


Answer = Callable[[Question], tuple[bool, str]]
"""Whether it is allowed, and why."""


@dataclass(frozen=True, slots=True)
class Authorizer:
    cel_type = "kubernetes.authorization.Authorizer"
    answer: Answer
    account: str = ""
    request: Question | None = None
    """What the request itself does, for `authorizer.requestResource`."""

    @property
    def cel_fields(self) -> Mapping[str, Any]:
        if self.request is None:
            return {}
        return {"requestResource": Check(self.answer, replace(self.request, account=self.account))}


@dataclass(frozen=True, slots=True)
class Check:
    """A question that is not complete yet: a path, a group or a resource."""

    answer: Answer
    question: Question

    @property
    def cel_type(self) -> str:
        kind = "PathCheck" if self.question.path else "ResourceCheck" if self.question.resource else "GroupCheck"
        return f"kubernetes.authorization.{kind}"


@dataclass(frozen=True, slots=True)
class Decision:
    cel_type = "kubernetes.authorization.Decision"
    allowed: bool
    reason: str
    error: str = field(default="")


def _path(target: Authorizer, path: str) -> Check:
    if not path:
        raise CelError("path must not be empty")
    return Check(target.answer, Question(account=target.account, path=path))


def _group(target: Authorizer, group: str) -> Check:
    return Check(target.answer, Question(account=target.account, group=group))


def _service_account(target: Authorizer, namespace: str, name: str) -> Authorizer:
    if names.dns1123_subdomain(name):
        raise CelError("Invalid service account name")
    if names.dns1123_label(namespace):
        raise CelError("Invalid service account namespace")
    return replace(target, account=f"system:serviceaccount:{namespace}:{name}", request=None)


def _resource(target: Check, resource: str) -> Check:
    if not resource:
        raise CelError("resource must not be empty")
    return replace(target, question=replace(target.question, resource=resource))


def _part(key: str) -> Callable[[Check, str], Check]:
    def change(target: Check, value: str) -> Check:
        if not target.question.resource or not isinstance(value, str):
            raise no_overload()
        changes: dict[str, Any] = {key: value}
        return replace(target, question=replace(target.question, **changes))

    return change


def _selector(target: Check, _: str) -> Check:
    """Rules here know no selectors, so that one changes nothing: rights to a whole are asked for."""
    if not target.question.resource:
        raise no_overload()
    return target


def _check(target: Check, verb: str) -> Decision:
    if not (target.question.resource or target.question.path):
        raise no_overload()
    allowed, reason = target.answer(replace(target.question, verb=verb))
    return Decision(allowed, reason)


AUTHORIZER_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "path": _path,
    "group": _group,
    "serviceAccount": _service_account,
    "resource": _resource,
    "subresource": _part("subresource"),
    "namespace": _part("namespace"),
    "name": _part("name"),
    "fieldSelector": _selector,
    "labelSelector": _selector,
    "check": _check,
    "allowed": lambda decision: decision.allowed,
    "reason": lambda decision: decision.reason,
    "errored": lambda decision: bool(decision.error),
    "error": lambda decision: decision.error,
}
