"""Reading requests: paths, Accept headers, bodies."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import pytest
from aiohttp import web

from kube.machinery.errors import StatusError
from solo.http import bodies
from solo.http.connections import Runner
from solo.http.logoptions import log_options
from solo.http.negotiation import JSON, TABLE, YAML, Output, choose_output, media_type_of
from solo.http.paths import parse
from solo.http.pods import PodHandlers
from solo.http.streams import Excerpt
from solo.http.writes import read_body


@pytest.mark.parametrize(
    ("method", "path", "wanted"),
    [
        ("GET", "/api/v1/pods", ("list", "", "v1", "", "pods", "", "")),
        ("GET", "/api/v1/namespaces/ns/pods/p", ("get", "", "v1", "ns", "pods", "p", "")),
        ("GET", "/api/v1/namespaces/ns/pods/p/log", ("get", "", "v1", "ns", "pods", "p", "log")),
        ("GET", "/api/v1/namespaces/ns/pods/p/exec", ("create", "", "v1", "ns", "pods", "p", "exec")),
        (
            "DELETE",
            "/apis/apps/v1/namespaces/ns/deployments",
            ("deletecollection", "apps", "v1", "ns", "deployments", "", ""),
        ),
        ("DELETE", "/api/v1/nodes/n", ("delete", "", "v1", "", "nodes", "n", "")),
        ("GET", "/api/v1/namespaces/ns", ("get", "", "v1", "ns", "namespaces", "ns", "")),
        ("PUT", "/api/v1/namespaces/ns/finalize", ("update", "", "v1", "ns", "namespaces", "ns", "finalize")),
        ("GET", "/api/v1/namespaces", ("list", "", "v1", "", "namespaces", "", "")),
        ("PATCH", "/apis/a.b/v1/things/x%2Fy", ("patch", "a.b", "v1", "", "things", "x/y", "")),
    ],
)
def test_paths(method, path, wanted):
    info = parse(method, path)
    found = (info.verb, info.group, info.version, info.namespace, info.resource, info.name, info.subresource)
    assert found == wanted


@pytest.mark.parametrize("path", ["/", "/version", "/apis", "/apis/apps", "/healthz/x"])
def test_paths_without_resource(path):
    assert parse("GET", path) is None


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", Output()),
        ("*/*", Output()),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Output(JSON, TABLE, "meta.k8s.io/v1")),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", Output(JSON, TABLE, "meta.k8s.io/v1beta1")),
        ("application/json;as=Table;v=v2;g=meta.k8s.io,application/json", Output()),
        ("application/vnd.kubernetes.protobuf,application/json", Output()),
        ("application/json;q=0.1, application/yaml", Output(YAML)),
    ],
)
def test_accept(accept, wanted):
    assert choose_output(accept) == wanted


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "application/vnd.kubernetes.protobuf",
        "application/json;as=Odd;v=v1;g=meta.k8s.io",
        "application/json;as=Table;g=meta.k8s.io",
        "application/json;as=Table;v=v1",
    ],
)
def test_not_acceptable(accept):
    with pytest.raises(StatusError) as refused:
        choose_output(accept)
    assert (refused.value.code, refused.value.message) == (
        406,
        "only the following media types are accepted: "
        "application/json, application/yaml, application/vnd.kubernetes.protobuf",
    )


def test_media_type():
    assert media_type_of("Application/YAML; charset=utf-8") == YAML
    assert media_type_of("") == JSON


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1:30", "1:30"),
        ("a: 2001-02-03", "2001-02-03"),
        ("a: 1e3", 1000),
        ("a: 0o14", 12),
        ("a: 0755", 493),
        ("a: 0x1f", 31),
        ("a: yes", True),
        ("a: y", True),
        ('a: "yes"', "yes"),
        ("a: -7", -7),
        ("a: 1.5", 1.5),
        ("a: 1.5.0", "1.5.0"),
        ("a: ~", None),
    ],
)
def test_yaml_scalars(text, value):
    decoded = bodies.decode_object(text.encode(), YAML, "X")["a"]
    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.parametrize("media_type", [JSON, YAML])
def test_whole_numbers_beyond_64_bits_are_floats(media_type):
    body = b'{"a":123456789012345678901234567890}'
    assert repr(bodies.decode_object(body, media_type, "X")["a"]) == "1.2345678901234568e+29"


@pytest.mark.parametrize(
    ("body", "media_type", "code"),
    [
        (b'{"a":', JSON, 400),
        (b"[1]", JSON, 400),
        (b"\xff", JSON, 400),
        (b"{}", "text/html", 415),
        (b"a: !!python/object:os.system {}", YAML, 400),
        (b"- 1", YAML, 400),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, JSON, 400),
        (b"[" * 250 + b"]" * 250, JSON, 400),
        (b'{"a":' * 250 + b"1" + b"}" * 250, JSON, 400),
        (b"a:\n " + b"- " * 250 + b"x", YAML, 400),
        (b"a:\n " + b"- " * 1_000_000 + b"x", YAML, 400),
        (b"a: " + b"[" * 1_000_000, YAML, 400),
        (b"? " * 1_000_000, YAML, 400),
        (b"? [a]\n: b\n", YAML, 400),
        (b'{"a":' + b"9" * 400 + b"}", JSON, 400),
        (b'{"a":' + b"9" * 400 + b"}", YAML, 400),
        (b"a: " + b"9" * 400, YAML, 400),
        (b"a: 1.0e+999", YAML, 400),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_bodies(body, media_type, code):
    with pytest.raises(StatusError) as refused:
        bodies.decode_object(body, media_type, "X")
    assert refused.value.code == code


def test_yaml_aliases_do_not_explode():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(StatusError) as refused:
        bodies.decode_object("\n".join(lines).encode(), YAML, "X")
    assert "expand" in refused.value.message
    assert bodies.decode_object(b"a: &x {b: 1}\nc: *x\n", YAML, "X") == {"a": {"b": 1}, "c": {"b": 1}}


async def test_a_large_yaml_body_is_read_beside_the_loop():
    """60 000 keys: in linear time, and while others are answered."""
    body = b"data:\n" + b"".join(b"  k%d: v\n" % n for n in range(60_000))
    reading = asyncio.create_task(bodies.read_object(body, YAML, "X"))
    turns = 0
    while not reading.done():
        await asyncio.sleep(0.01)
        turns += 1
    assert len((await reading)["data"]) == 60_000
    assert turns > 5


def test_duplicate_fields():
    body = b'{"a":1,"b":{"c":1,"c":2},"l":[{"d":1,"d":2}],"a":3}'
    assert bodies.duplicate_fields(body, msgspec.json.decode(body)) == [
        'duplicate field "a"',
        'duplicate field "b.c"',
        'duplicate field "l[0].d"',
    ]
    for once in (b'{"a": {"b": [1]}}', b'{"a":"\\"x\\":1"}', b'{"a" :1,"b":2}'):
        assert bodies.duplicate_fields(once, msgspec.json.decode(once)) == []
    spaced = b'{"a":1,"a" :2,"b":3}'
    assert bodies.duplicate_fields(spaced, msgspec.json.decode(spaced)) == ['duplicate field "a"']


@contextlib.asynccontextmanager
async def connection(handle):
    """The two ends of a connection to a server that has `handle` answer."""
    runner = Runner(handle, 1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0])
    try:
        yield reader, writer
    finally:
        writer.close()
        await runner.cleanup()


async def echo(request: web.BaseRequest) -> web.StreamResponse:
    try:
        return web.Response(body=await read_body(request, 0.1))
    except StatusError as problem:
        return web.Response(status=problem.code, text=problem.reason)


async def test_a_body_that_does_not_come_is_given_up():
    async with connection(echo) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nab")
        answer = await reader.readuntil(b"Timeout")
        assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
@pytest.mark.parametrize("apart", [False, True])
async def test_a_body_that_cannot_be_decompressed(encoding, apart):
    async with connection(echo) as (reader, writer):
        head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Encoding: {encoding}\r\n\r\n".encode()
        writer.write(head if apart else head + b"xx")
        if apart:
            await asyncio.sleep(0.02)
            writer.write(b"xx")
        assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")


async def test_a_body_is_asked_for_where_the_client_waits_for_that():
    async with connection(echo) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        answer = await reader.readuntil(b"abc")
        assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_body_that_is_too_long_is_refused_before_its_end():
    length = bodies.MAX_BODY + 2
    async with connection(echo) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length)
        writer.write(bytes(length - 1))
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("query", "code", "problem"),
    [
        ({"tailLines": "-1"}, 422, "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ({"limitBytes": "0"}, 422, "limitBytes: Invalid value: 0: must be greater than 0"),
        ({"sinceSeconds": "0"}, 422, "sinceSeconds: Invalid value: 0: must be greater than 0"),
        ({"sinceSeconds": "1", "sinceTime": "2026-01-01T00:00:00Z"}, 422, "at most one of `sinceTime`"),
        ({"stream": "stdin"}, 422, 'stream: Unsupported value: "stdin"'),
        ({"stream": "Stdout", "tailLines": "1"}, 422, "mutually exclusive"),
        ({"stream": "Stderr"}, 400, "stream Stderr is not available"),
        ({"tailLines": "x"}, 400, "tailLines must be a number"),
        ({"sinceTime": "yesterday"}, 400, "sinceTime must be an RFC 3339 time"),
    ],
    ids=range(9),
)
def test_log_options_that_are_refused(query, code, problem):
    with pytest.raises(StatusError) as caught:
        log_options(query, "p")
    assert caught.value.code == code and problem in caught.value.message


def test_log_options():
    query = {"stream": "All", "sinceTime": "2001-09-09T01:46:40Z", "tailLines": "0", "timestamps": ""}
    options = log_options({**query, "previous": "False"}, "p")
    assert options.excerpt == Excerpt(tail_lines=0, since=1_000_000_000, timestamps=True)
    assert not options.follow and not options.previous


async def test_a_client_of_http_1_0_has_a_log_until_the_connection_ends():
    class Streams:
        async def open_log(self, namespace, name, options):
            return pieces()

    async def pieces():
        yield b"one\n"
        yield b"two\n"

    pod = {"metadata": {"namespace": "ns", "name": "p"}, "spec": {"nodeName": "n"}}
    pods = PodHandlers()
    pods.streams = Streams()
    async with connection(lambda request: pods.log(request, pod)) as (reader, writer):
        writer.write(b"GET /log HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        head, _, log = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 ")
    assert log == b"one\ntwo\n"


async def test_a_client_that_leaves_within_an_answer_is_no_news(caplog):
    async def leave(request: web.BaseRequest) -> web.StreamResponse:
        request.transport.abort()
        raise ConnectionResetError("Cannot write to closing transport")

    async with connection(leave) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    assert not caplog.records
