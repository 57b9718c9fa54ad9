"""The wire itself: watches, limits, content types, streams' refusals and the server's start, without kubectl."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
import yaml


def events(wire, path):
    """The events of a watch that ends by itself."""
    connection, response = wire.open("GET", path)
    try:
        assert response.status == 200
        return [json.loads(line) for line in response.read().splitlines()]
    finally:
        connection.close()


def test_watch_from_the_present_and_from_a_version(wire, namespace):
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    _, made = wire("POST", path, {"metadata": {"name": "a"}})
    only = "fieldSelector=metadata.name%3Da&timeoutSeconds=1"
    assert [event["type"] for event in events(wire, f"{path}?watch=1&{only}")] == ["ADDED"]
    version = made["metadata"]["resourceVersion"]
    wire("DELETE", f"{path}/a")
    seen = events(wire, f"{path}?watch=1&resourceVersion={version}&{only}")
    assert [event["type"] for event in seen] == ["DELETED"]
    assert int(seen[0]["object"]["metadata"]["resourceVersion"]) > int(version)


def test_a_watch_is_asked_for_by_any_word_but_no(wire, namespace):
    path = f"/api/v1/namespaces/{namespace}/secrets?timeoutSeconds=1&allowWatchBookmarks&"
    for query in ("watch", "watch=yes"):
        assert events(wire, path + query)[-1]["type"] == "BOOKMARK"
    for query in ("watch=False", "watch=0"):
        assert wire("GET", path + query)[1]["kind"] == "SecretList"


def test_bookmarks(wire, namespace):
    path = f"/api/v1/namespaces/{namespace}/secrets?watch=1&allowWatchBookmarks=true&timeoutSeconds=1"
    last = events(wire, path)[-1]
    assert last["type"] == "BOOKMARK"
    assert int(last["object"]["metadata"]["resourceVersion"]) > 0
    streaming = f"{path}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    first = events(wire, streaming)[0]
    assert first["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_a_version_from_the_future_ends_in_the_stream(wire, namespace):
    path = f"/api/v1/namespaces/{namespace}/secrets?watch=1&resourceVersion=99999999&timeoutSeconds=1"
    (event,) = events(wire, path)
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
    (event,) = events(wire, f"{path}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan")
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 504, "Timeout")
    assert event["object"]["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


@pytest.mark.parametrize("subresource", ["", "/status", "/scale"])
def test_an_object_is_read_as_fresh_as_asked_for(wire, namespace, subresource):
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/a{subresource}?resourceVersion="
    labels = {"app": "a"}
    pods = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "host"}]}}
    body = {"metadata": {"name": "a"}, "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": pods}}
    _, made = wire("POST", f"/apis/apps/v1/namespaces/{namespace}/deployments", body)
    for version in ("", "0", made["metadata"]["resourceVersion"]):
        assert wire("GET", path + version)[0] == 200
    status, problem = wire("GET", path + "99999999")
    assert (status, problem["reason"]) == (504, "Timeout")
    assert problem["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    status, problem = wire("GET", path + "abc")
    assert (status, problem.get("reason", "")) == (500, "")
    assert problem["message"].startswith('resourceVersion: Invalid value: "abc": strconv.ParseUint')


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "code"),
    [
        ("POST", "configmaps", b'{"a":"' + b"x" * (3 << 20) + b'"}', {}, 413),
        ("POST", "configmaps", "x", {"Content-Type": "text/html"}, 415),
        ("DELETE", "configmaps/a", {"preconditions": 1.5}, {}, 400),
        ("DELETE", "configmaps", {"dryRun": "All"}, {}, 400),
        ("POST", "pods/a/eviction", {"deleteOptions": []}, {}, 400),
        ("POST", "pods/a/binding", {"target": "me"}, {}, 400),
        ("GET", "configmaps", None, {"Accept": "application/x-nothing"}, 406),
        ("PATCH", "configmaps/kube-root-ca.crt", "{}", {"Content-Type": "application/json"}, 415),
        ("PATCH", "configmaps/a", "{}", {"Content-Type": "application/apply-patch+yaml"}, 422),
        ("POST", "configmaps?dryRun=Some", {"metadata": {"name": "a"}}, {}, 422),
        ("POST", "configmaps?fieldValidation=Odd", {"metadata": {"name": "a"}}, {}, 422),
        ("POST", "configmaps/a", {"metadata": {"name": "a"}}, {}, 405),
        ("GET", "configmaps/none", None, {}, 404),
        ("GET", "nothings", None, {}, 404),
        ("GET", "configmaps?fieldSelector=data.k%3Da", None, {}, 400),
        ("GET", "configmaps?labelSelector=a%3D%3D%3Db", None, {}, 400),
        ("OPTIONS", "configmaps", None, {}, 405),
        ("POST", "serviceaccounts/default/token", {"spec": {"expirationSeconds": 5}}, {}, 422),
        ("POST", "pods/none/exec?command=true", None, {"Upgrade": "SPDY/3.1", "Connection": "Upgrade"}, 404),
    ],
)
def test_refusals(wire, namespace, method, path, body, headers, code):
    status, _ = wire(method, f"/api/v1/namespaces/{namespace}/{path}", body, headers)
    assert status == code


@pytest.mark.parametrize(
    ("path", "shown_as", "text"),
    [
        (
            "configmaps/kube-root-ca.crt",
            "PartialObjectMetadataList",
            "you requested PartialObjectMetadataList, but the requested object is not a list (*core.ConfigMap)",
        ),
        (
            "configmaps",
            "PartialObjectMetadata",
            "you requested PartialObjectMetadata, but the requested object is a list (*core.ConfigMapList)",
        ),
    ],
)
def test_one_object_is_no_list(wire, path, shown_as, text):
    accept = {"Accept": f"application/json;as={shown_as};v=v1;g=meta.k8s.io"}
    status, problem = wire("GET", f"/api/v1/namespaces/default/{path}", headers=accept)
    assert (status, problem["reason"], problem["message"]) == (406, "NotAcceptable", text)


def test_a_watch_in_yaml_is_refused(wire):
    status, problem = wire("GET", "/api/v1/configmaps?watch=true", headers={"Accept": "application/yaml"})
    text = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
    assert (status, problem["message"]) == (406, f"only the following media types are accepted: {text}")


def test_yaml_in_and_out(wire, namespace):
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    body = "metadata:\n  name: from-yaml\ndata: {a: 'x'}\n"
    status, text = wire("POST", path, body, {"Content-Type": "application/yaml", "Accept": "application/yaml"})
    assert status == 201
    assert yaml.safe_load(text)["data"] == {"a": "x"}


def test_a_long_list_and_a_long_backlog_are_whole(wire, namespace):
    """They are longer than the pieces in which answers are sent."""
    path = f"/api/v1/namespaces/{namespace}/secrets"
    for index in range(30):
        wire("POST", path, {"metadata": {"name": f"long-{index:02}"}, "stringData": {"filling": "x" * 20_000}})
    status, listed = wire("GET", path)
    assert status == 200
    assert [item["metadata"]["name"] for item in listed["items"]] == [f"long-{index:02}" for index in range(30)]
    seen = events(wire, f"{path}?watch=1&timeoutSeconds=1")
    assert [event["object"]["metadata"]["name"] for event in seen] == [f"long-{index:02}" for index in range(30)]
    status, text = wire("GET", path, headers={"Accept": "application/yaml"})
    assert len(yaml.safe_load(text)["items"]) == 30


def test_aggregated_discovery_and_its_tag(wire):
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    connection, response = wire.open("GET", "/apis", headers={"Accept": accept})
    shown = json.loads(response.read())
    connection.close()
    assert shown["kind"] == "APIGroupDiscoveryList"
    assert "v=v2" in response.getheader("Content-Type")
    apps = next(item for item in shown["items"] if item["metadata"]["name"] == "apps")
    assert "deployments" in [entry["resource"] for entry in apps["versions"][0]["resources"]]
    status, _ = wire("GET", "/apis", headers={"Accept": accept, "If-None-Match": response.getheader("ETag")})
    assert status == 304


def test_a_frozen_watcher_does_not_hurt_others(wire, namespace):
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    connection, _ = wire.open("GET", f"{path}?watch=1")  # never read
    try:
        for number in range(50):
            status, _ = wire("POST", path, {"metadata": {"generateName": "x-"}, "data": {"k": "v" * 20_000}})
            assert status == 201, number
    finally:
        connection.close()


def start(data, port, tmp_path) -> tuple[int, str]:
    """Start another server and wait for its end: exit code and what it reported."""
    ready, tell = os.pipe()
    command = [sys.executable, "-m", "solo", "--data", str(data), "--port", str(port), "--ready-fd", str(tell)]
    done = subprocess.run(
        [*command, "--kubeconfig", str(tmp_path / "k")], pass_fds=[tell], capture_output=True, timeout=30
    )
    os.close(tell)
    with open(ready) as pipe:
        return done.returncode, pipe.read()


def test_a_second_server_on_the_same_data(cluster, tmp_path):
    code, report = start(cluster.directory / "data", 0, tmp_path)
    assert (code, f"(pid {cluster.process.pid})" in report) == (1, True)
    assert report.startswith("ERROR another server is running on")


def test_a_taken_port(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, report = start(tmp_path / "data", port, tmp_path)
    assert (code, report) == (1, f"ERROR port {port} on 127.0.0.1 is already in use\n")


def test_private_files(cluster):
    assert oct(cluster.kubeconfig.stat().st_mode & 0o777) == "0o600"
    assert oct((cluster.directory / "data").stat().st_mode & 0o777) == "0o700"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"NO SUCH THING AT ALL\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET /livez HTTP/9\r\n\r\n",
        b"\x16\x03\r\n\r\n",
    ],
    ids=["line", "header", "version", "binary"],
)
def test_what_is_no_http_gets_a_status_and_no_traceback(request_bytes, wire, cluster):
    log = cluster.directory / "solo.log"
    before = len(log.read_text())
    head, body = exchange(wire, request_bytes)
    assert head.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    status = json.loads(body)
    assert (status["kind"], status["reason"], status["code"]) == ("Status", "BadRequest", 400)
    assert "Traceback" not in log.read_text()[before:]


@pytest.mark.parametrize(
    ("query", "agent", "indented"),
    [
        ("", "curl/8.5.0", True),
        ("", "Wget/1.21", True),
        ("", "Mozilla/5.0 (X11)", True),
        ("", "kubectl/v1.36.0", False),
        ("?pretty=true", "kubectl/v1.36.0", True),
        ("?pretty=1", "", True),
        ("?pretty=yes", "curl/8.5.0", False),
        ("?pretty=false", "curl/8.5.0", False),
        ("?pretty=", "curl/8.5.0", True),
    ],
)
def test_people_have_their_json_indented(wire, query, agent, indented):
    for path, status in (("/api/v1/namespaces/default", 200), ("/api/v1/namespaces/none", 404), ("/apis", 200)):
        found, _, text = wire.headers("GET", path + query, headers={"User-Agent": agent})
        assert (found, text.startswith('{\n  "'), "\n" in text) == (status, indented, indented)


def test_what_is_not_indented(wire, namespace):
    path, people = f"/api/v1/namespaces/{namespace}/secrets", {"User-Agent": "curl/8.5.0"}
    wire("POST", path, {"metadata": {"name": "a"}})
    _, _, text = wire.headers("GET", f"{path}?watch=1&timeoutSeconds=1", headers=people)
    assert [json.loads(line)["type"] for line in text.splitlines()] == ["ADDED"]
    assert "\n" not in wire.headers("GET", "/openapi/v3", headers=people)[2]
    assert "kind: SecretList" in wire.headers("GET", path, headers={**people, "Accept": "application/yaml"})[2]
    assert wire.headers("GET", "/version")[2].startswith('{\n  "major": "1"')


def test_a_long_list_is_indented(wire, namespace):
    path = f"/api/v1/namespaces/{namespace}/secrets"
    for number in range(3):
        wire("POST", path, {"metadata": {"name": f"c{number}"}, "data": {"k": "eHh4" * 25_000}})
    status, headers, text = wire.headers("GET", f"{path}?pretty=true")
    assert (status, headers["Content-Type"].partition(";")[0]) == (200, "application/json")
    assert [len(item["data"]["k"]) for item in json.loads(text)["items"]] == [100_000] * 3
    assert '\n  "items": [\n    {\n      "metadata": {\n' in text


def test_a_client_of_http_1_0_reads_until_the_connection_ends(wire, namespace):
    """Be the answer a watch or a list in pieces."""
    path = f"/api/v1/namespaces/{namespace}/secrets"
    for index in range(8):
        wire("POST", path, {"metadata": {"name": f"old-{index}"}, "stringData": {"filling": "x" * 20_000}})
    rest = " HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    head, body = exchange(wire, f"GET {path}?watch=true&timeoutSeconds=1{rest}".encode())
    assert head.startswith(b"HTTP/1.0 200 ") and b"Transfer-Encoding" not in head
    assert [json.loads(line)["type"] for line in body.splitlines()] == ["ADDED"] * 8
    head, body = exchange(wire, f"GET {path}{rest}".encode())
    assert head.startswith(b"HTTP/1.0 200 ") and len(json.loads(body)["items"]) == 8


def exchange(wire, request_bytes):
    """Head and body of what is answered to these bytes until the server closes the connection."""
    host = wire.address.hostname
    with (
        socket.create_connection((host, wire.address.port), timeout=20) as plain,
        wire.context.wrap_socket(plain, server_hostname=host) as connection,
        connection.makefile("rb") as answers,
    ):
        connection.sendall(request_bytes)
        head, _, body = answers.read().partition(b"\r\n\r\n")
    return head, body
