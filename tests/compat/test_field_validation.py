"""Unknown and repeated fields, as server-side field validation reports them (KEP-2885)."""

from __future__ import annotations

import pytest

GROUP = "fields.example.com"
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"things.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}},
                    }
                },
            }
        ],
    },
}

YAML = f"""
apiVersion: {GROUP}/v1
kind: Thing
metadata:
  name: NAME
spec:
  a: p
  a: q
  odd: 1"""
JSON = f'{{"apiVersion":"{GROUP}/v1","kind":"Thing","metadata":{{"name":"NAME"}},"spec":{{"odd":1,"a":"p","a":"q"}}}}'
DEPLOYMENT = """{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"},"spec":{"odd":1,"odd":2,
"replicas":2,"replicas":3,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},
"spec":{"containers":[{"name":"c","image":"i","new":1}]}}}}"""
TWICE, ODD = 'duplicate field "spec.a"', 'unknown field "spec.odd"'
MERGE = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture(scope="module")
def path(cluster):
    cluster.apply(CRD)
    yield f"/apis/{GROUP}/v1/namespaces/default/things"
    cluster.kubectl("delete", "crd", f"things.{GROUP}")


@pytest.mark.parametrize(
    ("body", "media", "problems"),
    [
        (JSON, "application/json", [TWICE, ODD]),
        (YAML, "application/yaml", ['line 8: key "a" already set in map', ODD]),
    ],
)
def test_custom_resources(wire, path, body, media, problems):
    headers = {"Content-Type": media}
    status, answer = wire("POST", f"{path}?fieldValidation=Strict", body.replace("NAME", "s"), headers)
    text = ", ".join(problems).replace("line", "yaml: unmarshal errors:\n  line")
    assert (status, answer["message"]) == (
        400,
        f'Thing in version "v1" cannot be handled as a Thing: strict decoding error: {text}',
    )
    name = f"warned-{media[-4:]}"
    status, given, answer = wire.headers("POST", path, body.replace("NAME", name), headers)
    assert status == 201
    quoted = [problem.replace('"', '\\"') for problem in problems]
    assert given.get_all("Warning") == [f'299 - "{problem}"' for problem in quoted]
    assert '"spec":{"a":"q"}' in answer
    query = f"{path}?fieldValidation=Ignore"
    status, given, _ = wire.headers("POST", query, body.replace("NAME", f"ignored-{name}"), headers)
    assert (status, given.get("Warning")) == (201, None)


def test_problems_of_typed_objects_come_in_the_order_of_the_document(wire):
    status, answer = wire("POST", "/apis/apps/v1/namespaces/default/deployments?fieldValidation=Strict", DEPLOYMENT)
    assert (status, answer["message"].partition("strict decoding error: ")[2]) == (
        400,
        'unknown field "spec.odd", duplicate field "spec.replicas", '
        'unknown field "spec.template.spec.containers[0].new"',
    )


@pytest.mark.parametrize(
    ("media", "body", "problems"),
    [
        ("merge-patch+json", '{"spec":{"odd":2,"a":"1","a":"2"}}', f"{TWICE}, {ODD}"),
        (
            "json-patch+json",
            '[{"op":"add","path":"/spec/odd","value":1,"new":2}]',
            f'json patch unknown field "[0].new", {ODD}',
        ),
    ],
)
def test_patches(wire, path, media, body, problems):
    wire("POST", path, JSON.replace("NAME", "patched"))
    headers = {"Content-Type": f"application/{media}"}
    status, answer = wire("PATCH", f"{path}/patched?fieldValidation=Strict", body, headers)
    assert (status, answer["message"]) == (400, f"strict decoding error: {problems}")


