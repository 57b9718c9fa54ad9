"""A small web server that behaves, or misbehaves as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

import pytest


class Server:
    """Answers GET with what stands in `files`; how is set by the other fields."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.status: dict[str, int] = {}
        self.redirects: dict[str, str] = {}
        self.breaks: list[int] = []  # bytes after which the next connections are cut
        self.ranges = True
        self.headers: dict[str, str] = {"ETag": '"one"'}
        self.stall = threading.Event()
        self.stalls = 0
        self.lie: int | None = None  # what to announce as the length
        self.requests: list[tuple[str, str]] = []
        self.authorization: list[str] = []
        self.wanted: dict[str, str] = {}  # Authorization without which there is nothing
        self.posts: dict[str, Callable[[dict[str, str]], tuple[int, dict[str, object]]]] = {}
        self.http: ThreadingHTTPServer | None = None
        self.url = ""


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, *_args):
        """Clients that hang up are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    state: Server

    def log_message(self, *_args):
        pass

    def do_GET(self):
        state = self.state
        wanted = self.headers.get("Range", "")
        state.requests.append((self.path, wanted))
        state.authorization.append(self.headers.get("Authorization", ""))
        path = self.path.partition("?")[0]
        if path in state.redirects:
            self.send_response(302)
            self.send_header("Location", state.redirects[path])
            self.end_headers()
            return
        if path not in state.files:
            self.send_error(state.status.get(path, 404))
            return
        if path in state.wanted and self.headers.get("Authorization") != state.wanted[path]:
            self.send_error(403)
            return
        body = state.files[path]
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and state.ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start if state.lie is None else state.lie))
        for name, value in state.headers.items():
            self.send_header(name, value)
        self.end_headers()
        part = body[start:]
        if state.breaks:
            self.wfile.write(part[: state.breaks.pop(0)])
            if state.stalls:
                state.stalls -= 1
                self.wfile.flush()
                state.stall.wait(5)
            self.close_connection = True
            return
        self.wfile.write(part)

    def do_POST(self):
        form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        status, answer = self.state.posts[self.path](dict(parse_qsl(form)))
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    handler = type("H", (Handler,), {"state": state})
    with QuietServer(("127.0.0.1", 0), handler) as http:
        http.daemon_threads = True
        state.http = http
        state.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield state
        finally:
            state.stall.set()
            http.shutdown()
            thread.join()
