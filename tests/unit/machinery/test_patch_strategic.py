"""Strategic merge patch on the kinds that kubectl patches so. `kubectl patch --local` is the reference."""

from __future__ import annotations

import copy
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube.machinery.builtin import definitions, openapi_v3_schema
from kube.machinery.errors import StatusError
from kube.machinery.patch import strategic_merge_patch

POD = "io.k8s.api.core.v1.Pod"


def pod(spec=None, **metadata):
    return {"metadata": metadata, "spec": spec or {}}


def apply(doc, patch, kind=POD):
    before = copy.deepcopy((doc, patch))
    result = strategic_merge_patch(doc, patch, openapi_v3_schema(kind))
    assert (doc, patch) == before
    return result


def spec_after(spec, patch):
    return apply({"spec": spec}, {"spec": patch})["spec"]


def refused(doc, patch):
    with pytest.raises(StatusError) as caught:
        apply(doc, patch)
    return caught.value


A, B, C = ({"name": name, "image": f"{name}:1"} for name in "abc")


def test_containers_merge_by_name_and_new_ones_come_first():
    patched = spec_after({"containers": [A, B]}, {"containers": [{"name": "b", "image": "b:2"}, C]})
    assert patched["containers"] == [A, {"name": "b", "image": "b:2"}, C]
    patched = spec_after({"containers": [A, B]}, {"containers": [C]})
    assert patched["containers"] == [C, A, B]


def test_lists_inside_of_containers_merge_by_their_own_keys():
    live = {
        **A,
        "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "1"}],
        "ports": [{"containerPort": 80, "name": "http"}],
        "volumeMounts": [{"mountPath": "/a", "name": "v"}],
        "args": ["old", "list"],
    }
    patch = {
        "name": "a",
        "env": [{"name": "Y", "value": "2"}],
        "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 443}],
        "volumeMounts": [{"mountPath": "/a", "readOnly": True}],
        "args": ["new"],
    }
    assert spec_after({"containers": [live]}, {"containers": [patch]})["containers"] == [
        {
            **A,
            "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}],
            "ports": [{"containerPort": 80, "name": "http", "protocol": "TCP"}, {"containerPort": 443}],
            "volumeMounts": [{"mountPath": "/a", "name": "v", "readOnly": True}],
            "args": ["new"],
        }
    ]


def test_the_first_of_two_items_with_one_key_is_merged():
    """Ports are keyed by number only, so that 53/UDP and 53/TCP are the same item."""
    live = {**A, "ports": [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "protocol": "TCP"}]}
    patch = {"name": "a", "ports": [{"containerPort": 53, "name": "dns"}]}
    (container,) = spec_after({"containers": [live]}, {"containers": [patch]})["containers"]
    assert container["ports"] == [
        {"containerPort": 53, "protocol": "UDP", "name": "dns"},
        {"containerPort": 53, "protocol": "TCP"},
    ]


def test_items_are_deleted_and_lists_replaced_by_directive():
    delete = {"containers": [{"$patch": "delete", "name": "a"}, {"$patch": "delete", "name": "no such"}]}
    assert spec_after({"containers": [A, B]}, delete) == {"containers": [B]}
    replace = {"containers": [C, {"$patch": "replace"}]}
    assert spec_after({"containers": [A, B]}, replace) == {"containers": [C]}


def test_the_element_order_is_kept():
    order = {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}], "containers": [C]}
    assert [c["name"] for c in spec_after({"containers": [A, B]}, order)["containers"]] == ["c", "a", "b"]
    only = {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}
    assert [c["name"] for c in spec_after({"containers": [A, B, C]}, only)["containers"]] == ["b", "a", "c"]
    assert spec_after({}, only) == {}
    added = {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [B, A]}
    assert spec_after({}, added) == {"containers": [B, A]}


def test_what_kubectl_apply_sends_to_remove_a_container():
    patch = {"containers": [{"$patch": "delete", "name": "b"}], "$setElementOrder/containers": [{"name": "a"}]}
    assert spec_after({"containers": [A, B]}, patch) == {"containers": [A]}


def test_finalizers_are_a_merged_list_of_scalars():
    doc = pod(finalizers=["x", "y"])
    assert apply(doc, {"metadata": {"finalizers": ["z", "x"]}})["metadata"] == {"finalizers": ["z", "x", "y"]}
    patch = {
        "metadata": {
            "$deleteFromPrimitiveList/finalizers": ["x", "no such"],
            "$setElementOrder/finalizers": ["z", "y"],
            "finalizers": ["z"],
        }
    }
    assert apply(doc, patch)["metadata"] == {"finalizers": ["z", "y"]}
    assert apply(pod(), {"metadata": {"$deleteFromPrimitiveList/finalizers": ["x"]}}) == pod()


