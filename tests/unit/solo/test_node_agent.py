"""The agent against a small API server of its own: from a pod's object to its process, its status and its end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest

from kube.machinery.errors import StatusError
from solo.http.streams import STDOUT, LogOptions
from solo.node import procfs
from solo.node.cgroups import ContainerGroup, find_hierarchies
from solo.node.libc import is_system_administrator
from unit.solo.node_api import Api, marked, running_agent, until


@pytest.fixture
def root(tmp_path):
    directory = tmp_path / "pods"
    yield directory
    deadline = time.monotonic() + 20
    while left := marked(directory):  # again, as one of them can have forked while they were looked for
        procfs.send_signal(left, signal.SIGKILL)
        assert time.monotonic() < deadline, left
        time.sleep(0.01)
    for pod in directory.iterdir():
        for name in ("c", "one", "two"):
            ContainerGroup(find_hierarchies(), pod.name, name).remove()


@pytest.fixture
async def api():
    async with Api().serve() as made:
        made.put("/api/v1/namespaces/default/serviceaccounts/default", {"metadata": {"name": "default"}})
        yield made


@pytest.fixture
async def agent(api, root):
    async with running_agent(api, root) as made:
        yield made


async def test_node_and_lease_are_registered_and_made_again(api, agent):
    node = "/api/v1/nodes/me"
    await until(lambda: node in api.objects and api.status(node).get("conditions"))
    assert api.objects[node]["metadata"]["labels"]["kubernetes.io/hostname"] == "me"
    lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/me"
    await until(lambda: lease in api.objects)
    uid = api.objects[node]["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "Node", "name": "me", "uid": uid}
    assert api.objects[lease]["metadata"]["ownerReferences"] == [owner]
    await until(lambda: any(prefix == "nodes" for prefix, _ in api.watchers))
    api.remove(node)
    await until(lambda: node in api.objects)


async def test_from_object_to_process_with_one_status_write(api, agent, root):
    await until(lambda: any(prefix == "pods" for prefix, _ in api.watchers))
    path = api.pod("p", "sh", "-c", "echo hello $WHO; sleep 600", container={"env": [{"name": "WHO", "value": "you"}]})
    await until(lambda: "running" in api.state(path))
    status = api.status(path)
    assert status["phase"] == "Running" and status["podIP"] == "127.0.0.1" and status["qosClass"] == "BestEffort"
    await until(lambda: api.events("Started"))
    assert len([write for write in api.writes if "/pods/p" in write[1]]) == 1
    await until(lambda: (root / api.objects[path]["metadata"]["uid"] / "c" / "0.log").read_text())
    log = await agent.streams.open_log("default", "p", LogOptions())
    assert b"".join([chunk async for chunk in log]) == b"hello you\n"


@pytest.mark.parametrize("able", [True, False])
async def test_a_pod_with_a_host_name_runs_and_is_told_if_it_has_none(api, agent, monkeypatch, able):
    agent._context.is_administrator = able
    path = api.pod("p", "sleep", "600", hostname="worker-0", subdomain="workers")
    await until(lambda: "running" in api.state(path))
    await until(lambda: api.events("Started"))
    assert bool(api.events("HostnameNotSet")) is not able


async def test_exec_sees_the_environment_of_the_container(api, agent):
    path = api.pod("p", "sleep", "600", container={"env": [{"name": "WHO", "value": "you"}]})
    await until(lambda: "running" in api.state(path))
    session = await agent.streams.exec("default", "p", "", ["sh", "-c", "echo $WHO"], tty=False, stdin=False)
    assert await session.read() == (STDOUT, b"you\n")
    await session.close()
    with pytest.raises(StatusError, match="not valid for pod"):
        await agent.streams.exec("default", "p", "nope", ["true"], tty=False, stdin=False)


async def says(agent, *command: str) -> str:
    session = await agent.streams.exec("default", "p", "", list(command), tty=False, stdin=False)
    output = b""
    while (chunk := await session.read()) is not None:
        output += chunk[1]
    await session.close()
    return output.decode()


async def test_a_host_path_that_is_not_what_its_volume_says_is_waited_for(api, root, tmp_path):
    path = str(tmp_path / "later")
    volume = {"name": "h", "hostPath": {"path": path, "type": "Directory"}}
    async with running_agent(api, root):
        made = api.pod(
            "p", "sleep", "600", volumes=[volume], container={"volumeMounts": [{"name": "h", "mountPath": path}]}
        )
        (told,) = await until(lambda: api.events("FailedMount"))
        assert (
            told
            == f'MountVolume.SetUp failed for volume "h": hostPath type check failed: {path}: No such file or directory'
        )
        os.mkdir(path)
        await until(lambda: "running" in api.state(made))


@pytest.mark.skipif(not is_system_administrator(), reason="needs CAP_SYS_ADMIN")
async def test_volumes_are_mounted_follow_their_objects_and_outlive_the_agent(api, root, tmp_path, monkeypatch):
    monkeypatch.setattr("solo.node.volumes.REFRESH_SECONDS", 0.05)
    settings = "/api/v1/namespaces/default/configmaps/settings"
    made = {
        "volumes": [{"name": "m", "configMap": {"name": "settings"}}, {"name": "e", "emptyDir": {"sizeLimit": "1Mi"}}],
        "container": {
            "volumeMounts": [
                {"name": "m", "mountPath": str(tmp_path / "m")},
                {"name": "e", "mountPath": str(tmp_path / "e")},
            ]
        },
    }
    async with running_agent(api, root) as agent:
        path = api.pod("p", "sh", "-c", f"echo $$$$ > {tmp_path}/e/pid; exec sleep 600", **made)
        await until(lambda: "configmap" in api.state(path).get("waiting", {}).get("message", ""))
        assert 'volume "m": configmap "settings" not found' in (await until(lambda: api.events("FailedMount")))[0]
        api.put(settings, {"metadata": {"name": "settings", "namespace": "default"}, "data": {"a": "one"}})
        await until(lambda: "running" in api.state(path))
        assert await says(agent, "cat", f"{tmp_path}/m/a") == "one"
        pid = await says(agent, "cat", f"{tmp_path}/e/pid")
        assert api.events("LimitNotEnforced") and list((tmp_path / "e").iterdir()) == []
        api.put(settings, {**api.objects[settings], "data": {"a": "two"}})
        async with asyncio.timeout(8):
            while await says(agent, "cat", f"{tmp_path}/m/a") != "two":
                await asyncio.sleep(0.02)
    api.remove(settings)
    async with running_agent(api, root) as agent:
        await until(lambda: (found := agent.streams._find("default", "p")) and found.containers["c"].running)
        assert await says(agent, "cat", f"{tmp_path}/m/a", f"{tmp_path}/e/pid") == "two" + pid
        api.mark_deleted(path, grace=0)
        await until(lambda: path not in api.objects)
    assert list(root.iterdir()) == []


async def test_deletion_is_graceful_and_final(api, agent, root):
    path = api.pod("p", "sh", "-c", 'trap "exit 3" TERM; echo up; while :; do sleep 0.02; done')
    await until(lambda: "running" in api.state(path))
    directory = root / api.objects[path]["metadata"]["uid"]
    await until(lambda: "up" in (directory / "c" / "0.log").read_text())
    api.mark_deleted(path)
    await until(lambda: path not in api.objects)
    await until(lambda: not directory.exists())
    assert marked(root) == []
    final = [body for method, where, body in api.writes if where == f"{path}/status" and method == "PATCH"][-1]
    assert final["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    assert final["status"]["phase"] == "Failed"
    assert await until(lambda: api.events("Killing")) == ["Stopping container c"]


async def test_never_restarted_pods_succeed_or_fail(api, agent):
    good = api.pod("good", "true", restartPolicy="Never")
    bad = api.pod("bad", "sh", "-c", "exit 5", restartPolicy="Never")
    await until(lambda: api.status(good)["phase"] == "Succeeded" and api.status(bad)["phase"] == "Failed")
    assert api.state(bad)["terminated"]["exitCode"] == 5


async def test_a_crash_loop_restarts_once_and_backs_off(api, agent):
    path = api.pod("p", "false")
    await until(lambda: api.state(path).get("waiting", {}).get("reason") == "CrashLoopBackOff")
    (status,) = api.status(path)["containerStatuses"]
    assert status["restartCount"] == 1 and status["lastState"]["terminated"]["exitCode"] == 1
    assert api.status(path)["phase"] == "Running"
    assert await until(lambda: api.events("BackOff"))


@pytest.mark.parametrize(
    ("container", "reason", "text"),
    [
        ({"image": "nginx"}, "ErrImageNeverPull", 'use image "host"'),
        ({"command": ["no-such-program"]}, "RunContainerError", "executable file not found"),
        (
            {"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "k"}}}]},
            "CreateContainerConfigError",
            'configmap "no" not found',
        ),
    ],
)
async def test_what_cannot_start_says_why(api, agent, container, reason, text):
    path = api.pod("p", "true", container=container)
    waiting = await until(lambda: api.state(path).get("waiting"))
    assert waiting["reason"] == reason and text in waiting["message"]
    assert api.status(path)["phase"] == "Pending"
    assert text in (await until(lambda: api.events("Failed")))[0]


async def test_init_containers_run_in_order_first(api, agent, tmp_path):
    order = tmp_path / "order"
    init = [
        {"name": name, "image": "host", "command": ["sh", "-c", f"echo {name} >> {order}"]} for name in ("one", "two")
    ]
    path = api.pod("p", "sh", "-c", f"echo main >> {order}; sleep 600", initContainers=init)
    await until(lambda: "running" in api.state(path))
    await until(lambda: order.exists() and order.read_text() == "one\ntwo\nmain\n")
    assert [entry["ready"] for entry in api.status(path)["initContainerStatuses"]] == [True, True]


async def test_a_sidecar_begins_before_the_others_is_restarted_and_ends_after_them(api, agent, tmp_path):
    flag, log = tmp_path / "flag", tmp_path / "log"
    trap = f"trap 'echo side >> {log}; exit 0' TERM; while :; do sleep 0.02; done"
    probe = {"exec": {"command": ["test", "-e", str(flag)]}, "periodSeconds": 0.02, "failureThreshold": 1000}
    sidecar = {"name": "one", "image": "host", "command": ["sh", "-c", trap], "restartPolicy": "Always"}
    work = f"trap 'echo main >> {log}; exit 0' TERM; while ! [ -e {tmp_path}/end ]; do sleep 0.02; done"
    made = {"initContainers": [{**sidecar, "startupProbe": probe}], "terminationGracePeriodSeconds": 20}
    path = api.pod("p", "sh", "-c", work, restartPolicy="Never", **made)
    await until(lambda: (api.status(path).get("initContainerStatuses") or [{"state": {}}])[0]["state"].get("running"))
    assert (api.status(path)["phase"], api.state(path)["waiting"]["reason"]) == ("Pending", "PodInitializing")
    flag.touch()
    await until(lambda: api.status(path)["phase"] == "Running")
    worker = agent._workers[api.objects[path]["metadata"]["uid"]]
    os.kill(worker.containers["one"].record.pid, signal.SIGKILL)
    await until(lambda: api.status(path)["initContainerStatuses"][0]["restartCount"] == 1)
    (tmp_path / "end").touch()
    await until(lambda: api.status(path)["phase"] == "Succeeded")
    assert log.read_text() == "side\n" and not worker.containers["one"].running
    (tmp_path / "end").unlink()
    second = api.pod("q", "sh", "-c", work, **made)
    await until(
        lambda: api.status(second)["phase"] == "Running" and api.status(second)["conditions"][1]["status"] == "True"
    )
    log.unlink()
    api.mark_deleted(second, grace=20)
    await until(lambda: second not in api.objects)
    assert log.read_text() == "main\nside\n"


async def test_a_failed_init_container_ends_the_sidecars_before_it(api, agent):
    sidecar = {"name": "one", "image": "host", "command": ["sleep", "600"], "restartPolicy": "Always"}
    failing = {"name": "two", "image": "host", "command": ["false"]}
    path = api.pod(
        "p", "true", restartPolicy="Never", initContainers=[sidecar, failing], terminationGracePeriodSeconds=1
    )
    await until(lambda: api.status(path)["phase"] == "Failed")
    assert [each["state"].keys() for each in api.status(path)["initContainerStatuses"]] == [{"terminated"}] * 2


async def test_probes_make_ready_and_restart(api, agent, tmp_path):
    flag = tmp_path / "flag"
    probe = {"exec": {"command": ["test", "-e", str(flag)]}, "periodSeconds": 0.02, "failureThreshold": 2}
    path = api.pod("p", "sleep", "600", container={"readinessProbe": probe}, terminationGracePeriodSeconds=1)
    await until(lambda: "running" in api.state(path))
    assert not api.status(path)["containerStatuses"][0]["ready"]
    flag.touch()
    await until(lambda: api.status(path)["containerStatuses"][0]["ready"])
    second = api.pod("q", "sleep", "600", container={"livenessProbe": {**probe, "exec": {"command": ["false"]}}})
    await until(lambda: api.status(second).get("containerStatuses", [{}])[0].get("restartCount"))
    assert any("Liveness probe failed" in message for message in api.events("Unhealthy"))


async def test_a_post_start_hook_comes_before_readiness_and_its_failure_ends_the_container(api, agent, tmp_path):
    go, done = tmp_path / "go", tmp_path / "done"
    wait = f"until [ -e {go} ]; do sleep 0.02; done; touch {done}"
    hook = {"postStart": {"exec": {"command": ["sh", "-c", wait]}}}
    path = api.pod("p", "sleep", "600", container={"lifecycle": hook}, terminationGracePeriodSeconds=1)
    await until(lambda: "running" in api.state(path))
    assert not api.status(path)["containerStatuses"][0]["started"]
    go.touch()
    await until(lambda: api.status(path)["containerStatuses"][0]["ready"])
    assert done.exists()
    hook = {"postStart": {"exec": {"command": ["sh", "-c", "echo why; exit 1"]}}}
    second = api.pod("q", "sleep", "600", container={"lifecycle": hook}, restartPolicy="Never")
    await until(lambda: api.status(second)["phase"] == "Failed")
    assert api.events("FailedPostStartHook") == ["PostStartHook failed: why"]


async def test_credentials_are_written_for_the_pod_alone(api, agent, root):
    path = api.pod("p", "sh", "-c", "cat $KUBECONFIG; sleep 600", automountServiceAccountToken=None)
    await until(lambda: "running" in api.state(path))
    directory = root / api.objects[path]["metadata"]["uid"]
    assert (directory / "token").read_text() == "secret-token"
    assert (directory / "token").stat().st_mode & 0o777 == 0o600
    log = await until(lambda: (directory / "c" / "0.log").read_text())
    assert f"{directory}/token" in log and "secret-token" not in log


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_a_token_is_renewed_when_the_clock_is_set_past_its_end(api, root, monkeypatch):
    monkeypatch.setattr("solo.node.agent._LOOK_SECONDS", 0.02)
    path = api.pod("p", "sleep", "600", automountServiceAccountToken=None)
    async with running_agent(api, root):
        await until(lambda: "running" in api.state(path))
        token = root / api.objects[path]["metadata"]["uid"] / "token"
        first = token.stat().st_ino
        await asyncio.sleep(0.1)
        assert token.stat().st_ino == first
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + 100 * 365 * 86_400)
        await until(lambda: token.stat().st_ino != first)


async def test_credentials_that_the_user_could_not_reach_are_an_error(api, agent, root):
    context = {"runAsUser": 60800}
    path = api.pod("p", "true", securityContext=context, automountServiceAccountToken=None)
    waiting = await until(lambda: api.state(path).get("waiting"))
    assert "no search permission" in waiting["message"], "directories of tests are closed to others"


async def test_the_object_goes_only_when_nothing_of_the_pod_is_left(api, agent, root, monkeypatch):
    left = []
    monkeypatch.setattr(Api, "remove", lambda self, path: left.extend(root.iterdir()))
    path = api.pod("p", "sleep", "600")
    await until(lambda: "running" in api.state(path))
    api.mark_deleted(path, grace=1)
    await until(lambda: [write for write in api.writes if write[0] == "DELETE"])
    assert left == [] and marked(root) == []


async def test_an_agent_that_is_told_to_stop_finishes_the_removal_of_pods(api, root):
    async with running_agent(api, root):
        path = api.pod("p", "sleep", "600")
        await until(lambda: "running" in api.state(path))
        await until(lambda: any(prefix == "pods" for prefix, _ in api.watchers))
        api.remove(path)
        await until(lambda: not marked(root))
    assert list(root.iterdir()) == []


async def test_another_agent_adopts_what_runs_and_clears_what_is_gone(api, root):
    async with running_agent(api, root):
        keep, gone = api.pod("keep", "sleep", "600"), api.pod("gone", "sleep", "600")
        await until(lambda: "running" in api.state(keep) and "running" in api.state(gone))
    before = api.status(keep)
    assert len(marked(root)) == 2, "the processes outlive the agent"
    directory = root / api.objects[gone]["metadata"]["uid"]
    del api.objects[gone]
    async with running_agent(api, root) as agent:
        await until(lambda: not directory.exists())
        await until(lambda: agent.streams._find("default", "keep"))
        await asyncio.sleep(0.05)
        assert api.status(keep) == before, "nothing has changed for who was adopted"
        (pid,) = marked(root)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: api.status(keep)["containerStatuses"][0]["restartCount"] == 1)
        last = api.status(keep)["containerStatuses"][0]["lastState"]["terminated"]
        assert (last["exitCode"], last["signal"]) == (137, 9)


AGENT = """
import asyncio, sys
from pathlib import Path
from kube.client.aio import AsyncClient
from kube.client.config import KubeConfig
from solo.node.agent import NodeAgent
from solo.node.cgroups import ContainerGroup, find_hierarchies

async def main():
    async with AsyncClient(KubeConfig(sys.argv[1])) as client:
        agent = NodeAgent(client, "me", Path(sys.argv[2]), sys.argv[1], b"CA")
        print("ready", flush=True)
        await agent.run()

asyncio.run(main())
"""


async def test_an_agent_killed_again_and_again_neither_doubles_nor_loses_a_process(api, root):
    paths = [api.pod(f"p{number}", "sh", "-c", "echo $$$$; sleep 600") for number in range(4)]
    command = [sys.executable, "-c", AGENT, f"http://127.0.0.1:{api.port}", str(root)]
    for pause in (0.02, 0.03, 0.04):
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert await process.stdout.readline()
        await asyncio.sleep(pause)
        process.kill()
        await process.wait()
    async with running_agent(api, root):
        await until(lambda: all("running" in api.state(path) for path in paths))
        for path in paths:
            uid = api.objects[path]["metadata"]["uid"]
            assert api.status(path)["containerStatuses"][0]["restartCount"] == 0
            log = root / uid / "c" / "0.log"
            await until(lambda log=log: log.read_text())
            assert len(log.read_text().split()) == 1, "started exactly once"
        assert len(marked(root)) == 8, "a shell and its sleep for each pod"
