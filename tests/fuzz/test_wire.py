"""What no client sends on purpose: the answer is a refusal or a closed connection, never an error of ours."""

from __future__ import annotations

import contextlib
import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.effort import effort

MAPS = "/api/v1/namespaces/default/configmaps"


def raw(wire, data, *, half_close=False):
    """Send bytes and read what comes until the server closes or has nothing more to say."""
    answer = b""
    with (
        socket.create_connection((wire.address.hostname, wire.address.port), timeout=10) as plain,
        wire.context.wrap_socket(plain, server_hostname=wire.address.hostname) as connection,
    ):
        connection.settimeout(5)
        with contextlib.suppress(OSError):
            connection.sendall(data)
            if half_close:
                socket.socket.shutdown(connection, socket.SHUT_WR)  # of TCP; TLS has not been told
            while chunk := connection.recv(65536):
                answer += chunk
    return answer


def request(wire, method, target, body=b"", headers=()):
    """One request with a target that http.client would refuse to send; (status, body)."""
    lines = [f"{method} ".encode() + target + b" HTTP/1.1", b"Host: x", b"Connection: close"]
    lines += [f"Content-Length: {len(body)}".encode(), *headers]
    head, _, content = raw(wire, b"\r\n".join(lines) + b"\r\n\r\n" + body).partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head else 0), content


def check(status, content):
    """Nothing of ours failed, and an error says what it is."""
    # kube-apiserver, too, answers with a 500 or 504 to versions that are no numbers or are yet to come.
    assert status < 500 or b"esource version" in content or b"resourceVersion: Invalid" in content, content
    if status >= 400 and content[:1] == b"{":
        answer = json.loads(content)
        assert (answer["kind"], answer["status"], answer["code"]) == ("Status", "Failure", status)
        assert answer["message"]


@pytest.mark.parametrize(
    "target",
    [
        MAPS + "/%2e%2e/secrets",
        MAPS + "/..%2f..%2fsecrets",
        MAPS + "/%00",
        MAPS + "/a%0d%0ab",
        MAPS + "/%ff%fe",
        MAPS + "/%zz",
        MAPS + "/a%0Ab",
        MAPS + "/" + "a" * 5000,
        "/" * 200,
        "//api//v1//configmaps",
        "/api/v1/namespaces//configmaps",
        "/api/v1/watch/configmaps",
        "/apis/apps/v1/namespaces/default/deployments/a/scale/b/c",
        "/api/v1/namespaces/default/pods/a/log/b",
        "/api/v1/namespaces/default/pods/a/exec",
        "/api",
        "/apis/nothing/v1",
        "/openapi/v3/apis/nothing/v1",
        "/openapi/v3/../../etc/passwd",
        MAPS + "?limit=-1",
        MAPS + "?limit=99999999999999999999999",
        MAPS + "?limit=x",
        MAPS + "?limit=1&limit=2",
        MAPS + "?continue=%ff",
        MAPS + "?continue=e30",
        MAPS + "?continue=bm9uc2Vuc2U",
        MAPS + "?resourceVersion=-1",
        MAPS + "?resourceVersion=99999999999999999999999999",
        MAPS + "?resourceVersion=%E2%91%A0",
        MAPS + "?resourceVersion=1&resourceVersionMatch=Exact",
        MAPS + "?resourceVersionMatch=Sometimes",
        MAPS + "?watch=true&timeoutSeconds=x",
        MAPS + "?watch=true&timeoutSeconds=-1&resourceVersion=99999999999999999999",
        MAPS + "?watch=true&resourceVersion=x&timeoutSeconds=1",
        MAPS + "?watch=true&resourceVersion=%F0%9D%9F%99&timeoutSeconds=1",
        MAPS + "?watch=true&sendInitialEvents=maybe&timeoutSeconds=1",
        MAPS + "?labelSelector=a%20in%20(",
        MAPS + "?labelSelector=" + "a," * 2000,
        MAPS + "?labelSelector=a>" + "9" * 500,
        MAPS + "?labelSelector=%ff=%fe",
        MAPS + "?fieldSelector=spec.none=a",
        MAPS + "?fieldSelector=metadata.name=a%00b",
        MAPS + "?=&&=&%=%",
    ],
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_odd_targets(wire, method, target):
    status, content = request(wire, method, target.encode())
    assert status and content != b"404: Not Found"  # which is aiohttp's, for what has no route
    check(status, content)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "X" * 300])
@pytest.mark.parametrize("target", [MAPS, MAPS + "/a", "/", "/apis", "/healthz"])
def test_odd_methods(wire, method, target):
    check(*request(wire, method, target.encode()))


