"""The client of controllers: the same verbs as `kube.client.sync`, asynchronous, on aiohttp.

One session and one TLS context a client. Every request has a deadline, and every watch has one a little after the time
at which the server was asked to end it: a server that froze, or a connection that died without a word, cannot leave a
controller deaf for ever.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
from yarl import URL

from kube.client.config import KubeConfig
from kube.client.errors import ConnectionFailed, connection_failed, status_error
from kube.client.transport import TokenSource, tls_context
from kube.client.verbs import JSON, Obj, Request, Verbs, WatchStream, fill_kinds
from kube.machinery.errors import StatusError
from kube.machinery.resources import Resource

__all__ = ["AsyncClient", "ConnectionFailed", "Obj", "StatusError"]

_CONNECT_SECONDS = 10.0
_WEBSOCKET_CLOSE_SECONDS = 2.0
_READ_BUFFER = 256 * 1024
_FAILURES = (aiohttp.ClientError, OSError, TimeoutError)


class AsyncClient:
    """One API server. Use it in one event loop, with `async with` or with `close` at the end.

    Every method raises StatusError for an answer that is an error and ConnectionFailed when there is none.
    """

    def __init__(
        self,
        config: KubeConfig,
        timeout: float = 30.0,
        user_agent: str = "kube-client",
        *,
        watch_seconds: float = 300.0,
        watch_margin: float = 15.0,
        connector: Callable[[], aiohttp.BaseConnector] | None = None,
    ) -> None:
        """Seconds: `timeout` of each request; `watch_seconds` after which servers end a watch, give or take a fifth;
        `watch_margin` by which they may be late. `connector` makes connections in another way than over TCP.

        Raises KubeConfigError for certificates that do not load."""
        self.config = config
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=min(timeout, _CONNECT_SECONDS))
        self._watch_seconds = watch_seconds
        self._watch_margin = watch_margin
        tls = tls_context(config)
        # No limit: each watch holds a connection, and a limit would turn one too many into a dead wait.
        self._connector = connector or partial(aiohttp.TCPConnector, ssl=tls or True, limit=0)
        self._token = TokenSource(config)
        self._verbs = Verbs(config.namespace)
        self._user_agent = user_agent
        self._base = config.server
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def get(
        self, resource: Resource, name: str, namespace: str | None = None, *, subresource: str | None = None
    ) -> Obj:
        return await self._object(self._verbs.get(resource, name, namespace, subresource))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        *,
        limit: int | None = None,
        continue_token: str | None = None,
    ) -> Obj:
        """The list object; without `namespace`, of all namespaces; with `limit`, one page of it."""
        request = self._verbs.list(
            resource,
            namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            limit=limit,
            continue_token=continue_token,
        )
        return fill_kinds(resource, await self._object(request))

    async def create(
        self,
        resource: Resource,
        obj: Obj,
        namespace: str | None = None,
        *,
        name: str | None = None,
        subresource: str | None = None,
    ) -> Obj:
        """POST; `name` and `subresource` address for example a service account's `token`."""
        return await self._object(self._verbs.create(resource, obj, namespace, name, subresource))

    async def update(self, resource: Resource, obj: Obj, namespace: str | None = None) -> Obj:
        return await self._object(self._verbs.update(resource, obj, namespace, None))

    async def update_status(self, resource: Resource, obj: Obj, namespace: str | None = None) -> Obj:
        return await self._object(self._verbs.update(resource, obj, namespace, "status"))

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Any,
        namespace: str | None = None,
        type: str = "merge",
        subresource: str | None = None,
    ) -> Obj:
        """`type` is merge, json or strategic."""
        return await self._object(self._verbs.patch(resource, name, patch, namespace, type, subresource))

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        propagation: str | None = None,
        grace: int | None = None,
        uid: str | None = None,
        version: str | None = None,
    ) -> Obj:
        """`propagation` is Background, Foreground or Orphan; `grace` in seconds.

        With `uid` only that very object, with `version` only if it still is at that resourceVersion (409 otherwise).
        """
        return await self._object(
            self._verbs.delete(
                resource, name, namespace, propagation=propagation, grace=grace, uid=uid, version=version
            )
        )

    async def delete_collection(
        self,
        resource: Resource,
        namespace: str | None = None,
        label_selector: str | None = None,
        propagation: str | None = None,
    ) -> Obj:
        return await self._object(self._verbs.delete_collection(resource, namespace, label_selector, propagation))

    async def apply(self, resource: Resource, obj: Obj) -> Obj:
        """Create `obj`, or merge it into the object that is there. Running it twice changes nothing."""
        try:
            return await self.create(resource, obj)
        except StatusError as exc:
            if exc.reason != "AlreadyExists":
                raise
        meta = obj["metadata"]
        return await self.patch(resource, meta["name"], obj, meta.get("namespace"))

    async def raw(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """Send `body` to a path with its query as they are, and return the answer's body."""
        try:
            async with self._request(method, path, body, dict(headers or {}), self._timeout) as answer:
                return await answer.read()
        except _FAILURES as exc:
            raise self._failed(exc) from exc

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        resource_version: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        *,
        timeout: float | None = None,
        bookmarks: str | None = None,
    ) -> AsyncGenerator[Obj, None]:
        """Yield events `{"type": ..., "object": ...}` until the server ends the watch after about `timeout` seconds.

        `bookmarks="true"` asks for BOOKMARK events. Raises StatusError with code 410 when `resource_version` is too
        old, and ConnectionFailed when the connection breaks or the server does not end the watch in time. Leave the
        loop early only inside `contextlib.aclosing`, so that the connection closes at once.
        """
        seconds = timeout or self._watch_seconds * random.uniform(0.8, 1.2)
        request = self._verbs.watch(
            resource,
            namespace,
            resource_version=resource_version,
            label_selector=label_selector,
            field_selector=field_selector,
            timeout=seconds,
            bookmarks=bookmarks,
        )
        limits = aiohttp.ClientTimeout(total=seconds + self._watch_margin, sock_connect=_CONNECT_SECONDS)
        stream = WatchStream(msgspec.json.decode)
        try:
            async with self._request(request.method, request.target, None, {}, limits) as answer:
                async for chunk in answer.content.iter_any():
                    for event in stream.feed(chunk):
                        yield event
        except (*_FAILURES, ValueError) as exc:
            raise self._failed(exc) from exc

    async def websocket(
        self, target: str, protocols: tuple[str, ...], heartbeat: float
    ) -> aiohttp.ClientWebSocketResponse:
        """Open a WebSocket at `target` (path and query); the caller closes it.

        Raises StatusError when the server refuses, and aiohttp's and socket errors, which `failure` translates.
        """
        return await self._open().ws_connect(
            URL(self._base + target, encoded=True),
            protocols=protocols,
            timeout=aiohttp.ClientWSTimeout(ws_close=_WEBSOCKET_CLOSE_SECONDS),
            heartbeat=heartbeat,
            headers=self._token.headers(),
            server_hostname=self.config.tls_server_name,
        )

    def failure(self, exc: BaseException) -> ConnectionFailed:
        """What an exception of aiohttp or of a socket means for the user of this client."""
        return self._failed(exc)

    async def _object(self, request: Request) -> Obj:
        body = None if request.body is None else msgspec.json.encode(request.body)
        headers = {} if body is None else {"Content-Type": request.content_type}
        answer = await self.raw(request.method, request.target, body, headers)
        try:
            decoded = msgspec.json.decode(answer)
        except msgspec.DecodeError as exc:
            raise self._not_an_api() from exc
        if not isinstance(decoded, dict):
            raise self._not_an_api()
        return decoded

    def _request(
        self, method: str, target: str, body: bytes | None, headers: dict[str, str], timeout: aiohttp.ClientTimeout
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._open().request(
            method,
            URL(self._base + target, encoded=True),
            data=body,
            headers={**self._token.headers(), **headers},
            timeout=timeout,
            allow_redirects=False,
            server_hostname=self.config.tls_server_name,
        )

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=self._connector(),
                headers={"Accept": JSON, "Accept-Encoding": "identity", "User-Agent": self._user_agent},
                cookie_jar=aiohttp.DummyCookieJar(),
                raise_for_status=self._check,
                read_bufsize=_READ_BUFFER,
                timeout=self._timeout,
                trust_env=False,
            )
        return self._session

    async def _check(self, answer: aiohttp.ClientResponse) -> None:
        """Called by aiohttp for every answer, WebSocket handshakes included."""
        if answer.status >= 400:
            raise status_error(answer.status, await answer.read(), self.config.server, self.config.source)
        if answer.status >= 300:
            raise self._not_an_api()

    def _failed(self, exc: BaseException) -> ConnectionFailed:
        if isinstance(exc, aiohttp.ClientConnectorCertificateError):
            exc = exc.certificate_error
        elif isinstance(exc, aiohttp.ClientConnectorError):
            exc = exc.os_error
        elif isinstance(exc, aiohttp.ClientOSError):
            # Broken after it was made: the errno alone would read as if the server had never been reached.
            exc = exc.__cause__ if isinstance(exc.__cause__, OSError) else ConnectionResetError(str(exc))
        return connection_failed(exc, self.config.server, self.config.source)

    def _not_an_api(self) -> ConnectionFailed:
        server, source = self.config.server, self.config.source
        return ConnectionFailed(
            server, "lost", f"the answer of {server} is not of a Kubernetes API", f"check `server` in {source}"
        )
