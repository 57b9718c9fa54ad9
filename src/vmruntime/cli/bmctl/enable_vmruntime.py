"""Switch the VM runtime on and wait until it is ready.

Emulation and the image format are settings of the VMRuntime object: `kubectl edit vmruntime`.
"""

from __future__ import annotations

import argparse

from kube.client.sync import SyncClient
from kube.machinery.errors import StatusError
from vmruntime.api import vmruntime
from vmruntime.api.meta import Obj, dig
from vmruntime.cli.bmctl import options, runtime
from vmruntime.cli.dispatch import CommandError, Interrupted
from vmruntime.cli.terminal import Progress, say, warn


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_kubeconfig(parser)
    options.add_timeout(parser, "10m")


def run(args: argparse.Namespace) -> int:
    with runtime.connect(args.kubeconfig, args.context) as client:
        _switch_on(client)
        progress = Progress()
        try:
            ready = runtime.wait(
                client, _is_ready, lambda r: progress.report(runtime.progress_message(r)), args.timeout
            )
        except TimeoutError:
            message = f"the VM runtime is not ready after {args.timeout:.0f} s; `kubectl describe vmruntime` says more"
            raise CommandError(message) from None
        except KeyboardInterrupt:
            raise Interrupted("Interrupted: the VM runtime goes on being enabled in the cluster.") from None
    say("Enable vmruntime succeeded")
    _warn_of_preflight(ready)
    return 0


def _switch_on(client: SyncClient) -> None:
    """One write, of an object that was seen switched off. Consent to a disable that this calls off goes in the same
    moment, so that no later one can find it."""
    while True:
        found = runtime.read(client)
        if vmruntime.is_enabled(found):
            raise CommandError("the VM runtime is enabled already")
        metadata = {
            "resourceVersion": found["metadata"]["resourceVersion"],
            "annotations": dict.fromkeys(vmruntime.one_time_annotations(found)),
        }
        try:
            runtime.switch(client, {"metadata": metadata, "spec": {"enabled": True}})
            return
        except StatusError as error:
            if error.reason != "Conflict":  # otherwise the controller has just written how far it is
                raise


def _is_ready(found: Obj) -> bool:
    if not vmruntime.is_enabled(found):
        raise CommandError("somebody switched the VM runtime off again meanwhile")
    return runtime.settled(found) and dig(found, "status", "ready") is True


def _warn_of_preflight(found: Obj) -> None:
    summary = dig(found, "status", "preflightCheckSummary", default={})
    if summary.get("preflightCheckPassed") is False:
        reason = summary.get("message") or "`bmctl check vmruntimepfc` says why"
        warn(f"preflight check {summary['preflightCheckName']} failed, so no VM can be created: {reason}")
