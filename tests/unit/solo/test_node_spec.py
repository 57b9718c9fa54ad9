"""What a pod's spec asks for: refusals, identities, environment, restart decisions, status."""

from __future__ import annotations

import base64

import pytest

from kube.machinery.resources import CONFIGMAPS, SECRETS
from solo.node import environment, lifecycle, podspec, status, volumespec
from solo.node.addresses import Addresses
from solo.node.cgroups import ContainerGroup, find_hierarchies
from solo.node.environment import ConfigError
from solo.node.host import Host
from solo.node.launch import CAPABILITIES
from solo.node.lifecycle import Step
from solo.node.records import ContainerRecord, Terminated
from solo.node.status import ContainerView

NOW = "2026-01-02T03:04:05Z"
HOST = Host(Addresses(), {"cpu": "3", "memory": "4096Ki"})


def pod(container: dict | None = None, **spec) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "host", "command": ["true"], **(container or {})}], **spec},
    }


def test_an_ordinary_pod_is_not_refused():
    volumes = [{"name": "h", "hostPath": {"path": "/srv/"}}, {"name": "kube-api-access-x", "projected": {}}]
    mounts = [{"name": "h", "mountPath": "/srv"}, {"name": "kube-api-access-x", "mountPath": "/var/run/secrets"}]
    context = {"capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": False}
    made = pod({"volumeMounts": mounts, "securityContext": context}, volumes=volumes, hostNetwork=True)
    assert podspec.refusals(made, agent_uid=0, selinux=True) == volumespec.refusals(made, can_mount=False) == []


