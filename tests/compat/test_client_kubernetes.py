"""The official Python client: built-in and custom kinds, patches, watches, streams, leader election."""

from __future__ import annotations

import threading

import pytest
from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException
from kubernetes.informer import SharedInformer
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock
from kubernetes.stream import portforward, stream
from kubernetes.utils import create_from_dict

from compat.conftest import http_pod, sleeping_pod

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def api(cluster):
    with config.new_client_from_config(str(cluster.kubeconfig)) as made:
        yield made


@pytest.fixture(scope="module")
def core(api):
    return client.CoreV1Api(api)


def configmap(name, **data):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"app": name}), data=data)


def run(core, namespace, pod):
    """Create a pod and wait, by a watch, until it is ready."""
    core.create_namespaced_pod(namespace, pod)
    name = pod["metadata"]["name"]
    found = watch.Watch()
    for event in found.stream(
        core.list_namespaced_pod, namespace, field_selector=f"metadata.name={name}", timeout_seconds=20
    ):
        conditions = event["object"].status.conditions or []
        if any(entry.type == "Ready" and entry.status == "True" for entry in conditions):
            found.stop()
            return
    raise AssertionError("the pod did not become ready")


def test_objects(core, namespace):
    core.create_namespaced_config_map(namespace, configmap("a", k="1"))
    with pytest.raises(ApiException) as refused:
        core.create_namespaced_config_map(namespace, configmap("a"))
    assert (refused.value.status, refused.value.reason) == (409, "Conflict")
    read = core.read_namespaced_config_map("a", namespace)
    read.data = {"k": "2"}
    stale = read.metadata.resource_version
    assert core.replace_namespaced_config_map("a", namespace, read).data == {"k": "2"}
    read.metadata.resource_version = stale
    with pytest.raises(ApiException) as refused:
        core.replace_namespaced_config_map("a", namespace, read)
    assert refused.value.status == 409
    listed = core.list_namespaced_config_map(namespace, label_selector="app in (a)")
    assert [item.metadata.name for item in listed.items] == ["a"]
    core.delete_namespaced_config_map("a", namespace)
    with pytest.raises(ApiException) as refused:
        core.read_namespaced_config_map("a", namespace)
    assert refused.value.status == 404


def test_patches_and_apply(core, namespace):
    core.create_namespaced_config_map(namespace, configmap("a", k="1"))
    patch = core.patch_namespaced_config_map
    assert patch("a", namespace, {"data": {"s": "1"}}).data == {"k": "1", "s": "1"}
    operations = [{"op": "remove", "path": "/data/s"}]
    assert patch("a", namespace, operations, _content_type="application/json-patch+json").data == {"k": "1"}
    merged = patch("a", namespace, {"data": {"k": None, "m": "1"}}, _content_type="application/merge-patch+json")
    assert merged.data == {"m": "1"}
    applied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "data": {"k": "1"}}
    apply = {"field_manager": "me", "_content_type": "application/apply-patch+yaml"}
    assert patch("b", namespace, applied, **apply).metadata.managed_fields[0].manager == "me"
    with pytest.raises(ApiException) as refused:
        patch("b", namespace, {**applied, "data": {"k": "2"}}, **{**apply, "field_manager": "you"})
    assert refused.value.status == 409 and 'conflict with \\"me\\"' in refused.value.body
    forced = patch("b", namespace, {**applied, "data": {"k": "2"}}, force=True, **{**apply, "field_manager": "you"})
    assert forced.data == {"k": "2"}


def test_custom_resources(api, gears, namespace):
    custom = client.CustomObjectsApi(api)
    where = ("gears.example.com", "v1", namespace, "gears")
    gear = {"apiVersion": "gears.example.com/v1", "kind": "Gear", "metadata": {"name": "g"}, "spec": {"teeth": 3}}
    custom.create_namespaced_custom_object(*where, gear)
    custom.patch_namespaced_custom_object_status(*where, "g", {"spec": {"teeth": 9}, "status": {"ok": True}})
    read = custom.get_namespaced_custom_object(*where, "g")
    assert (read["spec"], read["status"]) == ({"teeth": 3}, {"ok": True})
    found = dynamic.DynamicClient(api).resources.get(api_version="gears.example.com/v1", kind="Gear")
    assert found.get(namespace=namespace).items[0].spec.teeth == 3
    custom.delete_namespaced_custom_object(*where, "g")
    assert custom.list_namespaced_custom_object(*where)["items"] == []


