from __future__ import annotations

from typing import Any

import pytest

from kube.machinery import builtin, resources
from kube.machinery.resources import Resource
from kube.machinery.schema import compile_schema

POD = "io.k8s.api.core.v1.Pod"


def references(schema: Any) -> set[str]:
    if isinstance(schema, dict):
        own = {schema["$ref"].rpartition("/")[2]} if isinstance(schema.get("$ref"), str) else set()
        return own.union(*(references(value) for value in schema.values()))
    return set()


def test_definitions_are_closed_and_restored() -> None:
    definitions = builtin.definitions()
    assert references(definitions) <= definitions.keys()
    pod = definitions[POD]
    assert pod["properties"]["kind"] == {"description": pod["properties"]["kind"]["description"], "type": "string"}
    container = definitions["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert container["x-kubernetes-patch-merge-key"] == "name"
    assert definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["format"] == "int-or-string"


def test_every_resource_constant_has_a_definition() -> None:
    constants = [value for value in vars(resources).values() if isinstance(value, Resource)]
    assert constants
    assert [value.kind for value in constants if builtin.definition_for(value) is None] == []
    assert builtin.definition_for(Resource("example.com", "v1", "widgets", "Widget")) is None


@pytest.mark.parametrize(
    ("group", "kind"),
    [
        ("autoscaling", "Scale"),
        ("policy", "Eviction"),
        ("authentication.k8s.io", "TokenReview"),
        ("authorization.k8s.io", "SelfSubjectRulesReview"),
        ("", "Status"),
        ("", "PodList"),
        ("events.k8s.io", "Event"),
    ],
)
def test_kinds_without_a_constant(group: str, kind: str) -> None:
    assert builtin.definition_for_kind(group, "v1", kind) in builtin.definitions()


def test_recursive_definitions_are_graphs() -> None:
    crd = builtin.openapi_v3_schema("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
    assert crd["properties"]["not"] is crd
    assert builtin.openapi_v3_schema(POD) is builtin.openapi_v3_schema(POD)


def test_a_pod_is_judged_by_its_definition() -> None:
    schema = compile_schema(builtin.openapi_v3_schema(POD))
    container = {"image": "x", "foo": 1, "ports": [{"containerPort": "80"}], "resources": {"limits": {"cpu": 1}}}
    pod = {"metadata": {"name": "a", "creationTimestamp": None, "nmae": 1}, "spec": {"containers": [container]}}
    schema.default(pod)
    assert schema.prune(pod) == ["metadata.nmae", "spec.containers[0].foo"]
    assert "creationTimestamp" not in pod["metadata"]
    assert {(cause.field, cause.reason) for cause in schema.validate(pod)} == {
        ("spec.containers[0].ports[0].containerPort", "FieldValueTypeInvalid"),
        ("spec.containers[0].name", "FieldValueRequired"),
    }


def test_a_crd_keeps_its_schemas_and_their_defaults() -> None:
    schema = compile_schema(builtin.openapi_v3_schema(str(builtin.definition_for(resources.CRDS))))
    field = {"type": "array", "items": {"type": "string"}}
    spec = {"type": "object", "default": {}, "properties": {"a": field}}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": spec}}]
    names = {"plural": "widgets", "kind": "Widget"}
    crd = {"spec": {"group": "example.com", "names": names, "scope": "Namespaced", "versions": versions}}
    schema.default(crd)
    assert schema.prune(crd) == []
    assert schema.validate(crd) == []
    field["typo"] = 1
    assert schema.prune(crd) == ["spec.versions[0].schema.openAPIV3Schema.properties.a.typo"]