DEEP = 5_000
BODIES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"1e999",
    b"\xff\xfe\x00",
    b"\xef\xbb\xbf{}",
    b'{"metadata":{"name":"\xff"}}',
    b'{"metadata":{"name":"\\ud800"}}',
    b'{"metadata":{"name":"a\\u0000b"}}',
    b'{"metadata":{"name":"n"},"data":{"k":' + b"9" * 5000 + b"}}",
    b'{"metadata":{"name":"n","generation":' + b"9" * 400 + b"}}",
    b'{"metadata":{"name":"n","resourceVersion":"9999999999999999999999"}}',
    b'{"metadata":{"name":"n"},"data":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    b'{"metadata":{"name":"n"},"data":' + b"[" * DEEP + b"]" * DEEP + b"}",
    b'{"metadata":[]}',
    b'{"metadata":null}',
    b'{"metadata":{"name":5}}',
    b'{"metadata":{"name":"n","labels":[]}}',
    b'{"metadata":{"name":"n","ownerReferences":[{}]}}',
    b'{"metadata":{"name":"n","ownerReferences":{}}}',
    b'{"metadata":{"name":"n","finalizers":[null]}}',
    b'{"metadata":{"name":"n","managedFields":[{"fieldsV1":[]}]}}',
    b'{"metadata":{"name":"n","creationTimestamp":"yesterday"}}',
    b'{"metadata":{"generateName":"' + b"a" * 5000 + b'"}}',
    b'{"kind":[],"apiVersion":{}}',
    b'{"metadata":{"name":"n"},"metadata":{"name":"m"}}',
]
TYPES = [
    "application/json",
    "application/yaml",
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/vnd.kubernetes.protobuf",
    "text/plain",
    "nonsense",
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:50]))
def test_odd_bodies(wire, body):
    wire("POST", MAPS, {"metadata": {"name": "target"}})
    resources = [MAPS, "/api/v1/namespaces/default/pods", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"]
    for kind in TYPES[:2] + TYPES[6:]:
        for target in resources:
            check(*request(wire, "POST", target.encode(), body, [f"Content-Type: {kind}".encode()]))
        check(*request(wire, "PUT", f"{MAPS}/target".encode(), body, [f"Content-Type: {kind}".encode()]))
        check(*request(wire, "DELETE", f"{MAPS}/none".encode(), body, [f"Content-Type: {kind}".encode()]))
    for kind in TYPES[2:6]:
        target = f"{MAPS}/target?fieldManager=me"
        check(*request(wire, "PATCH", target.encode(), body, [f"Content-Type: {kind}".encode()]))
    request(wire, "DELETE", f"{MAPS}/n".encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"GET",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x00" * 1000,
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST " + MAPS.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        b"POST " + MAPS.encode() + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"A%d: b\r\n" % number for number in range(3000)) + b"\r\n",
        b"GET " + MAPS.encode() + b"?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=lambda data: repr(data[:40]),
)
def test_half_said_and_hung_up(wire, data):
    answer = raw(wire, data, half_close=True)
    assert not answer.startswith(b"HTTP/1.1 5"), answer[:300]


WORDS = ["api", "apis", "v1", "apps", "namespaces", "default", "pods", "configmaps", "nodes"]
WORDS += ["status", "scale", "log", "watch", "proxy", "openapi", "v3"]
PIECES = st.sampled_from([*WORDS, "", "*", ".", "..", "%2F", "%00", "%ff", "é", "a b", "🜚", ":", ";x=1"])
NAMES = "limit continue labelSelector fieldSelector resourceVersion dryRun fieldManager force fieldValidation pretty"
NAMES += " propagationPolicy gracePeriodSeconds tailLines sinceSeconds"
GIVEN = ["", "0", "-1", "1", "true", "All", "x", "9" * 30, "9" * 5000, "%00", "%ff", "a=b", "%C3%A9", "1e9", "Strict"]
QUERIES = st.lists(st.tuples(st.sampled_from(NAMES.split()), st.sampled_from(GIVEN)), max_size=4)


@effort(150)
@given(
    st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"]),
    st.lists(PIECES, max_size=7),
    QUERIES,
    st.sampled_from(BODIES),
    st.sampled_from(TYPES),
)
def test_anything_at_all(wire, method, pieces, query, body, kind):
    target = "/" + "/".join(pieces) + "?" + "&".join("=".join(item) for item in query)
    if method == "DELETE" and "dryRun" not in dict(query):
        target += "&dryRun=All"
    check(*request(wire, method, target.replace(" ", "%20").encode(), body, [f"Content-Type: {kind}".encode()]))