def test_owner_references_merge_by_uid():
    doc = pod(ownerReferences=[{"uid": "1", "name": "a"}, {"uid": "2", "name": "b"}])
    patch = {"metadata": {"ownerReferences": [{"uid": "2", "controller": True}, {"$patch": "delete", "uid": "1"}]}}
    assert apply(doc, patch)["metadata"] == {"ownerReferences": [{"uid": "2", "name": "b", "controller": True}]}


def test_lists_without_a_strategy_are_replaced():
    spec = {"tolerations": [{"key": "a"}, {"key": "b"}]}
    assert spec_after(spec, {"tolerations": [{"key": "c"}]}) == {"tolerations": [{"key": "c"}]}


def test_maps_merge_by_key_and_null_deletes():
    doc = pod(labels={"a": "1", "b": "2"}, annotations={"x": "y"})
    patch = {"metadata": {"labels": {"a": None, "c": "3"}, "annotations": None, "generateName": None}}
    assert apply(doc, patch)["metadata"] == {"labels": {"b": "2", "c": "3"}}
    configmap = apply({"data": {"a": "1", "b": "2"}}, {"data": {"b": None}}, "io.k8s.api.core.v1.ConfigMap")
    assert configmap == {"data": {"a": "1"}}


def test_service_accounts_merge_their_secrets_but_not_their_pull_secrets():
    patch = {"imagePullSecrets": [{"name": "b"}], "secrets": [{"name": "s", "namespace": "n"}]}
    doc = {"imagePullSecrets": [{"name": "a"}], "secrets": [{"name": "s"}]}
    assert apply(doc, patch, "io.k8s.api.core.v1.ServiceAccount") == {
        "imagePullSecrets": [{"name": "b"}],
        "secrets": [{"name": "s", "namespace": "n"}],
    }


def test_unions_retain_the_keys_of_the_patch():
    doc = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    deployment = "io.k8s.api.apps.v1.Deployment"
    assert apply(doc, patch, deployment) == {"spec": {"strategy": {"type": "Recreate"}}}
    # Nothing to merge with: the directive must not end up in the object.
    assert apply({"spec": {}}, patch, deployment) == {"spec": {"strategy": {"type": "Recreate"}}}


def test_a_rollout_restart_touches_only_its_annotation():
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [A]}}
    patch = {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}}
    patched = apply({"spec": {"template": template}}, patch, "io.k8s.api.apps.v1.Deployment")
    assert patched["spec"]["template"] == {
        "metadata": {"labels": {"app": "x"}, "annotations": {"kubectl.kubernetes.io/restartedAt": "now"}},
        "spec": {"containers": [A]},
    }


def test_objects_are_replaced_and_deleted_by_directive():
    doc = pod(labels={"a": "1"})
    assert apply(doc, {"metadata": {"labels": {"$patch": "replace", "c": "3"}}}) == pod(labels={"c": "3"})
    assert apply(doc, {"metadata": {"labels": {"$patch": "delete"}}}) == pod(labels={})
    assert apply(doc, {"$patch": "replace", "spec": {"x": 1}}) == {"spec": {"x": 1}}


def test_directives_and_nulls_never_end_up_in_what_is_new():
    container = {
        "name": "n",
        "image": None,
        "env": [{"$patch": "delete", "name": "X"}, {"name": "Y", "value": None}],
        "resources": {"$patch": "replace", "limits": {}},
        "$setElementOrder/env": [{"name": "Y"}],
    }
    patched = spec_after({"containers": [A]}, {"containers": [container], "volumes": [{"$patch": "replace"}]})
    assert patched == {"containers": [{"name": "n", "env": [{"name": "Y"}]}, A], "volumes": []}


def test_fields_that_the_schema_does_not_know_are_replaced():
    assert spec_after({"zz": {"a": 1}, "l": [1]}, {"zz": {"b": 2}, "l": [2]}) == {"zz": {"b": 2}, "l": [2]}