@pytest.mark.parametrize(
    ("container", "spec", "reason", "text"),
    [
        ({"image": "nginx"}, {}, "ErrImageNeverPull", 'use image "host"'),
        ({"command": []}, {}, "CreateContainerConfigError", "no command specified"),
        ({}, {"hostAliases": [{"ip": "1.2.3.4"}]}, "CreateContainerConfigError", "hostAliases"),
        ({"securityContext": {"readOnlyRootFilesystem": True}}, {}, "CreateContainerConfigError", "readOnlyRoot"),
        ({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}, {}, "CreateContainerConfigError", "secc"),
        ({"livenessProbe": {"grpc": {"port": 1}}}, {}, "CreateContainerConfigError", "grpc"),
        ({"stdin": True}, {}, "CreateContainerConfigError", "stdin"),
        ({"securityContext": {"runAsNonRoot": True}}, {}, "CreateContainerConfigError", "runAsNonRoot"),
        (
            {"securityContext": {"runAsUser": 5, "capabilities": {"add": ["SYS_ADMIN"]}}},
            {},
            "CreateContainerConfigError",
            "NET_BIND_SERVICE",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused(container, spec, reason, text):
    (refusal,) = podspec.refusals(pod(container, **spec), agent_uid=0, selinux=True)
    assert refusal.waiting_reason == reason and text in refusal.message


@pytest.mark.parametrize(
    "mount",
    [{"mountPath": "/elsewhere"}, {"mountPath": "/srv", "subPath": "x"}, {"mountPath": "/srv", "readOnly": True}],
)
def test_without_root_a_host_path_appears_only_at_its_own_path(mount):
    made = pod({"volumeMounts": [{"name": "h", **mount}]}, volumes=[{"name": "h", "hostPath": {"path": "/srv"}}])
    (refusal,) = volumespec.refusals(made, can_mount=False)
    assert refusal.event_reason == "FailedMount" and "runs as root" in refusal.message
    assert volumespec.refusals(made, can_mount=True) == []


@pytest.mark.parametrize(
    ("source", "mount", "text"),
    [
        ({"nfs": {"server": "s", "path": "/"}}, {}, "only hostPath, emptyDir"),
        ({"emptyDir": {"medium": "Memory"}}, {}, "emptyDir.medium Memory"),
        ({"projected": {"sources": [{"clusterTrustBundle": {}}]}}, {}, "sources.clusterTrustBundle"),
        ({"emptyDir": {}}, {"mountPath": "/"}, "neither the root"),
        ({"emptyDir": {}}, {"mountPath": "/proc/x"}, "nor in /proc"),
        ({"emptyDir": {}}, {"mountPath": "x"}, "absolute"),
        ({"emptyDir": {}}, {"mountPropagation": "Bidirectional"}, "Bidirectional"),
    ],
)
def test_volumes_that_cannot_be_had_are_named(source, mount, text):
    mount = {"name": "v", "mountPath": "/v", **mount}
    made = pod({"volumeMounts": [mount]}, volumes=[{"name": "v", **source}])
    (refusal,) = volumespec.refusals(made, can_mount=True)
    assert 'volume "v"' in refusal.message and text in refusal.message


def test_a_volume_needs_root_unless_nothing_mounts_it():
    volume = {"name": "v", "emptyDir": {}}
    assert volumespec.refusals(pod(volumes=[volume]), can_mount=False) == []
    (refusal,) = volumespec.refusals(
        pod({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}, volumes=[volume]), can_mount=False
    )
    assert "needs a cluster that runs as root" in refusal.message


def test_the_token_is_mounted_in_pods_that_have_mounts_or_ask_for_it():
    plain = pod()
    assert volumespec.with_token(plain) is plain
    asking = volumespec.with_token(pod(automountServiceAccountToken=True))
    (mount,) = asking["spec"]["containers"][0]["volumeMounts"]
    assert mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    mounts = [{"name": "v", "mountPath": "/v"}, {"name": "v", "mountPath": volumespec.TOKEN_DIRECTORY + "/"}]
    own = volumespec.with_token(pod({"volumeMounts": mounts}, volumes=[{"name": "v", "emptyDir": {}}]))
    assert own["spec"]["containers"][0]["volumeMounts"] == mounts, "what the pod mounts there itself stays"


def test_identity_of_container_over_pod():
    made = pod(
        {"securityContext": {"runAsUser": 60800, "capabilities": {"add": ["CAP_NET_BIND_SERVICE"]}}},
        securityContext={"runAsUser": 1, "runAsGroup": 7, "supplementalGroups": [8], "fsGroup": 9},
    )
    who = podspec.identity(made, made["spec"]["containers"][0], agent_uid=0)
    assert (who.uid, who.gid, who.groups, who.ambient) == (60800, 7, (8, 9), (CAPABILITIES["NET_BIND_SERVICE"],))


def test_a_user_without_a_group_never_gets_the_group_of_root():
    made = pod({"securityContext": {"runAsUser": 60800}})
    assert podspec.identity(made, made["spec"]["containers"][0], agent_uid=0).gid == 60800


@pytest.mark.parametrize("context", [{"runAsUser": 5}, {"runAsGroup": 5}, {"capabilities": {"add": ["KILL"]}}])
def test_an_unprivileged_agent_refuses_other_identities(context):
    made = pod({"securityContext": context})
    with pytest.raises(ValueError):
        podspec.identity(made, made["spec"]["containers"][0], agent_uid=1000)
    own = pod({"securityContext": {"runAsUser": 1000}})
    assert podspec.identity(own, own["spec"]["containers"][0], agent_uid=1000).uid is None


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
    ],
)
def test_qos(resources, expected):
    assert podspec.qos_class(pod({"resources": resources})) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("$(A)/$(B)", "1/$(B)"), ("$$(A)", "$(A)"), ("$$$(A)", "$1"), ("$A ${A} $( $(A", "$A ${A} $( $(A"), ("", "")],
)
def test_expansion(text, expected):
    assert environment.expand(text, {"A": "1"}) == expected


