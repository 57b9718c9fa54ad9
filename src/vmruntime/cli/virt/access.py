"""Access requests that a command makes for its own use: made, waited for, and taken away again."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from kube.client.errors import ConnectionFailed
from kube.machinery.errors import StatusError
from vmruntime.api import names, virtualmachine
from vmruntime.api import virtualmachineaccessrequest as api
from vmruntime.api.meta import Obj, dig, name_of, uid_of
from vmruntime.cli.dispatch import CommandError
from vmruntime.cli.terminal import warn
from vmruntime.cli.virt import power
from vmruntime.cli.virt.target import Target

WAIT_SECONDS = 90.0
_QUIET_SECONDS = 2.0


def check(vm: Target) -> Obj:
    """The VM, if its guest agent can be expected to answer. Raises CommandError that says what to do."""
    found = vm.read()
    if not virtualmachine.uses_guest_agent(found):
        raise CommandError(
            f'VM "{vm.name}" has no guest agent: set spec.osType, and no empty spec.guestEnvironment, and restart it'
        )
    if power.state(found) != virtualmachine.RUNNING:
        raise CommandError(f'VM "{vm.name}" is {power.state(found)}; `kubectl virt start {vm.name}` starts it')
    return found


@contextmanager
def request(vm: Target, user: str, how: Obj) -> Iterator[Obj]:
    """An access request for `user`; it is deleted at the end, and by itself when that does not happen."""
    wanted: Obj = {
        "apiVersion": api.RESOURCE.api_version,
        "kind": api.RESOURCE.kind,
        "metadata": {
            "name": f"{vm.name}-{secrets.token_hex(4)}",
            "namespace": vm.namespace,
            "annotations": {names.TEMPORARY_ANNOTATION: "true"},
        },
        "spec": {"vm": vm.name, "user": user, **how},
    }
    made = vm.client.create(api.RESOURCE, wanted)
    try:
        yield made
    finally:
        # What cannot be deleted now is deleted when it has expired.
        with suppress(StatusError, ConnectionFailed):
            vm.client.delete(api.RESOURCE, name_of(made), vm.namespace, uid=uid_of(made))


def await_configured(vm: Target, made: Obj) -> None:
    """Wait until the request is carried out. Raises CommandError where that fails or takes too long."""
    began = time.monotonic()
    told = ""
    found = made
    while True:
        state, message = api.state(found), str(dig(found, "status", "message", default=""))
        if state == api.CONFIGURED:
            return
        waited = time.monotonic() - began
        if state in (api.FAILED, api.EXPIRED):
            raise CommandError(f'VM "{vm.name}": {message}')
        if waited >= WAIT_SECONDS:
            raise CommandError(f'VM "{vm.name}" did not let {api.user(made)} in within {WAIT_SECONDS:.0f} s: {message}')
        if message and message != told and waited >= _QUIET_SECONDS:
            warn(f"waiting: {message}")
            told = message
        found = _next(vm, found)


def _next(vm: Target, found: Obj) -> Obj:
    """The request after its next change, or after a moment."""
    stream = vm.client.watch(
        api.RESOURCE,
        vm.namespace,
        resource_version=str(dig(found, "metadata", "resourceVersion")),
        field_selector=f"metadata.name={name_of(found)}",
        timeout=_QUIET_SECONDS,
    )
    try:
        for event in stream:
            if event["type"] == "DELETED":
                raise CommandError(f'the access request "{name_of(found)}" was deleted')
            if event["type"] in ("ADDED", "MODIFIED"):
                return dict(event["object"])
    except StatusError as error:
        if error.code != 410:  # too long ago
            raise
    return vm.client.get(api.RESOURCE, name_of(found), vm.namespace)
