"""`bmctl create|start|stop|get|reset`: what a user does with a cluster on this machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster import Cluster, Terminal, eventually


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster that a test creates by itself, taken away afterwards whatever the test did."""
    cluster = Cluster(tmp_path / "bmctl-workspace", "fresh")
    yield cluster
    cluster.bmctl("reset", "-c", cluster.name, "--yes", ok=False)
    assert cluster.processes() == {}


def test_create_makes_a_cluster_and_only_its_own_files(fresh: Cluster) -> None:
    done = fresh.bmctl("create", "cluster", "-c", "fresh")
    assert f"export KUBECONFIG={fresh.kubeconfig}" in done.stdout
    assert stat.S_IMODE(fresh.kubeconfig.stat().st_mode) == 0o600
    assert (fresh.directory / "log" / "solo.log").exists()
    assert [p.name for p in fresh.workspace.iterdir()] == ["fresh"]
    assert "default" in fresh.kubectl("get", "namespaces").stdout
    eventually(lambda: "1/1" in fresh.kubectl("get", "pods", "-n", "vm-system").stdout, what="controller manager ready")
    pods = fresh.kubectl("get", "pods", "-n", "vm-system").stdout.splitlines()
    assert len(pods) == 2
    assert pods[1].startswith("vmruntime-controller-manager-")
    assert "Running" in pods[1]
    name = pods[1].split()[0]
    eventually(lambda: fresh.kubectl("logs", "-n", "vm-system", name).stdout.strip(), what="the manager logs")


def test_a_second_create_of_the_same_name_is_refused_and_harms_nothing(fresh: Cluster) -> None:
    fresh.bmctl("create", "cluster", "-c", "fresh")
    fresh.kubectl("create", "configmap", "kept")
    again = fresh.bmctl("create", "cluster", "-c", "fresh", ok=False)
    assert again.returncode == 1
    assert 'cluster "fresh" exists already' in again.stderr
    fresh.kubectl("get", "configmap", "kept")