def test_a_watch_is_resumed(core, namespace):
    first = core.create_namespaced_config_map(namespace, configmap("a"))
    core.create_namespaced_config_map(namespace, configmap("b"))
    core.delete_namespaced_config_map("b", namespace)
    events = watch.Watch().stream(
        core.list_namespaced_config_map,
        namespace,
        resource_version=first.metadata.resource_version,
        label_selector="app",
        timeout_seconds=1,
    )
    assert [(event["type"], event["object"].metadata.name) for event in events] == [("ADDED", "b"), ("DELETED", "b")]
    with pytest.raises(ApiException) as refused:
        list(watch.Watch().stream(core.list_namespaced_config_map, namespace, resource_version="99999999999"))
    assert refused.value.status == 410


def test_deployment(api, namespace):
    template = {"metadata": {"labels": {"app": "d"}}, "spec": sleeping_pod("")["spec"]}
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "d"}}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}
    create_from_dict(api, deployment, namespace=namespace)
    apps = client.AppsV1Api(api)
    for event in watch.Watch().stream(apps.list_namespaced_deployment, namespace, timeout_seconds=20):
        if event["object"].status.ready_replicas == 1:
            break
    else:
        raise AssertionError("the deployment did not become ready")
    apps.patch_namespaced_deployment_scale("d", namespace, {"spec": {"replicas": 0}})
    assert apps.read_namespaced_deployment("d", namespace).spec.replicas == 0
    apps.delete_namespaced_deployment("d", namespace, propagation_policy="Foreground")


def test_streams(core, namespace):
    run(core, namespace, http_pod("web"))
    lines = watch.Watch().stream(core.read_namespaced_pod_log, "web", namespace)  # follows the log
    port = int(next(lines))
    said = stream(
        core.connect_get_namespaced_pod_exec,
        "web",
        namespace,
        command=["sh", "-c", "read word; echo said $word; exit 3"],
        stdin=True,
        stdout=True,
        stderr=True,
        tty=False,
        _preload_content=False,
    )
    said.write_stdin("hello\n")
    said.run_forever(timeout=10)
    assert (said.read_stdout(), said.returncode) == ("said hello\n", 3)
    forward = portforward(core.connect_get_namespaced_pod_portforward, "web", namespace, ports=str(port))
    connection = forward.socket(port)
    connection.settimeout(10)
    connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert connection.recv(12).startswith(b"HTTP/1.0 200")
    connection.close()


def test_leader_election(cluster, namespace):
    """Two candidates for a lease: one leads, and when it no longer renews, the other one takes over."""
    config.load_kube_config(str(cluster.kubeconfig))

    def candidate(name):
        lock = LeaseLock("lead", namespace, name)
        callbacks = {"onstarted_leading": lambda: None, "onstopped_leading": lambda: None}
        timing = electionconfig.Config(lock, lease_duration=3, renew_deadline=2, retry_period=1, **callbacks)
        timing.lease_duration, timing.retry_period = 1, 0.1  # its own checks want whole seconds, and more of them
        return leaderelection.LeaderElection(timing)

    one, two = candidate("one"), candidate("two")
    assert one.try_acquire_or_renew()
    assert not two.try_acquire_or_renew()
    assert one.try_acquire_or_renew()
    assert two.acquire()
    assert client.CoordinationV1Api().read_namespaced_lease("lead", namespace).spec.holder_identity == "two"
    assert not one.try_acquire_or_renew()


def test_informer(core, namespace):
    """It lists, follows, and its cache is what the server has."""
    core.create_namespaced_config_map(namespace, configmap("a"))
    seen = {kind: threading.Event() for kind in ("ADDED", "MODIFIED", "DELETED")}
    informer = SharedInformer(core.list_namespaced_config_map, namespace=namespace, label_selector="app")
    for kind, event in seen.items():
        informer.add_event_handler(kind, lambda _, event=event: event.set())
    informer.start()
    try:
        assert seen["ADDED"].wait(10)
        core.patch_namespaced_config_map("a", namespace, {"data": {"k": "v"}})
        assert seen["MODIFIED"].wait(10)
        assert [item.data for item in informer.cache.list()] == [{"k": "v"}]
        core.delete_namespaced_config_map("a", namespace)
        assert seen["DELETED"].wait(10)
        assert informer.cache.list() == []
    finally:
        informer.stop()
