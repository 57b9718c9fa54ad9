"""What clients look for in the documents; `kubectl explain` of version 1.32 was run against the same structure."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kube.machinery import builtin, resources
from kube.machinery.openapi import openapi_v2_document, openapi_v3_document
from kube.machinery.openapi_schemas import ServedResource
from kube.machinery.resources import Resource

WIDGET = Resource("example.com", "v1", "widgets", "Widget")
SCHEMA = {
    "type": "object",
    "description": "A widget.",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "color": {"type": "string", "nullable": True, "enum": ["red"]},
                "port": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            },
        }
    },
}
SERVED = [
    ServedResource(item, definition=builtin.definition_for(item), subresources=("status", "scale"))
    for item in (resources.PODS, resources.NAMESPACES, resources.DEPLOYMENTS)
] + [ServedResource(WIDGET, schema=SCHEMA, subresources=("status",))]


def references(document: Any) -> set[str]:
    if isinstance(document, dict):
        own = {document["$ref"]} if isinstance(document.get("$ref"), str) else set()
        return own.union(*map(references, document.values()))
    if isinstance(document, list):
        return set().union(*map(references, document))
    return set()


@pytest.mark.parametrize("group_version", ["v1", "apps/v1", "example.com/v1"])
def test_v3_references_lead_to_schemas(group_version: str) -> None:
    document = json.loads(json.dumps(openapi_v3_document(group_version, SERVED)))
    schemas = document["components"]["schemas"]
    assert references(document) <= {f"#/components/schemas/{name}" for name in schemas}
    assert all(path.startswith("/api") and group_version in path for path in document["paths"])


def test_v2_references_lead_to_definitions() -> None:
    document = json.loads(json.dumps(openapi_v2_document(SERVED)))
    assert references(document) <= {f"#/definitions/{name}" for name in document["definitions"]}


def test_explain_finds_a_kind_by_its_path() -> None:
    document = openapi_v3_document("example.com/v1", SERVED)
    get = document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["get"]
    gvk = get["x-kubernetes-group-version-kind"]
    assert gvk == {"group": "example.com", "version": "v1", "kind": "Widget"}
    schemas = document["components"]["schemas"]
    (found,) = [schema for schema in schemas.values() if gvk in schema.get("x-kubernetes-group-version-kind", ())]
    assert found["description"] == "A widget."
    assert {"apiVersion", "kind", "metadata", "spec"} == found["properties"].keys()


def test_references_with_a_description_are_wrapped() -> None:
    pod = openapi_v3_document("v1", SERVED)["components"]["schemas"]["io.k8s.api.core.v1.Pod"]
    spec = pod["properties"]["spec"]
    assert spec["allOf"] == [{"$ref": "#/components/schemas/io.k8s.api.core.v1.PodSpec"}]
    assert spec["description"]


@pytest.mark.parametrize("method", ["patch", "put"])
@pytest.mark.parametrize("path", ["/api/v1/namespaces/{name}", "/api/v1/namespaces/{namespace}/pods/{name}"])
def test_field_validation_is_offered(path: str, method: str) -> None:
    for document in (openapi_v3_document("v1", SERVED), openapi_v2_document(SERVED)):
        names = {parameter["name"] for parameter in document["paths"][path][method]["parameters"]}
        assert "fieldValidation" in names


def test_actions() -> None:
    paths = openapi_v3_document("apps/v1", SERVED)["paths"]
    collection = paths["/apis/apps/v1/namespaces/{namespace}/deployments"]
    actions = {method: value["x-kubernetes-action"] for method, value in collection.items() if method != "parameters"}
    assert actions == {"get": "list", "post": "post", "delete": "deletecollection"}
    assert paths["/apis/apps/v1/deployments"].keys() == {"get", "parameters"}
    scale = paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["get"]
    assert scale["x-kubernetes-group-version-kind"]["kind"] == "Scale"
    patch = paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert "application/strategic-merge-patch+json" in patch["requestBody"]["content"]


@pytest.mark.parametrize(
    ("resource", "subresource", "method", "operation", "action", "kind"),
    [
        (resources.PODS, "exec", "get", "connectCoreV1GetNamespacedPodExec", "connect", "PodExecOptions"),
        (resources.PODS, "exec", "post", "connectCoreV1PostNamespacedPodExec", "connect", "PodExecOptions"),
        (resources.PODS, "attach", "get", "connectCoreV1GetNamespacedPodAttach", "connect", "PodAttachOptions"),
        (resources.PODS, "portforward", "post", "connectCoreV1PostNamespacedPodPortforward", "connect",
         "PodPortForwardOptions"),
        (resources.PODS, "log", "get", "readCoreV1NamespacedPodLog", "get", "Pod"),
        (resources.PODS, "binding", "post", "createCoreV1NamespacedPodBinding", "post", "Binding"),
        (resources.PODS, "eviction", "post", "createCoreV1NamespacedPodEviction", "post", "Eviction"),
        (resources.SERVICEACCOUNTS, "token", "post", "createCoreV1NamespacedServiceAccountToken", "post",
         "TokenRequest"),
        (resources.NAMESPACES, "finalize", "put", "replaceCoreV1NamespaceFinalize", "put", "Namespace"),
    ],
)  # fmt: skip
def test_subresources_have_the_operations_of_kubernetes(resource, subresource, method, operation, action, kind) -> None:
    served = ServedResource(resource, definition=builtin.definition_for(resource), subresources=(subresource,))
    scope = "/namespaces/{namespace}" if resource.namespaced else ""
    for document in (openapi_v3_document("v1", [served]), openapi_v2_document([served])):
        found = document["paths"][f"/api/v1{scope}/{resource.plural}/{{name}}/{subresource}"][method]
        assert (found["operationId"], found["x-kubernetes-action"]) == (operation, action)
        assert found["x-kubernetes-group-version-kind"]["kind"] == kind
        schemas = document.get("definitions") or document["components"]["schemas"]
        assert {name.rpartition("/")[2] for name in references(found)} <= schemas.keys()


def test_a_stream_is_text() -> None:
    pods = ServedResource(
        resources.PODS, definition=builtin.definition_for(resources.PODS), subresources=("exec", "log")
    )
    item = "/api/v1/namespaces/{namespace}/pods/{name}"
    paths = openapi_v3_document("v1", [pods])["paths"]
    assert paths[f"{item}/exec"]["get"]["responses"]["200"]["content"] == {"*/*": {"schema": {"type": "string"}}}
    assert "text/plain" in paths[f"{item}/log"]["get"]["responses"]["200"]["content"]
    assert {"command", "container", "tty"} <= {each["name"] for each in paths[f"{item}/exec"]["get"]["parameters"]}
    older = openapi_v2_document([pods])["paths"][f"{item}/log"]["get"]
    assert (older["produces"], older["responses"]["200"]["schema"]) == (["text/plain"], {"type": "string"})


def test_custom_resources_have_no_strategic_merge_patch() -> None:
    paths = openapi_v3_document("example.com/v1", SERVED)["paths"]
    content = paths["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["patch"]["requestBody"]["content"]
    assert "application/merge-patch+json" in content
    assert "application/strategic-merge-patch+json" not in content


def test_operation_ids_are_unique() -> None:
    paths = openapi_v2_document(SERVED)["paths"]
    ids = [value["operationId"] for item in paths.values() for method, value in item.items() if method != "parameters"]
    assert len(ids) == len(set(ids))


def test_only_served_verbs_are_listed() -> None:
    review = ServedResource(WIDGET, schema=SCHEMA, verbs=("create",))
    paths = openapi_v3_document("example.com/v1", [review])["paths"]
    assert [(path, list(item)) for path, item in paths.items()] == [
        ("/apis/example.com/v1/namespaces/{namespace}/widgets", ["post", "parameters"])
    ]


def test_swagger_2_leaves_out_what_it_cannot_say() -> None:
    spec = openapi_v2_document(SERVED)["definitions"]["com.example.v1.Widget"]["properties"]["spec"]["properties"]
    assert spec["color"] == {"enum": ["red"]}, "null is a value, too"
    assert spec["port"] == {"x-kubernetes-int-or-string": True}
    assert spec["free"] == {"x-kubernetes-preserve-unknown-fields": True}
