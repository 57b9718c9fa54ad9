"""The controller of VirtualMachineAccessRequests: `access_decide` says what is to be done, this does it."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime

from kube.client.queue import Controller, WorkQueue
from kube.machinery.durations import now_rfc3339, rfc3339
from kube.machinery.resources import SECRETS
from vmruntime.api import names, virtualmachine
from vmruntime.api import virtualmachineaccessrequest as api
from vmruntime.api.meta import (
    Condition,
    Obj,
    dig,
    is_deleting,
    merge_conditions,
    name_of,
    namespace_of,
    owner_reference,
    uid_of,
)
from vmruntime.controllers import access_decide
from vmruntime.controllers.access_decide import Plan, Situation, Step
from vmruntime.controllers.cache import Key
from vmruntime.controllers.machine_request import ref_of
from vmruntime.controllers.objects import find, remove, set_finalizer, write_status
from vmruntime.controllers.stack import SYNC_SECONDS, Stack
from vmruntime.engines.base import Subject
from vmruntime.engines.common import GuestRefused, GuestUnavailable
from vmruntime.engines.machine import GuestKey

_WORKERS = 4
_UNAVAILABLE_SECONDS = 5.0


class _SecretMissing(Exception):
    """The password's Secret is not there, or is none."""


class AccessRequestController:
    """Level-triggered. That a guest has a key is known for its running session only, so that a guest which forgot its
    keys gets them again."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.queue: WorkQueue[Key] = WorkQueue()
        self.controller: Controller[Key] = Controller("access", self.queue, self.reconcile, workers=_WORKERS)
        self._done_in: dict[str, str] = {}
        stack.accesses.add_handler(self._request_changed)
        stack.machines.add_handler(lambda event, vm, old: self._enqueue_of(namespace_of(vm), name_of(vm)))
        stack.on_switch(self._enqueue_all)
        stack.engine.subscribe(self._engine_changed)

    def _request_changed(self, event: str, request: Obj, old: Obj | None) -> None:
        if event == "DELETED":
            self._done_in.pop(uid_of(request), None)
        self.queue.add((namespace_of(request), name_of(request)))

    def _engine_changed(self, subject: Subject, namespace: str, name: str) -> None:
        if subject is Subject.MACHINE:
            self._enqueue_of(namespace, name)

    def _enqueue_of(self, namespace: str, machine: str) -> None:
        for request in self._stack.accesses.items():
            if namespace_of(request) == namespace and api.machine_name(request) == machine:
                self.queue.add((namespace, name_of(request)))

    def _enqueue_all(self) -> None:
        for request in self._stack.accesses.items():
            self.queue.add((namespace_of(request), name_of(request)))

    async def reconcile(self, key: Key) -> float | None:
        """One pass; the seconds after which another is due at the latest."""
        stack = self._stack
        # Switched off there are no machines, and their kind is not watched; before that is known nothing is.
        if stack.active is not False and not await stack.machines.synced(SYNC_SECONDS):
            return 1.0
        request = stack.accesses.get(*key)
        if request is None:
            return None
        vm = self._machine_of(request)
        machine = await stack.engine.observe_machine(ref_of(vm)) if vm is not None else None
        done_in = self._done_in.get(uid_of(request), "")
        situation = Situation(request, vm, machine, datetime.now(UTC), done_in)
        return await self._take(situation, access_decide.decide(situation))

    def _machine_of(self, request: Obj) -> Obj | None:
        """The machine it was bound to, or is to be bound to: not another one that has its name by now."""
        vm = self._stack.machines.get(namespace_of(request), api.machine_name(request))
        owners = [
            str(owner.get("uid"))
            for owner in dig(request, "metadata", "ownerReferences", default=[])
            if owner.get("kind") == virtualmachine.RESOURCE.kind
        ]
        return vm if vm is not None and (not owners or uid_of(vm) in owners) else None

    async def _take(self, situation: Situation, plan: Plan) -> float | None:
        request, client = situation.request, self._stack.client
        if plan.step is Step.ADOPT:
            await self._adopt(situation)
        elif plan.step is Step.RELEASE:
            await set_finalizer(client, api.RESOURCE, request, names.ACCESS_FINALIZER, present=False)
        elif plan.step is Step.DELETE:
            await remove(client, api.RESOURCE, name_of(request), namespace_of(request))
        elif plan.step is Step.NONE:
            await self._write(request, plan)
        else:
            return await self._ask_guest(situation, plan)
        return plan.after

    async def _adopt(self, situation: Situation) -> None:
        """Finalizer and owner in one write: from then on the request goes with its machine."""
        request, vm = situation.request, situation.vm
        assert vm is not None
        meta = request["metadata"]
        reference = {**owner_reference(virtualmachine.RESOURCE, name_of(vm), uid_of(vm)), "controller": False}
        metadata = {
            "uid": uid_of(request),
            "resourceVersion": meta.get("resourceVersion"),
            "finalizers": [*meta.get("finalizers", []), names.ACCESS_FINALIZER],
            "ownerReferences": [*meta.get("ownerReferences", []), reference],
        }
        adopted = await self._stack.client.patch(
            api.RESOURCE, name_of(request), {"metadata": metadata}, namespace_of(request)
        )
        self._stack.accesses.wrote(adopted)
        self.queue.add((namespace_of(request), name_of(request)))

    async def _ask_guest(self, situation: Situation, plan: Plan) -> float | None:
        """The guest is told only what is on record before: should this process end in between, the next one knows."""
        request = situation.request
        if plan.step is not Step.REVOKE and not dig(request, "status", "guestToldTime"):
            note = Plan(Step.NONE, api.state(request), "Configuring", "the guest is being told")
            request = await self._write(request, note, guestToldTime=now_rfc3339())
        try:
            await self._tell(situation, plan.step)
        except _SecretMissing as exc:
            await self._write(request, Plan(Step.NONE, api.PENDING, "SecretMissing", str(exc)))
            return access_decide.secret_pause(situation)
        except GuestUnavailable as exc:
            if not is_deleting(request) and api.state(request) == api.PENDING:
                await self._write(request, Plan(Step.NONE, api.PENDING, "GuestAgentNotAnswering", str(exc)))
            return _UNAVAILABLE_SECONDS
        except GuestRefused as exc:
            await self._refused(request, plan.step, exc)
            return access_decide.RETRY_SECONDS
        if is_deleting(request):
            await set_finalizer(self._stack.client, api.RESOURCE, request, names.ACCESS_FINALIZER, present=False)
            return None
        if plan.step is Step.GRANT and situation.machine is not None:
            self._done_in[uid_of(request)] = situation.machine.session
        done = {} if plan.step is Step.REVOKE else {"configuredTime": now_rfc3339()}
        await self._write(request, plan, **{**done, **_present(request, "configuredTime")})
        return plan.after

    async def _tell(self, situation: Situation, step: Step) -> None:
        request, engine = situation.request, self._stack.engine
        assert situation.vm is not None
        ref = ref_of(situation.vm)
        if step is Step.SET_PASSWORD:
            password = await self._password(request)
            linux = virtualmachine.os_type(situation.vm) != "Windows"
            await engine.set_password(ref, api.user(request), password, may_create=linux)
            return
        expires = int(api.expires(request).timestamp())
        access = GuestKey(api.user(request), api.ssh_key(request), api.mark(request), expires)
        if step is Step.GRANT:
            await engine.grant_access(ref, access)
        else:
            await engine.revoke_access(ref, access)

    async def _password(self, request: Obj) -> str:
        name, namespace = api.password_secret(request), namespace_of(request)
        secret = await find(self._stack.client, SECRETS, name, namespace)
        if secret is None:
            raise _SecretMissing(f'Secret "{name}" does not exist in namespace {namespace}')
        if secret.get("type") != api.PASSWORD_SECRET_TYPE:
            raise _SecretMissing(f'Secret "{name}" is not of type {api.PASSWORD_SECRET_TYPE}')
        try:
            password = base64.b64decode(dig(secret, "data", api.PASSWORD_KEY, default="")).decode()
        except (binascii.Error, UnicodeDecodeError):
            password = ""
        # What follows a line's end would be another account to the program that sets passwords in a Linux guest.
        if not password or any(char in password for char in "\r\n\0"):
            raise _SecretMissing(f'Secret "{name}" has no key {api.PASSWORD_KEY} with a password of one line')
        return password

    async def _refused(self, request: Obj, step: Step, refusal: GuestRefused) -> None:
        if step is Step.SET_PASSWORD:
            # Not in the guest's words: it knows the password, and might say it.
            message = (
                "the guest did not set the password: the account may be missing, or the password against its rules"
            )
            await self._write(request, Plan(Step.NONE, api.FAILED, access_decide.REFUSED, message))
        elif step is Step.GRANT:
            await self._write(request, Plan(Step.NONE, api.FAILED, access_decide.REFUSED, f"in the guest: {refusal}"))
        else:
            plan = Plan(Step.NONE, api.state(request), access_decide.KEY_NOT_REMOVED, f"in the guest: {refusal}")
            await self._write(request, plan)

    async def _write(self, request: Obj, plan: Plan, **more: str) -> Obj:
        """The newest object."""
        if not plan.state:
            return request
        old: Obj = dig(request, "status", default={})
        generation = int(dig(request, "metadata", "generation", default=0))
        ready = Condition("Ready", plan.state == api.CONFIGURED, plan.reason, plan.message)
        status = {
            **old,
            **more,
            "state": plan.state,
            "reason": plan.reason,
            "message": plan.message,
            "expiryTime": rfc3339(api.expires(request)),
            "observedGeneration": generation,
            "conditions": merge_conditions(old.get("conditions", []), [ready], generation),
        }
        written = await write_status(self._stack.client, api.RESOURCE, request, status)
        if written is None:
            return request
        self._stack.accesses.wrote(written)
        return written


def _present(request: Obj, field: str) -> dict[str, str]:
    value = dig(request, "status", field)
    return {field: str(value)} if value else {}
