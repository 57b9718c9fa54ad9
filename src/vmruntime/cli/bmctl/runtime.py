"""The VMRuntime object as the commands see it: read it, wait until it says what was asked for."""

from __future__ import annotations

import time
from collections.abc import Callable

from kube.client.config import load_kubeconfig
from kube.client.sync import ConnectionFailed, SyncClient
from kube.machinery.errors import StatusError
from vmruntime.api import vmruntime
from vmruntime.api.meta import Obj, dig
from vmruntime.api.names import RUNTIME_NAME
from vmruntime.cli.dispatch import CommandError

# The longest that one watch may stay silent before the object is read anew.
WATCH_SECONDS = 10.0


def connect(kubeconfig: str | None, context: str | None) -> SyncClient:
    return SyncClient(load_kubeconfig(kubeconfig, context))


def read(client: SyncClient) -> Obj:
    """The VMRuntime object. Raises CommandError where the VM runtime is not installed."""
    try:
        return client.get(vmruntime.RESOURCE, RUNTIME_NAME)
    except StatusError as error:
        if error.code != 404:
            raise
        raise CommandError(
            "the VM runtime is not installed in this cluster (it has no VMRuntime object named vmruntime); "
            "clusters made with `bmctl create cluster` have it"
        ) from None


def wait(client: SyncClient, done: Callable[[Obj], bool], progress: Callable[[Obj], None], timeout: float) -> Obj:
    """Wait until `done` holds for the VMRuntime object and return it.

    An API server that goes away for a while is waited for. Raises TimeoutError after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            runtime = read(client)
            progress(runtime)
            if done(runtime):
                return runtime
            _until_changed(client, runtime, deadline)
        except (ConnectionFailed, StatusError) as error:
            if isinstance(error, StatusError) and error.code < 500:
                raise
            time.sleep(0.2)
        if time.monotonic() >= deadline:
            raise TimeoutError


def _until_changed(client: SyncClient, runtime: Obj, deadline: float) -> None:
    seconds = min(WATCH_SECONDS, max(0.1, deadline - time.monotonic()))
    version = runtime["metadata"]["resourceVersion"]
    selector = f"metadata.name={RUNTIME_NAME}"
    for _ in client.watch(vmruntime.RESOURCE, resource_version=version, field_selector=selector, timeout=seconds):
        return


def condition(runtime: Obj, type_: str) -> Obj:
    """The condition of that type, or an empty one."""
    conditions: list[Obj] = dig(runtime, "status", "conditions", default=[])
    return next((c for c in conditions if c["type"] == type_), {})


def switch(client: SyncClient, change: Obj) -> None:
    """One merge patch of the VMRuntime object."""
    client.patch(vmruntime.RESOURCE, RUNTIME_NAME, change)


def settled(runtime: Obj) -> bool:
    """Whether the controller has seen the spec as it is now."""
    return bool(dig(runtime, "status", "observedGeneration") == dig(runtime, "metadata", "generation"))


def progress_message(runtime: Obj) -> str:
    """What the controller says it is doing; empty where it is doing nothing."""
    if not settled(runtime):
        return "waiting for the controller manager"
    return str(condition(runtime, "Progressing").get("message") or "")