def test_a_taken_port_is_named_and_leaves_nothing(fresh: Cluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = fresh.bmctl("create", "cluster", "-c", "fresh", "--port", port, ok=False)
    assert done.returncode == 1
    assert f"port {port} on 127.0.0.1 is already in use" in done.stderr
    assert not fresh.directory.exists()


def test_an_address_that_is_none_is_refused_as_one(fresh: Cluster) -> None:
    done = fresh.bmctl("create", "cluster", "-c", "fresh", "--listen", "", ok=False)
    assert done.returncode == 2
    assert "argument --listen: an empty address" in done.stderr


def test_a_workspace_is_made_where_it_is_named_and_its_line_can_be_pasted(tmp_path: Path) -> None:
    """With parts that a shell would split and parts that lead back: nothing else may be made on the way."""
    cluster = Cluster(tmp_path / "my clusters", "fresh")
    named = str(tmp_path / "nowhere" / ".." / "my clusters")
    done = cluster.run("bmctl", "create", "cluster", "-c", "fresh", "--workspace", named)
    try:
        assert done.returncode == 0, done.stderr
        assert [entry.name for entry in tmp_path.iterdir()] == ["my clusters"]
        line = next(line for line in done.stdout.splitlines() if line.startswith("export "))
        pasted = cluster.run("bash", "-c", f"{line}; kubectl get namespaces")
        assert "vm-system" in pasted.stdout, pasted.stderr
    finally:
        cluster.bmctl("reset", "-c", "fresh", "--yes")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not")
def test_a_workspace_that_one_may_not_enter_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    code = "import os, sys; from vmruntime.cli.bmctl import create_cluster, main; os.setuid(65534); "
    code += "sys.exit(main.main(sys.argv[1:]))"
    workspace = tmp_path / "closed" / "ws"
    words = [sys.executable, "-c", code, "create", "cluster", "-c", "fresh", "--workspace", str(workspace)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: cannot make {workspace}/fresh: Permission denied; choose another --workspace\n"


def test_an_unwritable_workspace_is_named(tmp_path: Path) -> None:
    """/proc lets nobody make directories, not even root."""
    cluster = Cluster(tmp_path, "fresh")
    done = cluster.run("bmctl", "create", "cluster", "-c", "fresh", "--workspace", "/proc/bmctl-workspace")
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot make /proc/bmctl-workspace/fresh")


def test_a_workspace_that_is_a_file_is_named(fresh: Cluster) -> None:
    fresh.workspace.write_text("in the way")
    done = fresh.bmctl("create", "cluster", "-c", "fresh", ok=False)
    assert done.returncode == 1
    assert "cannot make" in done.stderr
    fresh.workspace.unlink()


@pytest.mark.parametrize("name", ["Upper", "a_b", "-x", "a" * 64, "../x"])
def test_names_that_are_no_names(fresh: Cluster, name: str) -> None:
    done = fresh.bmctl("create", "cluster", f"--cluster={name}", ok=False)
    assert done.returncode == 1
    assert "is no cluster name" in done.stderr
    assert not fresh.workspace.exists()


def test_stop_start_and_a_stale_pid_file(fresh: Cluster) -> None:
    fresh.bmctl("create", "cluster", "-c", "fresh")
    fresh.kubectl("create", "configmap", "kept", "--from-literal=a=b")
    assert json.loads(fresh.bmctl("get", "clusters", "-o", "json").stdout)["clusters"][0]["status"] == "Running"
    fresh.bmctl("stop", "cluster", "-c", "fresh")
    assert fresh.processes() == {}
    assert "Stopped" in fresh.bmctl("get", "clusters").stdout
    fresh.bmctl("stop", "cluster", "-c", "fresh")
    # A pid file that a crash left behind and whose number belongs to somebody else by now.
    (fresh.directory / "solo" / "solo.pid").write_text(f"{os.getpid()}\n")
    fresh.bmctl("start", "cluster", "-c", "fresh")
    fresh.bmctl("start", "cluster", "-c", "fresh")
    assert fresh.get("configmap", "kept")["data"] == {"a": "b"}


def test_a_start_brings_what_another_version_installed_up_to_date(fresh: Cluster) -> None:
    fresh.bmctl("create", "cluster", "-c", "fresh")
    name = "vmruntime-controller-manager"
    rules = fresh.get("clusterrole", name)["rules"]
    fresh.kubectl("patch", "clusterrole", name, "--type=json", "-p", '[{"op": "remove", "path": "/rules/0"}]')
    fresh.kubectl("patch", "vmruntime", "vmruntime", "--type=merge", "-p", '{"spec": {"vmImageFormat": "qcow2"}}')
    fresh.bmctl("stop", "cluster", "-c", "fresh")
    fresh.bmctl("start", "cluster", "-c", "fresh")
    assert fresh.get("clusterrole", name)["rules"] == rules
    assert fresh.get("vmruntime", "vmruntime")["spec"]["vmImageFormat"] == "qcow2"  # the switch is its user's


def test_start_names_the_port_that_somebody_took_meanwhile(fresh: Cluster) -> None:
    fresh.bmctl("create", "cluster", "-c", "fresh")
    fresh.bmctl("stop", "cluster", "-c", "fresh")
    port = json.loads((fresh.directory / "cluster.json").read_text())["port"]
    with socket.create_server(("127.0.0.1", port)):
        done = fresh.bmctl("start", "cluster", "-c", "fresh", ok=False)
    assert done.returncode == 1
    assert str(port) in done.stderr
    fresh.bmctl("start", "cluster", "-c", "fresh")


def test_what_was_answered_survives_kill_9_and_pods_are_adopted(fresh: Cluster) -> None:
    fresh.bmctl("create", "cluster", "-c", "fresh")
    eventually(lambda: "1/1" in fresh.kubectl("get", "pods", "-n", "vm-system").stdout, what="controller manager ready")
    manager = fresh.manager_pid()
    restarts = fresh.items("pods", "-n", "vm-system")[0]["status"]["containerStatuses"][0]["restartCount"]
    fresh.kubectl("create", "configmap", "answered")
    os.kill(fresh.solo_pid(), signal.SIGKILL)
    eventually(lambda: "Stopped" in fresh.bmctl("get", "clusters").stdout)
    assert fresh.manager_pid() == manager
    fresh.bmctl("start", "cluster", "-c", "fresh")
    fresh.kubectl("get", "configmap", "answered")
    pods = fresh.items("pods", "-n", "vm-system")
    assert len(pods) == 1
    assert pods[0]["status"]["containerStatuses"][0]["restartCount"] == restarts
    assert fresh.manager_pid() == manager


def test_reset_asks_on_a_terminal_and_no_means_no(fresh: Cluster) -> None:
    fresh.bmctl("create", "cluster", "-c", "fresh")
    words = ("bmctl", "reset", "-c", "fresh", "--workspace", str(fresh.workspace))
    terminal = Terminal.start(fresh, *words)
    terminal.expect("Delete it? (y/N)")
    terminal.type("n\n")
    assert terminal.wait() == 1
    assert fresh.kubectl("get", "namespaces").stdout
    terminal = Terminal.start(fresh, *words)
    terminal.expect("Delete it? (y/N)")
    terminal.type("y\n")
    assert terminal.wait() == 0
    assert not fresh.directory.exists()
    assert fresh.processes() == {}


def test_reset_without_a_terminal_wants_yes(fresh: Cluster) -> None:
    fresh.bmctl("create", "cluster", "-c", "fresh")
    done = fresh.bmctl("reset", "-c", "fresh", ok=False)
    assert done.returncode == 1
    assert "--yes" in done.stderr
    assert fresh.directory.exists()


def test_a_cluster_that_does_not_exist_is_named_with_those_that_do(fresh: Cluster) -> None:
    done = fresh.bmctl("start", "cluster", "-c", "other", ok=False)
    assert done.returncode == 1
    assert 'there is no cluster "other"' in done.stderr


@pytest.mark.parametrize("seconds", [0, 0.15, 0.35, 0.55])
def test_ctrl_c_while_creating_leaves_nothing(fresh: Cluster, seconds: float) -> None:
    words = ("bmctl", "create", "cluster", "-c", "fresh", "--workspace", str(fresh.workspace))
    terminal = Terminal.start(fresh, *words)
    eventually(fresh.directory.exists, what="it has begun")
    time.sleep(seconds)
    terminal.interrupt()
    code = terminal.wait()
    assert "Traceback" not in terminal.output
    if code != 0:  # it may have been quicker than we are
        assert code == 130
        eventually(lambda: fresh.processes() == {}, 10, "no process is left")
        assert not fresh.directory.exists()


def test_a_server_whose_starter_is_gone_does_not_stay(tmp_path: Path) -> None:
    """As when `bmctl create` is killed before the API answers: nobody would know of the server."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "solo", "--data", str(tmp_path / "data"), "--port", "0", "--ready-fd", str(writer)]
    done = subprocess.run(command, pass_fds=[writer], capture_output=True, text=True, timeout=60, check=False)
    os.close(writer)
    assert done.returncode == 1
    assert "whoever started this server did not wait for it" in done.stderr


def test_clusters_created_at_once_get_ports_of_their_own(fresh: Cluster) -> None:
    """Both look for the first free port; the one that comes second goes on to the next."""
    words = ["bmctl", "create", "cluster", "--workspace", str(fresh.workspace), "-c"]
    creations = [
        subprocess.Popen([*words, name], env=fresh.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for name in ("fresh", "other")
    ]
    outcomes = [creation.communicate(timeout=60) for creation in creations]
    other = Cluster(fresh.workspace, "other")
    try:
        assert [creation.returncode for creation in creations] == [0, 0], outcomes
        assert fresh.kubectl("get", "namespaces").stdout
        assert other.kubectl("get", "namespaces").stdout
        check_both_in_one_kubeconfig(fresh, other)
    finally:
        other.bmctl("reset", "-c", "other", "--yes")


def check_both_in_one_kubeconfig(first: Cluster, second: Cluster) -> None:
    """As kubectl merges the files that $KUBECONFIG lists: each context has to keep its own user."""
    files = f"KUBECONFIG={first.kubeconfig}:{second.kubeconfig}"
    for cluster in (first, second):
        context = f"--context={cluster.name}-admin@{cluster.name}"
        server = cluster.run("env", files, "kubectl", context, "get", "--raw", "/version").stdout
        assert "gitVersion" in server
        done = cluster.run("env", files, "bmctl", "disable", "vmruntime", context)
        assert (done.returncode, done.stderr) == (1, "error: the VM runtime is disabled already\n")
        done = cluster.run("env", files, "kubectl", "virt", "start", "x", context)
        assert "switch them on with" in done.stderr
    unknown = first.run("env", files, "bmctl", "enable", "vmruntime", "--context=nonsense")
    assert "has no context 'nonsense' (contexts: " in unknown.stderr


def test_what_a_killed_create_left_can_be_reset(fresh: Cluster) -> None:
    """The record is written last; without it there may be a control plane and pods, but no cluster."""
    fresh.bmctl("create", "cluster", "-c", "fresh")
    eventually(lambda: len(fresh.processes()) == 2, what="control plane and manager run")
    (fresh.directory / "cluster.json").unlink()
    for words in (("create", "cluster"), ("start", "cluster")):
        done = fresh.bmctl(*words, "-c", "fresh", ok=False)
        assert done.returncode == 1
        assert "`bmctl reset -c fresh` removes what is left" in done.stderr
    (fresh.directory / "mine").touch()
    assert fresh.bmctl("reset", "-c", "fresh", "--yes", ok=False).returncode == 1
    (fresh.directory / "mine").unlink()
    fresh.bmctl("reset", "-c", "fresh", "--yes")
    assert fresh.processes() == {}
    assert not fresh.directory.exists()
