"""Health, discovery and OpenAPI over the wire: representations, entity tags and hashes."""

from __future__ import annotations

import pytest

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def fetch(wire, path, **headers):
    return wire.headers("GET", path, None, {key.replace("_", "-"): value for key, value in headers.items()})


@pytest.mark.parametrize("name", ["healthz", "livez", "readyz"])
def test_health(wire, name):
    assert fetch(wire, f"/{name}")[2] == "ok"
    status, _, text = fetch(wire, f"/{name}?verbose=1&exclude=log&exclude=odd")
    lines = text.splitlines()
    assert (status, lines[0], lines[-1]) == (200, "[+]ping ok", f"{name} check passed")
    assert {"[+]etcd ok", "[+]log excluded: ok", "[+]poststarthook/crd-informer-synced ok"} <= set(lines)
    assert 'warn: some health checks cannot be excluded: no matches for "odd"' in lines
    assert ("[+]shutdown ok" in lines) is (name == "readyz")
    assert fetch(wire, f"/{name}/etcd")[::2] == (200, "ok")
    assert fetch(wire, f"/{name}/odd")[0] == 404


def test_aggregated_discovery_has_a_tag(wire):
    status, headers, text = fetch(wire, "/apis", Accept=f"{AGGREGATED},application/json;q=0.9")
    assert (status, headers["Content-Type"]) == (200, AGGREGATED)
    assert '"kind":"APIGroupDiscoveryList"' in text
    status, _, text = fetch(wire, "/apis", Accept=AGGREGATED, If_None_Match=headers["ETag"])
    assert (status, text) == (304, "")
    assert '"kind":"APIGroupList"' in fetch(wire, "/apis", Accept="application/json")[2]


def test_groups_of_reviews_have_their_place(gears, wire):
    """Clients take the first group that has a resource: what is built in comes before definitions' groups."""
    aggregated = [item["metadata"]["name"] for item in wire("GET", "/apis", headers={"Accept": AGGREGATED})[1]["items"]]
    for names in (aggregated, [group["name"] for group in wire("GET", "/apis")[1]["groups"]]):
        start = names.index("apps")
        wanted = ["apps", "events.k8s.io", "authentication.k8s.io", "authorization.k8s.io", "autoscaling"]
        assert names[start : start + 5] == wanted
        assert gears.partition(".")[2] in names[names.index("resource.k8s.io") + 1 :]


def test_discovery_in_other_representations(wire):
    status, headers, text = fetch(wire, "/apis/apps", Accept="application/yaml")
    assert (status, headers["Content-Type"].partition(";")[0]) == (200, "application/yaml")
    assert "kind: APIGroup" in text
    assert fetch(wire, "/apis/apps", Accept="text/html")[0] == 406
    assert fetch(wire, "/apis/apps", Accept="application/vnd.kubernetes.protobuf,application/json")[0] == 200


@pytest.mark.parametrize("path", ["/openapi/v2", "/openapi/v3", "/openapi/v3/apis/apps/v1"])
def test_openapi_has_a_tag(wire, path):
    status, headers, _ = fetch(wire, path)
    assert status == 200
    assert fetch(wire, path, If_None_Match=headers["ETag"])[::2] == (304, "")


def test_openapi_is_immutable_under_its_hash(wire):
    index = wire("GET", "/openapi/v3")[1]["paths"]
    place = index["apis/authorization.k8s.io/v1"]["serverRelativeURL"]
    status, headers, _ = fetch(wire, place)
    assert (status, headers["Cache-Control"]) == (200, "public, immutable")
    assert "Expires" in headers
    status, headers, _ = fetch(wire, place.partition("=")[0] + "=0")
    assert (status, headers["Location"]) == (301, place)


def test_openapi_has_what_discovery_has(wire):
    """Each subresource that is served can be called by generated clients."""
    paths = wire("GET", "/openapi/v3/api/v1")[1]["paths"]
    for each in wire("GET", "/api/v1")[1]["resources"]:
        plural, _, subresource = each["name"].partition("/")
        scope = "/namespaces/{namespace}" if each["namespaced"] else ""
        path = f"/api/v1{scope}/{plural}" + (f"/{{name}}/{subresource}" if subresource else "")
        assert path in paths


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v3/api", "/v3/apis/none/v1", "/v2/more"])
def test_there_is_no_openapi_document(wire, path):
    assert fetch(wire, f"/openapi{path}")[0] == 404


@pytest.mark.parametrize(
    "path", ["/api/v2", "/api/v1/", "/apis/none", "/apis/none/v1", "/apis/apps/v9", "/apis/apps/v1/"]
)
def test_groups_and_versions_that_are_not_there(wire, path):
    known = path in ("/api/v1/", "/apis/apps/v1/")
    assert fetch(wire, path)[0] == (200 if known else 404)


def test_openapi_of_a_definition(cluster, wire):
    spec = {"type": "object", "properties": {"color": {"type": "string"}, "old": {"type": "string", "nullable": True}}}
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    for plural, schema in (("pens", {"type": "object", "properties": {"spec": spec}}), ("pads", free)):
        version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
        if plural == "pens":
            version["selectableFields"] = [{"jsonPath": ".spec.color"}]
        names = {"plural": plural, "kind": plural[:-1].capitalize()}
        cluster.apply(
            {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": f"{plural}.doc.example.com"},
                "spec": {"group": "doc.example.com", "scope": "Namespaced", "names": names, "versions": [version]},
            }
        )
    third = wire("GET", "/openapi/v3/apis/doc.example.com/v1")[1]["components"]["schemas"]
    pen = third["com.example.doc.v1.Pen"]
    assert pen["x-kubernetes-selectable-fields"] == [{"fieldPath": "spec.color"}]
    assert pen["properties"]["spec"]["properties"]["old"] == {"type": "string", "nullable": True}
    second = wire("GET", "/openapi/v2")[1]["definitions"]
    assert second["com.example.doc.v1.Pen"]["properties"]["spec"]["properties"]["old"] == {}
    assert "properties" not in second["com.example.doc.v1.Pad"], "kubectl would refuse all others"
    cluster.kubectl("delete", "crd", "pens.doc.example.com", "pads.doc.example.com")
    assert fetch(wire, "/openapi/v3/apis/doc.example.com/v1")[0] == 404
    assert "com.example.doc.v1.Pen" not in wire("GET", "/openapi/v2")[1]["definitions"]
