"""kopf: a real operator with handlers of every kind, webhooks and peering, runs unchanged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench.processes import free_port

from kube.machinery.errors import StatusError
from kube.machinery.resources import CRDS, EVENTS, Resource
from solo.auth.pki import ensure_pki

GEARS = Resource("gears.example.com", "v1", "gears", "Gear")
PEERINGS = Resource("kopf.dev", "v1", "clusterkopfpeerings", "ClusterKopfPeering", namespaced=False)
HOOKS = [
    Resource("admissionregistration.k8s.io", "v1", f"{kind.lower()}s", kind, namespaced=False)
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
]


def identity(resource: Resource, name: str) -> dict:
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name}}


def until(condition, log: Path, timeout: float = 20.0):
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    return value


@pytest.fixture(scope="module")
def peering(admin):
    """The kind that kopf's operators know each other by, and the one object of it."""
    part = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True}
    version["schema"] = {"openAPIV3Schema": {"type": "object", "properties": {"status": part}}}
    names = {"plural": PEERINGS.plural, "singular": "clusterkopfpeering", "kind": PEERINGS.kind}
    spec = {"group": PEERINGS.group, "scope": "Cluster", "versions": [version], "names": names}
    name = f"{PEERINGS.plural}.{PEERINGS.group}"
    admin.create(CRDS, {**identity(CRDS, name), "spec": spec})
    admin.create(PEERINGS, identity(PEERINGS, "operators"))
    yield PEERINGS
    admin.delete(CRDS, name)


@pytest.fixture(scope="module")
def operator(cluster, admin, gears, peering, tmp_path_factory):
    """The operator, when it has announced itself; its log."""
    directory = tmp_path_factory.mktemp("operator")
    log = directory / "log"
    ensure_pki(directory, "operator", ["127.0.0.1"])
    module = Path(__file__).with_name("operator_kopf.py")
    command = [sys.executable, "-m", "kopf", "run", "--all-namespaces", "--verbose", str(module)]
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    environment |= {"WEBHOOK_PORT": str(free_port()), "WEBHOOK_CERTIFICATES": str(directory)}
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
    try:
        until(lambda: admin.get(peering, "operators").get("status"), log)
        for hooks in HOOKS:
            until(lambda hooks=hooks: [item for item in admin.list(hooks)["items"] if item.get("webhooks")], log)
        yield log
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
    assert not (admin.get(peering, "operators").get("status") or {}), "the operator did not sign off"


def gear(**spec):
    return {**identity(GEARS, "g"), "spec": spec}


def test_handlers(operator, admin, namespace):
    def status():
        return admin.get(GEARS, "g", namespace).get("status") or {}

    admin.create(GEARS, gear(teeth=3, colour="red"), namespace)
    made = until(lambda: status().get("created"), operator)
    meta = admin.get(GEARS, "g", namespace)["metadata"]
    assert made == {"teeth": 3, "child": meta["uid"]}
    assert meta["finalizers"] == ["operator.example.com/finalizer"]
    until(lambda: status().get("ticks") == 3 and "WATCHED g" in operator.read_text(), operator)
    admin.patch(GEARS, "g", {"spec": {"colour": "blue"}}, namespace)
    until(lambda: status().get("colour") == "red->blue", operator)
    until(lambda: status().get("changed") == ["spec.colour"], operator)
    until(lambda: [item for item in admin.list(EVENTS, namespace)["items"] if item["reason"] == "Geared"], operator)
    admin.delete(GEARS, "g", namespace)
    until(lambda: not admin.list(GEARS, namespace)["items"], operator)
    assert "GONE g" in operator.read_text() and "STOPPED g" in operator.read_text()


def test_webhooks(operator, admin, namespace):
    assert admin.create(GEARS, gear(teeth=3), namespace)["spec"]["colour"] == "grey"
    with pytest.raises(StatusError, match="teeth cannot be negative"):
        admin.patch(GEARS, "g", {"spec": {"teeth": -1}}, namespace)
    admin.delete(GEARS, "g", namespace)
    until(lambda: not admin.list(GEARS, namespace)["items"], operator)
