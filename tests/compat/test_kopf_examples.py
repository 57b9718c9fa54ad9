"""kopf's own examples, unchanged: each runs as an operator of its own namespace."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from compat.programs import kopf_source
from kube.machinery.resources import CRDS, NAMESPACES, PODS, Resource

EXAMPLES = Resource("kopf.dev", "v1", "kopfexamples", "KopfExample")
SECONDS = 60.0
# What each says of an object that is created, and of one that is deleted.
SAID = {
    "01-minimal": (["And here we are! Creating: .*'duration': '1m'", "'create_fn' succeeded"], []),
    "02-children": (["'create_fn' succeeded"], []),
    "03-exceptions": (
        [
            "'instant_failure_with_only_a_message' failed permanently",
            "'instant_failure_with_traceback' failed with an exception and will stop",
            "'eventual_success_with_a_few_messages' succeeded",
            "'eventual_failure_with_tracebacks' failed (permanently|with an exception and will stop)",
        ],
        [],
    ),
    "05-handlers": (["CREATED 1st", "CREATED 2nd"], ["DELETED 1st", "DELETED 2nd", "Deleted, really deleted"]),
    "07-subhandlers": ([r"=== Handling creation for item1\. ===", r"=== Handling creation for item2\. ==="], []),
    "11-filtering-handlers": (
        ["Label is matching", "Label is present", "Annotation callback mismatch|Annotation is matching"],
        [],
    ),
    "14-daemons": (["Ping from a sync daemon", "Ping from an async daemon"], ["'background_async' is cancelled"]),
    "15-timers": (["Ping from a sync timer: field='value'"], []),
}


@dataclass
class Operator:
    """An example as a running operator."""

    name: str
    namespace: str
    process: subprocess.Popen[bytes]
    log: Path

    def said(self, pattern: str) -> bool:
        return re.search(pattern, self.log.read_text()) is not None

    def await_all(self, patterns: list[str]) -> None:
        deadline = time.monotonic() + SECONDS
        while missing := [pattern for pattern in patterns if not self.said(pattern)]:
            assert time.monotonic() < deadline, f"{self.name} did not say {missing}:\n{self.log.read_text()}"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def examples() -> Path:
    return kopf_source() / "examples"


@pytest.fixture(scope="module")
def operators(cluster, admin, examples: Path, tmp_path_factory) -> Iterator[dict[str, Operator]]:
    """All of them at once, each with one object that was there before it."""
    definition = yaml.safe_load((examples / "crd.yaml").read_text())
    admin.create(CRDS, definition)
    obj = yaml.safe_load((examples / "obj.yaml").read_text())
    started = {}
    for name in SAID:
        namespace = f"kopf-{name}"
        admin.create(NAMESPACES, {"metadata": {"name": namespace}})
        admin.create(EXAMPLES, obj, namespace)
        log = tmp_path_factory.mktemp(name) / "log"
        command = [sys.executable, "-u", "-m", "kopf", "run", "-n", namespace, "--standalone", "--verbose"]
        environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
        with log.open("w") as out:
            process = subprocess.Popen(
                [*command, str(examples / name / "example.py")], stdout=out, stderr=out, env=environment
            )
        started[name] = Operator(name, namespace, process, log)
    yield started
    for operator in started.values():
        operator.process.send_signal(signal.SIGINT)
    codes = {name: operator.process.wait(30) for name, operator in started.items()}
    for operator in started.values():
        admin.delete(NAMESPACES, operator.namespace)
    admin.delete(CRDS, definition["metadata"]["name"])
    assert set(codes.values()) == {0}, codes


def test_objects_that_are_created(operators: dict[str, Operator], admin) -> None:
    for name, (created, _) in SAID.items():
        operators[name].await_all(created)
        assert name == "03-exceptions" or not operators[name].said("Traceback"), operators[name].log.read_text()
    status = admin.get(EXAMPLES, "kopf-example-1", operators["01-minimal"].namespace)["status"]
    assert status["create_fn"] == {"message": "hello world"}


def test_a_child_has_its_owner(operators: dict[str, Operator], admin) -> None:
    operator = operators["02-children"]
    operator.await_all(SAID[operator.name][0])
    parent = admin.get(EXAMPLES, "kopf-example-1", operator.namespace)
    (pod,) = admin.list(PODS, operator.namespace)["items"]
    assert parent["status"]["create_fn"] == {"children": [pod["metadata"]["uid"]]}
    assert pod["metadata"]["ownerReferences"][0]["uid"] == parent["metadata"]["uid"]


def test_an_object_that_changes(operators: dict[str, Operator], admin) -> None:
    operator = operators["05-handlers"]
    operator.await_all(SAID[operator.name][0])
    admin.patch(EXAMPLES, "kopf-example-1", {"spec": {"field": "other"}}, operator.namespace)
    operator.await_all(["UPDATED", "FIELD CHANGED: value -> other"])


def test_objects_that_are_deleted(operators: dict[str, Operator], admin) -> None:
    for operator in operators.values():
        admin.delete(EXAMPLES, "kopf-example-1", operator.namespace)
    for name, (_, deleted) in SAID.items():
        operators[name].await_all(deleted)
    # kopf looks at a daemon that has not ended at once only a minute later, so that one object may stay as long.
    ended = [operator.namespace for name, operator in operators.items() if name != "11-filtering-handlers"]
    deadline = time.monotonic() + SECONDS
    while (
        any(admin.list(EXAMPLES, namespace)["items"] for namespace in ended)
        or admin.list(PODS, operators["02-children"].namespace)["items"]
    ):
        assert time.monotonic() < deadline, "objects with finalizers, or a child, are left"
        time.sleep(0.1)
