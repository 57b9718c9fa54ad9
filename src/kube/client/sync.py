"""The client of commands: blocking, on the standard library alone, so that a command starts in tens of milliseconds.

It keeps one connection open. An idle connection that the server has closed meanwhile is noticed before anything is
sent, and replaced; should it break under a request that only reads, that request is sent once more. A request that
writes is never repeated, because it may have been carried out.
"""

from __future__ import annotations

import http.client
import json
import select
import socket
import ssl
import time
from collections.abc import Generator, Iterator, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from kube.client.config import KubeConfig
from kube.client.errors import ConnectionFailed, connection_failed, status_error
from kube.client.transport import TokenSource, tls_context
from kube.client.verbs import JSON, Obj, Request, Verbs, WatchStream, fill_kinds
from kube.machinery.errors import StatusError
from kube.machinery.resources import Resource

__all__ = ["ConnectionFailed", "Obj", "StatusError", "SyncClient"]

_CHUNK = 256 * 1024
_WATCH_MARGIN = 5.0
"""Seconds that a server may be late in ending a watch."""


class _Connection(http.client.HTTPConnection):
    """HTTP/1.1 over TCP, inside TLS if there is a context; http.client's own class cannot choose the server's name."""

    def __init__(
        self, host: str, port: int, timeout: float, tls: ssl.SSLContext | None, server_name: str | None
    ) -> None:
        super().__init__(host, port, timeout=timeout)
        self._tls = tls
        self._server_name = server_name or host
        self.used = False

    def connect(self) -> None:
        self.used = False
        super().connect()
        if self._tls is not None:
            try:
                self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._server_name)
            except BaseException:
                self.close()
                raise

    def went_stale(self) -> bool:
        """Whether an idle connection was closed by the server (or says something nobody asked for)."""
        # http.client sets `sock` to None between connections, which its type declarations leave out.
        sock: socket.socket | None = self.sock
        if sock is None:
            return False
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))

    def limit(self, deadline: float) -> None:
        """Let the next wait end at `deadline` (monotonic seconds). Raises TimeoutError when that is over."""
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("timed out")
        self.timeout = remaining
        sock: socket.socket | None = self.sock
        if sock is not None:
            sock.settimeout(remaining)