async def test_environment_from_every_source():
    async def read(resource, namespace, name):
        assert namespace == "ns"
        return {
            (CONFIGMAPS, "cm"): {"data": {"key": "from cm"}},
            (SECRETS, "s"): {"data": {"pw": base64.b64encode(b"hidden").decode()}},
        }.get((resource, name))

    made = pod(
        {
            "envFrom": [
                {"configMapRef": {"name": "cm"}, "prefix": "P_"},
                {"secretRef": {"name": "no", "optional": True}},
            ],
            "env": [
                {"name": "A", "value": "x"},
                {"name": "B", "value": "$(A)$(P_key)"},
                {"name": "DB", "value": "$(DB_SERVICE_HOST):$(PATH)"},
                {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pw"}}},
                {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
                {"name": "ASKED", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu"}}},
                {"name": "OPT", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "no", "optional": True}}},
            ],
            "resources": {"limits": {"memory": "100M"}},
        }
    )
    env = await environment.resolve(made, made["spec"]["containers"][0], HOST, read, {"DB_SERVICE_HOST": "127.32.0.9"})
    assert env == {
        "P_key": "from cm", "A": "x", "B": "xfrom cm", "PW": "hidden", "NAME": "p", "APP": "web", "MEM": "96",
        "DB": "127.32.0.9:$(PATH)",
        "CPU": "3000", "ASKED": "0",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ({"configMapKeyRef": {"name": "no", "key": "k"}}, 'configmap "no" not found'),
        ({"secretKeyRef": {"name": "there", "key": "k"}}, "couldn't find key k in Secret ns/there"),
        ({"fieldRef": {"fieldPath": "spec.nothing"}}, "unsupported fieldPath"),
        ({"resourceFieldRef": {"resource": "limits.gold"}}, "unsupported container resource: limits.gold"),
    ],
)
async def test_missing_sources_are_named(source, text):
    async def read(_resource, _namespace, name):
        return {"data": {}} if name == "there" else None

    made = pod({"env": [{"name": "X", "valueFrom": source}]})
    with pytest.raises(ConfigError, match=text):
        await environment.resolve(made, made["spec"]["containers"][0], HOST, read, {"DB_SERVICE_HOST": "127.32.0.9"})


def test_labels_of_selinux_mean_nothing_where_there_is_none():
    level = {"seLinuxOptions": {"level": "s0:c0,c1"}}
    for made in (pod(securityContext=level), pod({"securityContext": level})):
        assert podspec.refusals(made, agent_uid=0, selinux=False) == []
        (refusal,) = podspec.refusals(made, agent_uid=0, selinux=True)
        assert refusal.message == "seLinuxOptions cannot be honoured for a host process"


def ended(code: int) -> Terminated:
    return Terminated(code, "Error" if code else "Completed", NOW, NOW)


@pytest.mark.parametrize(
    ("policy", "code", "init", "step"),
    [
        ("Always", 0, False, Step.START),
        ("Always", 0, True, Step.SUCCEEDED),
        ("Always", 1, True, Step.START),
        ("OnFailure", 0, False, Step.SUCCEEDED),
        ("OnFailure", 1, False, Step.START),
        ("Never", 1, False, Step.FAILED),
        ("Never", 1, True, Step.FAILED),
    ],
)
def test_restart_policy(policy, code, init, step):
    assert lifecycle.decide(ContainerRecord("c", terminated=ended(code)), policy, 0.0, init=init).step is step


def test_back_off_grows_to_five_minutes_and_is_forgotten_after_a_long_run():
    record, waits = ContainerRecord("c"), []
    for _ in range(8):
        lifecycle.back_off(record, 1.0, 1000.0)
        waits.append(record.retry_at - 1000.0 if record.retry_at else 0.0)
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]
    lifecycle.back_off(record, 600.0, 1000.0)
    assert record.retry_at == 0


def views(**fields) -> dict:
    record = fields.pop("record")
    return {"c": status.ContainerView(record, **fields)}


