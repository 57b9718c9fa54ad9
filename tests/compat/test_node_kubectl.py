"""Pods as kubectl sees them, on the real server: run, logs, exec, limits, deletion, and the server's sudden death."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from compat.conftest import find_kubectl
from solo.node.libc import is_system_administrator
from solo.node.volumespec import TOKEN_DIRECTORY

KUBECTL = find_kubectl()
pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed")


class Solo:
    """A server in a directory of its own, at a port that it keeps over restarts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kubeconfig = directory / "kubeconfig"
        self.port = "0"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        ready, tell = os.pipe()
        command = [sys.executable, "-m", "solo", "--data", str(self.directory / "data"), "--port", self.port]
        command += ["--kubeconfig", str(self.kubeconfig), "--node-name", "here", "--ready-fd", str(tell)]
        with (self.directory / "solo.log").open("ab") as log:
            self.process = subprocess.Popen(command, pass_fds=[tell], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        os.close(tell)
        with open(ready) as pipe:
            assert pipe.readline() == "READY\n", (self.directory / "solo.log").read_text()
        server = self.kubectl("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")
        self.port = server.rpartition(":")[2]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess:
        command = [KUBECTL, "--kubeconfig", str(self.kubeconfig), *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def create(self, *objects: dict) -> None:
        self.kubectl(
            "create",
            "--validate=false",
            "-f",
            "-",
            stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}),
        )

    def get(self, kind: str, name: str) -> dict:
        return json.loads(self.kubectl("get", kind, name, "-o", "json"))

    def wait_ready(self, name: str) -> None:
        self.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=20s")


def pod(name: str, *command: str, container: dict | None = None, **spec) -> dict:
    entry = {"name": "c", "image": "host", "command": list(command), **(container or {})}
    spec = {"terminationGracePeriodSeconds": 1, "containers": [entry], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def solo(tmp_path_factory):
    server = Solo(tmp_path_factory.mktemp("solo"))
    server.start()
    yield server
    if server.process.poll() is not None:
        server.start()
    server.kubectl("delete", "deployments,replicasets,pods", "--all", "--grace-period=0", "--force", "--wait=false")
    deadline = time.monotonic() + 40
    while any((server.directory / "data" / "pods").iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    server.process.terminate()
    server.process.wait(10)


def until(condition, timeout: float = 15.0):
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.05)
    return value


def test_node_is_ready(solo):
    until(lambda: solo.run("get", "node", "here").returncode == 0)
    solo.kubectl("wait", "--for=condition=Ready", "node/here", "--timeout=40s")


def test_logs_and_exec(solo):
    solo.create(pod("talk", "sh", "-c", "echo one; echo two; sleep 600"))
    solo.wait_ready("talk")
    assert solo.kubectl("logs", "talk") == "one\ntwo\n"
    assert solo.kubectl("logs", "talk", "--tail=1") == "two\n"
    assert solo.kubectl("logs", "talk", "--since=1h", "--limit-bytes=5") == "one\nt"
    assert solo.kubectl("exec", "-i", "talk", "--", "tr", "a-z", "A-Z", stdin="shout") == "SHOUT"
    assert solo.run("exec", "talk", "--", "sh", "-c", "exit 7").returncode == 7


def test_logs_know_when_lines_were_written(solo):
    solo.create(pod("clock", "sh", "-c", "echo one; sleep 1.2; echo two; exec sleep 600"))
    until(lambda: "two" in solo.run("logs", "clock").stdout)
    lines = [line.split() for line in solo.kubectl("logs", "clock", "--timestamps").splitlines()]
    assert [text for _, text in lines] == ["one", "two"] and lines[0][0] < lines[1][0]
    assert solo.kubectl("logs", "clock", f"--since-time={lines[1][0]}") == "two\n"
    path = "/api/v1/namespaces/default/pods/clock/log"
    assert (
        "at most one of `sinceTime`"
        in solo.run("get", "--raw", f"{path}?sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z").stderr
    )
    solo.kill()
    solo.start()
    again = until(lambda: solo.run("logs", "clock", "--timestamps").stdout)
    assert [line.split() for line in again.splitlines()] == lines


def test_pods_reach_the_api_as_their_service_account(solo):
    solo.create(pod("who", "sleep", "600"))
    solo.wait_ready("who")
    answer = solo.run("exec", "who", "--", KUBECTL, "get", "pods")
    assert 'User "system:serviceaccount:default:default" cannot list' in answer.stderr


def test_describe_tells_why_a_pod_does_not_run(solo):
    solo.create(pod("pull", "true", container={"image": "nginx"}))
    until(lambda: "ErrImageNeverPull" in solo.kubectl("get", "pod", "pull"))
    assert 'use image "host"' in until(lambda: "Failed" in (text := solo.kubectl("describe", "pod", "pull")) and text)


def test_a_job_like_pod_succeeds_and_keeps_its_log(solo):
    solo.create(pod("once", "sh", "-c", "echo done", restartPolicy="Never"))
    solo.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/once", "--timeout=20s")
    assert solo.kubectl("logs", "once") == "done\n"


def test_a_job_ends_though_it_has_a_sidecar(solo):
    flag = solo.directory / "job-may-end"
    sidecar = {"name": "side", "image": "host", "command": ["sleep", "600"], "restartPolicy": "Always"}
    template = pod("", "sh", "-c", f"until [ -e {flag} ]; do sleep 0.05; done", restartPolicy="Never")
    template["spec"]["initContainers"] = [sidecar]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "aided"}, "spec": {"template": template}}
    solo.create(job)
    until(lambda: "2/2" in solo.kubectl("get", "pods", "-l", "job-name=aided"))
    flag.touch()
    solo.kubectl("wait", "--for=condition=Complete", "job/aided", "--timeout=20s")
    solo.kubectl("delete", "job", "aided")


