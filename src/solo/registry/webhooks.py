"""Mutating and validating webhooks: which are called for a request, in which order, and what becomes of their answers.

Rules of apiserver's `admission/plugin/webhook`: mutating webhooks one after another in order of their configurations'
names, once more where they ask for it and the object has changed since; validating ones at once, after everything else.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kube.machinery import errors
from kube.machinery.errors import StatusError
from kube.machinery.resources import ADMISSION_GROUP
from solo.auth.rbac import Authorizer
from solo.registry.acceptance import decode_mutated
from solo.registry.authority import authorizer_of
from solo.registry.calling import Caller, CallError
from solo.registry.catalog import Catalog
from solo.registry.matching import Matcher, SelectorError
from solo.registry.objects import copy
from solo.registry.registry import Attributes
from solo.registry.review import (
    Answer,
    ReviewError,
    admission_request,
    admission_review,
    check_mutating,
    check_validating,
    read_answer,
)
from solo.store import Store

logger = logging.getLogger(__name__)

Obj = dict[str, Any]

VARIABLES = ("object", "oldObject", "request", "authorizer")
_MUTATING = f"mutatingwebhookconfigurations.{ADMISSION_GROUP}"
_VALIDATING = f"validatingwebhookconfigurations.{ADMISSION_GROUP}"
_DRY = ("None", "NoneOnDryRun")


@dataclass(frozen=True, slots=True)
class _Hook:
    name: str
    spec: Obj

    @property
    def ignores_failure(self) -> bool:
        return self.spec.get("failurePolicy") == "Ignore"


class _Dispatcher:
    """What both kinds of webhooks have in common."""

    resource = ""
    check_patch: Callable[[Obj], None]

    def __init__(self, store: Store, catalog: Catalog, call: Caller, access: Authorizer) -> None:
        self._store = store
        self._access = access
        self._matcher = Matcher(store, catalog)
        self._call = call

    def _hooks(self, attributes: Attributes) -> Iterator[_Hook]:
        """All webhooks, in order; none for the objects that steer admission itself, so that they can be repaired."""
        if attributes.kind.resource.group == ADMISSION_GROUP or not self._store.count(self.resource):
            return
        for stored in self._store.list(self.resource)[0]:
            for spec in stored.obj.get("webhooks") or []:
                yield _Hook(spec["name"], spec)

    def _applies(self, hook: _Hook, attributes: Attributes) -> bool:
        """Whether a webhook is to be called. Raises 403 where that cannot be told and it must not be ignored."""
        spec = hook.spec
        if not spec.get("rules"):
            return False
        try:
            about = self._matcher.matches({**spec, "resourceRules": spec["rules"]}, attributes)
            return about and _conditions_hold(spec, attributes, self._access)
        except (SelectorError, _ConditionError) as problem:
            if hook.ignores_failure:
                return False
            name = attributes.shown_name
            raise errors.forbidden(attributes.kind.resource.group_resource, name, str(problem)) from None

    async def _ask(self, hook: _Hook, attributes: Attributes) -> Answer | None:
        """A webhook's answer; None when it failed and that is to be ignored. Raises its refusal, and 400 or 500."""
        if attributes.context.dry_run and hook.spec.get("sideEffects") not in _DRY:
            raise errors.bad_request(f'admission webhook "{hook.name}" does not support dry run')
        review = admission_review(attributes, attributes.obj)
        seconds = int(hook.spec.get("timeoutSeconds") or 10)
        try:
            given = await self._call(_timed(hook.spec["clientConfig"], seconds), review, float(seconds))
            answer = read_answer(review, given, hook.name, attributes.obj, self.check_patch)
        except (CallError, ReviewError) as problem:
            text = f'failed calling webhook "{hook.name}": {problem}'
            logger.warning("%s", text)
            if hook.ignores_failure:
                return None
            raise errors.internal(text) from None
        attributes.context.warnings.extend(answer.warnings)
        if answer.denial is not None:
            raise answer.denial
        return answer


class MutatingWebhooks(_Dispatcher):
    """Calls the webhooks that may change an object before it is validated."""

    resource = _MUTATING
    check_patch = staticmethod(check_mutating)

    async def mutate(self, attributes: Attributes) -> None:
        """Let every webhook that applies change `attributes.obj`. Raises StatusError for refusals and failures."""
        called: list[tuple[_Hook, Obj | None]] = []
        for hook in self._hooks(attributes):
            if self._applies(hook, attributes):
                await self._change(hook, attributes)
                called.append((hook, attributes.obj))
        for hook, left in called:
            again = hook.spec.get("reinvocationPolicy") == "IfNeeded" and attributes.obj != left
            if again and self._applies(hook, attributes):
                await self._change(hook, attributes)

    async def _change(self, hook: _Hook, attributes: Attributes) -> None:
        answer = await self._ask(hook, attributes)
        if answer is not None and answer.patched is not None:
            changed: Obj = copy(answer.patched)
            _decode(attributes, changed)
            attributes.obj = changed


class ValidatingWebhooks(_Dispatcher):
    """Calls the webhooks that may only refuse. An admission plug-in."""

    resource = _VALIDATING
    check_patch = staticmethod(check_validating)

    async def admit(self, attributes: Attributes) -> None:
        """Raises the first refusal or failure, in order of the webhooks."""
        hooks = [hook for hook in self._hooks(attributes) if self._applies(hook, attributes)]
        outcomes = await asyncio.gather(*(self._ask(hook, attributes) for hook in hooks), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome


def _decode(attributes: Attributes, obj: Obj) -> None:
    """Take an object as a webhook left it, in place. Raises 500: it is not the client's fault."""
    if attributes.operation == "CONNECT":  # what becomes of its options is not taken up
        return
    try:
        decode_mutated(attributes.kind, attributes.subresource, obj, attributes.context)
    except StatusError as problem:
        raise errors.internal(_SUBJECT.sub("", problem.message)) from None


_SUBJECT = re.compile(r'^\w+ in version "\w+" cannot be handled as a \w+: ')


def _timed(config: Obj, seconds: int) -> Obj:
    """Where to call a webhook, told in the query how long it has."""
    asked = f"?timeout={seconds}s"
    if config.get("url"):
        return {**config, "url": config["url"] + asked}
    service = config.get("service") or {}
    return {**config, "service": {**service, "path": (service.get("path") or "/") + asked}}


class _ConditionError(Exception):
    """A match condition that cannot be evaluated."""


def _conditions_hold(spec: Obj, attributes: Attributes, access: Authorizer) -> bool:
    """Whether all matchConditions hold; one that does not decides even if others cannot be evaluated."""
    conditions = spec.get("matchConditions") or []
    if not conditions:
        return True
    from kube.machinery.cel import CelError, compile_cel

    activation = {
        "object": attributes.obj,
        "oldObject": attributes.old,
        "request": admission_request(attributes),
        "authorizer": authorizer_of(access, attributes),
    }
    problems = []
    for condition in conditions:
        try:
            if compile_cel(condition["expression"], VARIABLES).evaluate(activation) is not True:
                return False
        except CelError as problem:
            problems.append(f"expression '{condition['expression']}' resulted in error: {problem}")
    if problems:
        raise _ConditionError("; ".join(problems))
    return True