@pytest.mark.parametrize(("away", "step"), [(299, Step.WAIT), (3600, Step.START)])
def test_a_clock_that_is_set_back_does_not_prolong_a_back_off(away, step):
    record = ContainerRecord("c", retry_at=1000.0 + away, terminated=Terminated(1, "Error", "", ""))
    assert lifecycle.decide(record, "Always", 1000.0, init=False).step is step


def test_status_of_a_running_pod():
    record = ContainerRecord("c", pid=5, started_at=NOW, restarts=1, last=ended(1))
    built = status.build(pod(), views(record=record, ready=True, started=True), NOW, Addresses())
    assert built["phase"] == "Running" and built["podIP"] == "127.0.0.1"
    assert {entry["type"]: entry["status"] for entry in built["conditions"]} == dict.fromkeys(
        ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"), "True"
    )
    (entry,) = built["containerStatuses"]
    assert entry["state"] == {"running": {"startedAt": NOW}} and entry["lastState"]["terminated"]["exitCode"] == 1
    assert status.changes(built, built) == {}


@pytest.mark.parametrize(
    ("policy", "code", "waiting", "phase"),
    [
        ("Always", 1, ("CrashLoopBackOff", ""), "Running"),
        ("Never", 0, None, "Succeeded"),
        ("Never", 1, None, "Failed"),
        ("OnFailure", 0, None, "Succeeded"),
        ("OnFailure", 1, None, "Running"),
    ],
)
def test_phase_of_a_pod_whose_container_ended(policy, code, waiting, phase):
    record = ContainerRecord("c", started_at=NOW, terminated=ended(code))
    built = status.build(pod(restartPolicy=policy), views(record=record, waiting=waiting), NOW, Addresses())
    assert built["phase"] == phase
    assert next(entry for entry in built["conditions"] if entry["type"] == "Ready")["status"] == "False"


@pytest.mark.parametrize(
    ("record", "waiting", "phase"),
    [
        (ContainerRecord("c", started_at=NOW, terminated=ended(0)), None, "Succeeded"),
        (ContainerRecord("c", started_at=NOW, terminated=ended(1)), ("CrashLoopBackOff", ""), "Failed"),
        (ContainerRecord("c"), ("ContainerCreating", ""), "Failed"),
        (ContainerRecord("c", pid=5, started_at=NOW), None, "Running"),
    ],
    ids=["ended well", "would be restarted", "never started", "still runs"],
)
def test_a_deleted_pod_ends_whatever_its_restart_policy(record, waiting, phase):
    deleted = pod(restartPolicy="Always")
    deleted["metadata"]["deletionTimestamp"] = NOW
    built = status.build(deleted, views(record=record, waiting=waiting), NOW, Addresses())
    assert built["phase"] == phase
    if record.terminated:
        assert "terminated" in built["containerStatuses"][0]["state"]


def test_a_sidecar_that_still_runs_keeps_a_deleted_pod_from_its_end():
    deleted = pod(initContainers=[{"name": "s", "image": "host", "restartPolicy": "Always"}])
    deleted["metadata"]["deletionTimestamp"] = NOW
    main = ContainerView(ContainerRecord("c", started_at=NOW, terminated=ended(0)))
    sidecar = ContainerRecord("s", pid=5, started_at=NOW)
    assert status.phase(deleted, {"c": main, "s": ContainerView(sidecar)}) == "Running"
    sidecar.pid, sidecar.terminated = 0, ended(143)
    assert status.phase(deleted, {"c": main, "s": ContainerView(sidecar)}) == "Succeeded"