def test_deletion_waits_for_a_graceful_end(solo):
    flag = solo.directory / "ended"
    script = f'trap "echo bye > {flag}; exit 0" TERM; while :; do sleep 0.05; done'
    solo.create(pod("polite", "sh", "-c", script, terminationGracePeriodSeconds=20))
    solo.wait_ready("polite")
    time.sleep(0.2)
    solo.kubectl("delete", "pod", "polite", "--timeout=40s")
    assert flag.read_text() == "bye\n"
    assert solo.run("get", "pod", "polite").returncode == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_security_context_and_limits(solo):
    container = {
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "resources": {"limits": {"memory": "64Mi"}},
    }
    context = {"runAsUser": 60800, "runAsNonRoot": True, "supplementalGroups": [60801]}
    solo.create(
        pod("drop", "sleep", "600", container=container, securityContext=context, automountServiceAccountToken=False)
    )
    solo.wait_ready("drop")
    assert solo.kubectl("exec", "drop", "--", "id", "-G").split() == ["60800", "60801"]
    status = solo.kubectl("exec", "drop", "--", "cat", "/proc/self/status")
    assert "NoNewPrivs:\t1" in status and "CapBnd:\t0000000000000000" in status


@pytest.fixture
def reachable():
    """A directory that any user can pass through to; and away with the mount points that the pods had made."""
    with tempfile.TemporaryDirectory(prefix="solo-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)
    with contextlib.suppress(OSError):
        os.removedirs(TOKEN_DIRECTORY)


@pytest.mark.skipif(not is_system_administrator(), reason="needs CAP_SYS_ADMIN")
def test_volumes_and_in_cluster_configuration(solo, reachable):
    """What an operator's pod has: a library that finds the API by itself, its settings, and a place for its files."""
    script = (
        "from kubernetes import client, config; config.load_incluster_config(); "
        "print(client.CoreV1Api().read_namespaced_config_map('settings', 'default').data['greeting'])"
    )
    solo.kubectl("create", "configmap", "settings", "--from-literal=greeting=hello")
    solo.kubectl("create", "secret", "generic", "credentials", "--from-literal=password=secret")
    solo.kubectl("create", "role", "reader", "--verb=get", "--resource=configmaps")
    solo.kubectl("create", "rolebinding", "reader", "--role=reader", "--serviceaccount=default:default")
    here = reachable
    mounts = [
        {"name": "credentials", "mountPath": f"{here}/password", "subPath": "password"},
        {"name": "credentials", "mountPath": f"{here}/credentials"},
        {"name": "scratch", "mountPath": f"{here}/scratch"},
    ]
    volumes = [
        {"name": "credentials", "secret": {"secretName": "credentials", "defaultMode": 0o440}},
        {"name": "scratch", "emptyDir": {}},
    ]
    (here / "password").touch()
    group = {"fsGroup": 60801, "runAsUser": 60800, "runAsGroup": 60800}
    own = {"automountServiceAccountToken": False, "securityContext": group}
    solo.create(
        pod("operator", "sleep", "600", automountServiceAccountToken=True),
        pod("volumes", "sleep", "600", container={"volumeMounts": mounts}, volumes=volumes, **own),
    )
    solo.wait_ready("operator")
    assert solo.kubectl("exec", "operator", "--", sys.executable, "-c", script) == "hello\n"
    solo.wait_ready("volumes")
    assert solo.kubectl("exec", "volumes", "--", "cat", f"{here}/password", f"{here}/credentials/password") == (
        "secretsecret"
    )
    seen = solo.kubectl("exec", "volumes", "--", "sh", "-c", f"touch {here}/scratch/x; stat -c %U:%g {here}/scratch/x")
    assert seen.endswith(":60801\n")
    assert solo.run("exec", "volumes", "--", "touch", f"{here}/credentials/x").returncode != 0
    assert list((here / "scratch").iterdir()) == [] == list((here / "credentials").iterdir())


def test_a_deployment_survives_the_death_of_the_server(solo):
    template = pod("", "sh", "-c", "echo $$$$; sleep 600")
    template["metadata"] = {"labels": {"app": "web"}}
    solo.create(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template},
        }
    )
    solo.kubectl("rollout", "status", "deployment/web", "--timeout=20s")
    names = solo.kubectl("get", "pods", "-l", "app=web", "-o", "name").split()
    before = {name: solo.kubectl("logs", name) for name in names}
    solo.kill()
    for process in before.values():
        os.kill(int(process), 0)
    solo.start()
    solo.kubectl("wait", "--for=condition=Ready", "pod", "-l", "app=web", "--timeout=20s")
    until(lambda: {name: solo.run("logs", name).stdout for name in names} == before)
    assert solo.kubectl("exec", names[0], "--", "echo", "hi") == "hi\n"
    os.kill(int(before[names[0]]), signal.SIGKILL)
    pod_name = names[0].removeprefix("pod/")
    until(lambda: solo.get("pod", pod_name)["status"]["containerStatuses"][0]["restartCount"] == 1)
    last = solo.get("pod", pod_name)["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (137, "ContainerStatusUnknown")
    until(lambda: solo.kubectl("logs", names[0]) not in ("", before[names[0]]))
    assert solo.kubectl("logs", names[0], "-p") == before[names[0]]