def test_apply(wire, path):
    headers = {"Content-Type": "application/apply-patch+yaml"}
    query = "fieldManager=me&fieldValidation"
    status, answer = wire("PATCH", f"{path}/ap?{query}=Strict", YAML.replace("NAME", "ap"), headers)
    assert (status, answer["message"].partition("YAML: ")[2]) == (
        400,
        'error converting YAML to JSON: yaml: unmarshal errors:\n  line 8: key "a" already set in map',
    )
    body = YAML.replace("NAME", "ap").replace("  odd: 1", "")
    status, given, _ = wire.headers("PATCH", f"{path}/ap?{query}=Warn", body, headers)
    assert (status, given.get("Warning")) == (201, '299 - "line 8: key \\"a\\" already set in map"')


NUMBERED = (
    '{"metadata": {"name": "numbers"}, "spec": {"replicas": %s, "selector": {"matchLabels": {"a": "b"}}, "template":'
    ' {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}}}'
)


@pytest.mark.parametrize("number", ["2.0", "1e1", "1.5", "99999999999"])
def test_a_number_that_is_no_int32_is_not_read(wire, namespace, number):
    """Typed clients could not read the object, nor any list with it."""
    url = f"/apis/apps/v1/namespaces/{namespace}/deployments?dryRun=All"
    code, answer = wire("POST", url, (NUMBERED % number).encode())
    shown = "10.0" if number == "1e1" else number
    assert (code, answer["reason"]) == (400, "BadRequest")
    assert (
        f"cannot unmarshal number {shown} into Go struct field Deployment.spec.replicas of type int32"
        in (answer["message"])
    )


def test_whole_floats_are_read_where_kubernetes_reads_them(wire, namespace):
    """YAML and strategic patches are converted on the way, JSON and its patches are not."""
    url = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    code, made = wire("POST", url, (NUMBERED % "2.0").encode(), {"Content-Type": "application/yaml"})
    assert (code, made["spec"]["replicas"]) == (201, 2)
    patch = b'{"spec": {"minReadySeconds": 1.0}}'
    merge, strategic = ({"Content-Type": f"application/{kind}-patch+json"} for kind in ("merge", "strategic-merge"))
    assert wire("PATCH", f"{url}/numbers", patch, merge)[0] == 400
    code, changed = wire("PATCH", f"{url}/numbers", patch, strategic)
    assert (code, changed["spec"]["minReadySeconds"]) == (200, 1)
    assert wire("PATCH", f"{url}/numbers", b"5", strategic)[0] == 400


def test_whole_floats_of_custom_resources_are_stored_as_integers(wire, gears, namespace):
    """As Go's encoder writes them; a client's field of an integer type could not take `2.0`."""
    url = f"/apis/gears.example.com/v1/namespaces/{namespace}/gears"
    kind = b'"apiVersion": "gears.example.com/v1", "kind": "Gear"'
    body = b'{%s, "metadata": {"name": "g"}, "spec": {"a": 2.0, "b": 1.5}}' % kind
    assert wire("POST", url, body)[0] == 201
    spec = wire("GET", f"{url}/g")[1]["spec"]
    assert (repr(spec["a"]), spec["b"]) == ("2", 1.5)


def test_fields_of_a_scale(wire, namespace):
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    assert wire("POST", f"{path}?fieldValidation=Ignore", DEPLOYMENT)[0] == 201
    body = {"metadata": {"name": "d"}, "spec": {"replicas": 0, "odd": 1}}
    code, refused = wire("PUT", f"{path}/d/scale?fieldValidation=Strict", body)
    assert (code, refused["message"]) == (
        400,
        f'Scale in version "v1" cannot be handled as a Scale: strict decoding error: {ODD}',
    )
    assert wire("PUT", f"{path}/d/scale", body)[1]["spec"] == {}
    assert wire("PUT", f"{path}/e/scale", body)[0] == 404
    assert wire("PUT", f"{path}/d/scale", {**body, "metadata": {"name": "e"}})[0] == 400
    assert wire("PUT", f"{path}/d/scale", {**body, "metadata": {"name": "d", "uid": "u"}})[0] == 409
    assert wire("PATCH", f"{path}/d/scale", {"metadata": {"uid": "u"}}, MERGE)[0] == 409
