"""Run a preflight check of the machines on demand and print what it found; exit code 1 if it failed."""

from __future__ import annotations

import argparse
import time
import uuid

from kube.client.sync import SyncClient
from vmruntime.api import preflightcheck, vmruntime
from vmruntime.api.meta import Obj, dig
from vmruntime.api.names import NAMESPACE, PREFLIGHT_PREFIX
from vmruntime.cli.bmctl import options, runtime
from vmruntime.cli.dispatch import CommandError
from vmruntime.cli.terminal import say, table


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_kubeconfig(parser)
    options.add_timeout(parser, "5m")


def run(args: argparse.Namespace) -> int:
    with runtime.connect(args.kubeconfig, args.context) as client:
        if not vmruntime.is_enabled(runtime.read(client)):
            raise CommandError("the VM runtime is disabled; preflight checks run once it is enabled")
        name = f"{PREFLIGHT_PREFIX}{uuid.uuid4()}"
        created = client.create(preflightcheck.RESOURCE, preflightcheck.check_object(name), NAMESPACE)
        say(f"Started preflight check {name}")
        done = _wait(client, created, args.timeout)
    print(table(("NODE", "CHECK", "PASSED", "MESSAGE"), _rows(done)))
    passed = bool(done["status"]["passed"])
    say(f"Preflight check {name} {'passed' if passed else 'failed'}")
    return 0 if passed else 1


def _wait(client: SyncClient, check: Obj, timeout: float) -> Obj:
    deadline = time.monotonic() + timeout
    name = check["metadata"]["name"]
    while not preflightcheck.is_done(check):
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise CommandError(f"preflight check {name} has no result after {timeout:.0f} s")
        version, selector = check["metadata"]["resourceVersion"], f"metadata.name={name}"
        events = client.watch(
            preflightcheck.RESOURCE,
            NAMESPACE,
            resource_version=version,
            field_selector=selector,
            timeout=min(remaining, runtime.WATCH_SECONDS),
        )
        for event in events:
            check = event["object"]
            break
        else:
            check = client.get(preflightcheck.RESOURCE, name, NAMESPACE)
    return check


def _rows(check: Obj) -> list[list[str]]:
    return [
        [node, result["checkName"], str(result["passed"]).lower(), " ".join(result.get("message", "").split())]
        for node, outcome in sorted(dig(check, "status", "checks", default={}).items())
        for result in outcome.get("results", [])
    ]