@pytest.mark.parametrize(
    ("record", "waiting", "set_up", "initialized"),
    [
        (ContainerRecord("c"), ("ContainerCreating", "a volume is not there"), "False", ("True", None)),
        (ContainerRecord("c"), ("CreateContainerConfigError", ""), "True", ("True", None)),
        (ContainerRecord("c", pid=5, started_at=NOW), None, "True", ("True", None)),
        (ContainerRecord("c", started_at=NOW, terminated=ended(1)), None, "False", ("True", None)),
        (ContainerRecord("c", started_at=NOW, terminated=ended(0)), None, "False", ("True", "PodCompleted")),
    ],
)
def test_conditions_of_the_way_to_the_first_container(record, waiting, set_up, initialized):
    built = status.build(pod(restartPolicy="Never"), views(record=record, waiting=waiting), NOW, Addresses())
    found = {entry["type"]: entry for entry in built["conditions"]}
    assert found["PodReadyToStartContainers"]["status"] == set_up
    assert (found["Initialized"]["status"], found["Initialized"].get("reason")) == initialized


@pytest.mark.parametrize(
    ("sidecar", "main", "phase"),
    [
        (ContainerView(ContainerRecord("s", pid=1)), ContainerView(ContainerRecord("c")), "Pending"),
        (
            ContainerView(ContainerRecord("s", pid=1), started=True),
            ContainerView(ContainerRecord("c", pid=2, started_at=NOW)),
            "Running",
        ),
        (
            ContainerView(ContainerRecord("s", pid=1), started=True),
            ContainerView(ContainerRecord("c", started_at=NOW, terminated=Terminated(0, "Completed", NOW, NOW))),
            "Running",
        ),
        (
            ContainerView(ContainerRecord("s", started_at=NOW, terminated=Terminated(143, "Error", NOW, NOW))),
            ContainerView(ContainerRecord("c", started_at=NOW, terminated=Terminated(0, "Completed", NOW, NOW))),
            "Succeeded",
        ),
    ],
    ids=["not started", "running", "only the sidecar runs", "all have ended"],
)
def test_a_pod_has_not_ended_while_a_sidecar_runs(sidecar, main, phase):
    made = pod(restartPolicy="Never", initContainers=[{"name": "s", "image": "host", "restartPolicy": "Always"}])
    assert status.phase(made, {"s": sidecar, "c": main}) == phase


def test_conditions_keep_their_transition_times_and_those_of_others():
    before = pod()
    before["status"] = {
        "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"},
            {"type": "example.org/gate", "status": "True"},
        ]
    }
    before["spec"]["readinessGates"] = [{"conditionType": "example.org/gate"}]
    record = ContainerRecord("c", pid=5, started_at=NOW)
    built = status.build(before, views(record=record, ready=True, started=True), NOW, Addresses())["conditions"]
    ready = next(entry for entry in built if entry["type"] == "Ready")
    assert ready["lastTransitionTime"] == "2020-01-01T00:00:00Z" and ready["status"] == "True"
    assert built[-1] == {"type": "example.org/gate", "status": "True"}


def test_cgroup_hierarchies_are_found_by_the_mount_table(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    found = find_hierarchies(
        f"cgroup2 {tmp_path} cgroup2 rw 0 0\nc /sys/fs/cgroup/memory cgroup rw,memory 0 0\n/dev/sda / ext4 rw 0 0\n"
    )
    assert found.unified == tmp_path and found.controllers == {"cpu", "memory"}
    assert str(found.legacy["memory"]) == "/sys/fs/cgroup/memory"
    problems = ContainerGroup(found, "uid", "c").prepare(memory=1 << 20, cpu=0.5)
    assert len(problems) == 2, "a directory that is no control group must not look like one"


def test_grace_period_of_the_deletion_wins():
    made = pod(terminationGracePeriodSeconds=60)
    assert podspec.grace_period(made) == 60
    made["metadata"]["deletionGracePeriodSeconds"] = 0
    assert podspec.grace_period(made) == 0


def test_seconds_between():
    assert lifecycle.seconds_between("2026-01-01T00:00:00Z", "2026-01-01T00:01:30Z") == 90
    assert lifecycle.seconds_between("", NOW) == 0
