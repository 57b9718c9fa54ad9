"""lightkube: objects, patches, apply, watches, waiting and logs."""

from __future__ import annotations

import pytest
from lightkube import ApiError, Client, KubeConfig
from lightkube.codecs import from_dict
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.core_v1 import ConfigMap as ConfigMapModel
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Pod
from lightkube.types import PatchType

from compat.conftest import sleeping_pod

pytestmark = pytest.mark.filterwarnings("default")
Gear = create_namespaced_resource("gears.example.com", "v1", "Gear", "gears")


@pytest.fixture
def api(cluster, namespace):
    with Client(KubeConfig.from_file(cluster.kubeconfig), namespace=namespace, field_manager="me") as made:
        yield made


def configmap(name, **data):
    return ConfigMap(metadata=ObjectMeta(name=name, labels={"app": name}), data=data)


def test_objects_and_patches(api):
    made = api.create(configmap("a", k="1"))
    assert isinstance(made, ConfigMapModel)
    assert api.patch(ConfigMap, "a", {"data": {"s": "1"}}).data == {"k": "1", "s": "1"}
    assert api.patch(ConfigMap, "a", {"data": {"s": None}}, patch_type=PatchType.MERGE).data == {"k": "1"}
    operations = [{"op": "replace", "path": "/data/k", "value": "2"}]
    assert api.patch(ConfigMap, "a", operations, patch_type=PatchType.JSON).data == {"k": "2"}
    assert [item.metadata.name for item in api.list(ConfigMap, labels={"app": ["a", "b"]})] == ["a"]
    made.data = {"k": "stale"}
    with pytest.raises(ApiError) as refused:
        api.replace(made)
    assert refused.value.status.reason == "Conflict"
    api.delete(ConfigMap, "a")
    with pytest.raises(ApiError) as refused:
        api.get(ConfigMap, "a")
    assert (refused.value.status.code, refused.value.status.reason) == (404, "NotFound")


def test_apply(api):
    assert api.apply(configmap("a", k="1", own="1")).metadata.managedFields[0].operation == "Apply"
    with pytest.raises(ApiError, match='conflict with "me"'):
        api.apply(configmap("a", k="2"), field_manager="you")
    api.apply(configmap("a", k="2"), field_manager="you", force=True)
    assert api.apply(configmap("a")).data == {"k": "2"}


def test_custom_resources(api, gears):
    api.create(Gear(metadata=ObjectMeta(name="g"), spec={"teeth": 3}))
    api.patch(Gear.Status, "g", {"status": {"ok": True}}, patch_type=PatchType.MERGE)
    found = api.get(Gear, "g")
    assert (found.spec, found.status) == ({"teeth": 3}, {"ok": True})


def test_a_watch_is_resumed(api):
    first = api.create(configmap("a"))
    api.create(configmap("b"))
    api.delete(ConfigMap, "b")
    seen = []
    version = first.metadata.resourceVersion
    for kind, item in api.watch(ConfigMap, labels={"app": ["a", "b"]}, resource_version=version, server_timeout=2):
        seen.append((kind, item.metadata.name))
        if kind == "DELETED":
            break
    assert seen == [("ADDED", "b"), ("DELETED", "b")]


def test_waiting_and_logs(api):
    labels = {"app": "d"}
    template = {"metadata": {"labels": labels}, "spec": sleeping_pod("")["spec"]}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    api.create(from_dict({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}))
    api.wait(Deployment, "d", for_conditions=["Available"])
    (pod,) = api.list(Pod, labels=labels)
    assert list(api.log(pod.metadata.name)) == ["one\n"]
    api.patch(Deployment.Scale, "d", {"spec": {"replicas": 0}}, patch_type=PatchType.MERGE)