def test_a_change_of_type_replaces():
    assert spec_after({"containers": "x"}, {"containers": [A]}) == {"containers": [A]}
    assert spec_after({"containers": [A]}, {"containers": {"a": 1}}) == {"containers": {"a": 1}}


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ([], "invalid JSON document"),
        ({"spec": {"containers": [{"image": "x"}]}}, "does not contain declared merge key: name"),
        ({"spec": {"containers": [{"name": {"a": 1}}]}}, "identifies no list item"),
        ({"spec": {"containers": ["a"]}}, "list element types are not identical"),
        ({"spec": {"containers": [{"$patch": "merge", "name": "a"}]}}, "merging lists cannot yet be specified"),
        ({"spec": {"containers": [{"$patch": "foo", "name": "a"}]}}, "unknown patch type: foo in map"),
        ({"spec": {"$patch": "merge"}}, "unknown patch type: merge in map"),
        ({"spec": {"$retainKeys": ["a"], "b": 1}}, "invalid patch format of retainKeys"),
        ({"spec": {"$retainKeys": "a"}}, "invalid patch format of retainKeys"),
        ({"metadata": {"$deleteFromPrimitiveList/finalizers": "x"}}, "invalid patch format of primitive list"),
        ({"spec": {"$setElementOrder/containers": 3}}, "expected a list for $setElementOrder/containers"),
        (
            {"spec": {"$setElementOrder/containers": [{"name": "a"}], "containers": [B]}},
            "doesn't match $setElementOrder list",
        ),
        (
            {"spec": {"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}], "containers": [B, A]}},
            "doesn't match $setElementOrder list",
        ),
    ],
)
def test_malformed_patches(patch, message):
    error = refused(pod({"containers": [A]}, finalizers=["x"]), patch)
    assert error.code == 400
    assert message in error.message


def test_lists_of_lists_cannot_be_merged():
    error = refused(pod({"containers": [A]}), {"spec": {"containers": [[A]]}})
    assert (error.code, error.reason) == (422, "Invalid")


def test_deep_nesting_is_the_clients_error():
    patch: dict = {}
    for _ in range(5000):
        patch = {"zz": patch}
    with pytest.raises(StatusError) as caught:
        strategic_merge_patch(pod(), patch, {})
    assert caught.value.code == 400


def test_references_are_resolved_by_name():
    schema = {"$ref": f"#/definitions/{POD}"}
    doc, patch = {"spec": {"containers": [A, B]}}, {"spec": {"containers": [{"name": "b", "image": "b:2"}]}}
    patched = strategic_merge_patch(doc, patch, schema, definitions().__getitem__)
    assert patched == {"spec": {"containers": [A, {"name": "b", "image": "b:2"}]}}
    wrapped = {"properties": {"spec": {"allOf": [{"$ref": "#/components/schemas/io.k8s.api.core.v1.PodSpec"}]}}}
    assert strategic_merge_patch(doc, patch, wrapped, definitions().__getitem__) == patched
    with pytest.raises(ValueError, match="nothing to resolve it with"):
        strategic_merge_patch(doc, patch, schema)


NAMES = st.lists(st.sampled_from("abcd"), unique=True, max_size=4)


@given(NAMES, NAMES, st.sets(st.sampled_from("abcd")))
def test_a_merged_list_has_the_items_of_both_in_the_order_of_both(live, changed, deleted):
    """Whatever the lists: nothing twice, nothing lost, and neither side's own order is upset by the other's."""
    patch = [{"name": name, "image": "new"} for name in changed if name not in deleted]
    patch += [{"$patch": "delete", "name": name} for name in sorted(deleted)]
    doc = {"spec": {"containers": [{"name": name, "image": "old"} for name in live]}}
    result = apply(doc, {"spec": {"containers": patch}})["spec"]["containers"]
    names = [container["name"] for container in result]
    named = [name for name in changed if name not in deleted]
    assert sorted(names) == sorted((set(live) | set(changed)) - deleted)
    assert [name for name in names if name in named] == named
    kept = [name for name in live if name not in deleted and name not in named]
    assert [name for name in names if name in kept] == kept
    assert all((container["image"] == "new") is (container["name"] in named) for container in result)


@given(NAMES, st.permutations(["a", "b", "c", "d"]))
def test_an_order_list_rules(live, order):
    doc = {"metadata": {"finalizers": live}}
    result = apply(doc, {"metadata": {"$setElementOrder/finalizers": order}})["metadata"]["finalizers"]
    assert result == [name for name in order if name in live]
    assert all(order.index(left) < order.index(right) for left, right in itertools.pairwise(result))