class SyncClient:
    """One API server. Not for use by several threads at once.

    Every method raises StatusError for an answer that is an error and ConnectionFailed when there is none; both have
    one-line messages that can be shown to users.
    """

    def __init__(self, config: KubeConfig, timeout: float = 30.0, user_agent: str = "kube-client") -> None:
        """`timeout` in seconds holds for each request as a whole. Raises KubeConfigError for bad certificates."""
        self.config = config
        self.timeout = timeout
        self._tls = tls_context(config)
        self._token = TokenSource(config)
        self._verbs = Verbs(config.namespace)
        self._user_agent = user_agent
        self._url = urlsplit(config.server)
        self._connection: _Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get(
        self, resource: Resource, name: str, namespace: str | None = None, *, subresource: str | None = None
    ) -> Obj:
        return self._object(self._verbs.get(resource, name, namespace, subresource))

    def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> Obj:
        """The list object; without `namespace`, of all namespaces."""
        request = self._verbs.list(resource, namespace, label_selector=label_selector, field_selector=field_selector)
        return fill_kinds(resource, self._object(request))

    def create(
        self,
        resource: Resource,
        obj: Obj,
        namespace: str | None = None,
        *,
        name: str | None = None,
        subresource: str | None = None,
    ) -> Obj:
        """POST; `name` and `subresource` address for example a service account's `token`."""
        return self._object(self._verbs.create(resource, obj, namespace, name, subresource))

    def update(self, resource: Resource, obj: Obj, namespace: str | None = None) -> Obj:
        return self._object(self._verbs.update(resource, obj, namespace, None))

    def update_status(self, resource: Resource, obj: Obj, namespace: str | None = None) -> Obj:
        return self._object(self._verbs.update(resource, obj, namespace, "status"))

    def patch(
        self,
        resource: Resource,
        name: str,
        patch: Any,
        namespace: str | None = None,
        type: str = "merge",
        subresource: str | None = None,
    ) -> Obj:
        """`type` is merge, json or strategic."""
        return self._object(self._verbs.patch(resource, name, patch, namespace, type, subresource))

    def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        propagation: str | None = None,
        grace: int | None = None,
        uid: str | None = None,
    ) -> Obj:
        """`propagation` is Background, Foreground or Orphan; `grace` in seconds; with `uid` only that very object."""
        return self._object(
            self._verbs.delete(resource, name, namespace, propagation=propagation, grace=grace, uid=uid)
        )

    def apply(self, resource: Resource, obj: Obj) -> Obj:
        """Create `obj`, or merge it into the object that is there. Running it twice changes nothing."""
        try:
            return self.create(resource, obj)
        except StatusError as exc:
            if exc.reason != "AlreadyExists":
                raise
        meta = obj["metadata"]
        return self.patch(resource, meta["name"], obj, meta.get("namespace"))

    def raw(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> bytes:
        """Send `body` to a path with its query as they are, and return the answer's body."""
        return self._exchange(method, path, body, dict(headers or {}))

    def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        resource_version: str | None = None,
        field_selector: str | None = None,
        timeout: float = 60.0,
        *,
        label_selector: str | None = None,
    ) -> Generator[Obj, None, None]:
        """Yield events `{"type": ..., "object": ...}` until `timeout` seconds are over, then end.

        Raises StatusError with code 410 when `resource_version` is too old, and ConnectionFailed when the connection
        breaks before the time is over: list again, and watch from there.
        """
        request = self._verbs.watch(
            resource,
            namespace,
            resource_version=resource_version,
            label_selector=label_selector,
            field_selector=field_selector,
            timeout=timeout,
        )
        connection = self._new_connection()
        try:
            yield from self._stream(connection, request, time.monotonic() + timeout)
        finally:
            connection.close()

    def _stream(self, connection: _Connection, request: Request, end: float) -> Iterator[Obj]:
        stream = WatchStream()
        try:
            with self._begin(connection, request.method, request.target, None, {}, end + _WATCH_MARGIN) as answer:
                self._check(answer, connection, end + _WATCH_MARGIN)
                while time.monotonic() < end:
                    connection.limit(end)
                    chunk = answer.read1(_CHUNK)
                    if not chunk:
                        return
                    yield from stream.feed(chunk)
        except (OSError, http.client.HTTPException, ValueError) as exc:
            if isinstance(exc, TimeoutError) and time.monotonic() >= end:
                return
            raise self._failed(exc) from exc

    def _object(self, request: Request) -> Obj:
        body = None if request.body is None else json.dumps(request.body, separators=(",", ":")).encode()
        headers = {} if body is None else {"Content-Type": request.content_type}
        answer = self._exchange(request.method, request.target, body, headers)
        try:
            decoded = json.loads(answer)
        except ValueError as exc:
            raise self._not_an_api() from exc
        if not isinstance(decoded, dict):
            raise self._not_an_api()
        return decoded

    def _exchange(self, method: str, target: str, body: bytes | None, headers: dict[str, str]) -> bytes:
        deadline = time.monotonic() + self.timeout
        connection = self._connection
        if connection is None or connection.went_stale():
            connection = self._replace_connection()
        try:
            return self._once(connection, method, target, body, headers, deadline)
        except (ConnectionError, http.client.BadStatusLine) as exc:
            # Only a reused connection breaks innocently, and only reading is safe to repeat.
            if not connection.used or method not in ("GET", "HEAD"):
                self.close()
                raise self._failed(exc) from exc
        except (OSError, http.client.HTTPException) as exc:
            self.close()
            raise self._failed(exc) from exc
        try:
            return self._once(self._replace_connection(), method, target, body, headers, deadline)
        except (OSError, http.client.HTTPException) as exc:
            self.close()
            raise self._failed(exc) from exc

    def _once(
        self,
        connection: _Connection,
        method: str,
        target: str,
        body: bytes | None,
        headers: dict[str, str],
        deadline: float,
    ) -> bytes:
        answer = self._begin(connection, method, target, body, headers, deadline)
        self._check(answer, connection, deadline)
        content = _read_all(answer, connection, deadline)
        connection.used = True
        return content

    def _begin(
        self,
        connection: _Connection,
        method: str,
        target: str,
        body: bytes | None,
        headers: dict[str, str],
        deadline: float,
    ) -> http.client.HTTPResponse:
        connection.limit(deadline)
        common = {"Accept": JSON, "User-Agent": self._user_agent, **self._token.headers()}
        connection.request(method, self._url.path + target, body, {**common, **headers})
        connection.limit(deadline)
        return connection.getresponse()

    def _check(self, answer: http.client.HTTPResponse, connection: _Connection, deadline: float) -> None:
        if answer.status >= 400:
            content = _read_all(answer, connection, deadline)
            connection.used = True
            raise status_error(answer.status, content, self.config.server, self.config.source)
        if answer.status >= 300:
            self.close()
            raise self._not_an_api()

    def _new_connection(self) -> _Connection:
        host = self._url.hostname or ""
        port = self._url.port or (80 if self._tls is None else 443)
        return _Connection(host, port, self.timeout, self._tls, self.config.tls_server_name)

    def _replace_connection(self) -> _Connection:
        self.close()
        self._connection = self._new_connection()
        return self._connection

    def _failed(self, exc: BaseException) -> ConnectionFailed:
        return connection_failed(exc, self.config.server, self.config.source)

    def _not_an_api(self) -> ConnectionFailed:
        server, source = self.config.server, self.config.source
        return ConnectionFailed(
            server, "lost", f"the answer of {server} is not of a Kubernetes API", f"check `server` in {source}"
        )


def _read_all(answer: http.client.HTTPResponse, connection: _Connection, deadline: float) -> bytes:
    """The rest of the body. http.client would restart its time-out with every packet; this holds one deadline."""
    parts = []
    while True:
        connection.limit(deadline)
        part = answer.read1(_CHUNK)
        if not part:
            break
        parts.append(part)
    if answer.length:  # read1 does not itself complain when a Content-Length was a promise not kept.
        raise http.client.IncompleteRead(b"".join(parts), answer.length)
    answer.close()  # Which read1 leaves undone; until then http.client refuses the connection's next request.
    return b"".join(parts)
