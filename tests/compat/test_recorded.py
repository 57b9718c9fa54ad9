"""What a real kube-apiserver answered, replayed: the recordings and definitions beside the project, where they are."""

from __future__ import annotations

import json
import os
import types
from pathlib import Path

import pytest

from kube.client.config import load_kubeconfig
from kube.client.sync import SyncClient
from kube.machinery.resources import CRDS, Resource

SHARED = Path(__file__).parents[3] / "shared"
RECORDS = SHARED / "testdata" / "transcripts"
DEFINITIONS = sorted((SHARED / "testdata" / "crds").glob("*.yaml"))

# Steps that differ on purpose (docs/solo.md), or in the words of Go; their status codes are the same.
DIFFERENT = {
    "cm wrong version",
    "cm bad json",
    "cm not an object",
    "cm yaml",
    "cm wrong type of field",
    "cm json patch test fails",
    "cm json patch bad path",
    "cm table",
    "cm not acceptable",
    "crd create",
    "finalizer no new one",
    "watch too old",
    "watch initial events",
    "self subject review",
}
# Recorded with a token; here the client certificate speaks for whoever asks.
BY_TOKEN = {"anonymous", "bad token"}


@pytest.fixture(scope="module")
def transcript():
    path = SHARED / "tools" / "transcript.py"
    if not path.exists():
        pytest.skip("no recordings beside the project")
    module = types.ModuleType("transcript")
    exec(compile(path.read_text().replace("sys.exit(main())", ""), str(path), "exec"), module.__dict__)
    connections = []

    def connect(kubeconfig, original=module.connect):
        connections.append(original(kubeconfig))
        return connections[-1]

    module.connect = connect
    yield module
    for connection, _ in connections:
        connection.close()


def test_answers_are_those_of_a_real_server(cluster, transcript, monkeypatch):
    # The tool reads the kubeconfig by way of whatever kubectl is on the path.
    monkeypatch.setenv("PATH", str(Path(cluster.command[0]).parent), prepend=os.pathsep)
    wrong = []
    for part in ("core", "custom-resources"):
        steps = json.loads((RECORDS / f"kube-apiserver-1.36-{part}.json").read_text())
        plain = [{k: v for k, v in step.items() if k not in ("status", "warning", "answer")} for step in steps]
        for want, got in zip(steps, transcript.run(plain, str(cluster.kubeconfig)), strict=True):
            name = want["name"]
            if name in BY_TOKEN:
                continue
            if want["status"] != got["status"] or want.get("warning") != got["warning"]:
                wrong.append(f"{name}: {want['status']} {want.get('warning')}, not {got['status']} {got['warning']}")
            elif name not in DIFFERENT:
                wrong += [f"{name}: {text}" for text in transcript.differences(want["answer"], got["answer"])]
    assert wrong == []


@pytest.mark.skipif(not DEFINITIONS, reason="no definitions beside the project")
def test_definitions_of_others_are_accepted_and_served(cluster):
    directory = str(DEFINITIONS[0].parent)
    cluster.kubectl("create", "--dry-run=server", "-f", directory)
    cluster.kubectl("apply", "--server-side", "-f", directory)
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=40s", "-f", directory)
    with SyncClient(load_kubeconfig(str(cluster.kubeconfig))) as client:
        for path in DEFINITIONS:
            plural, _, group = path.stem.partition(".")
            for served in client.get(CRDS, path.stem)["spec"]["versions"]:
                if served["served"]:
                    assert client.list(Resource(group, served["name"], plural, ""))["items"] == []
    cluster.kubectl("delete", "-f", directory, "--timeout=20s")
