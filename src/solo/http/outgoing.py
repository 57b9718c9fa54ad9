"""Calls of webhooks over HTTPS: by URL, or through a Service of this cluster."""

from __future__ import annotations

import asyncio
import base64
import ssl
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import aiohttp
import msgspec

from solo.http.transport_errors import describe
from solo.registry.calling import CallError
from solo.registry.objects import dig
from solo.store import Key, Store

Obj = dict[str, Any]

_MAX_ANSWER = 3 * 1024 * 1024
_SERVICE_LABEL = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class _Target:
    url: str
    server_name: str | None
    shown: str


class WebhookCaller:
    """Posts reviews. Its connections are kept between calls."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._session: aiohttp.ClientSession | None = None

    async def post(self, config: Obj, review: Obj, seconds: float) -> Any:
        """The answer to a review. Raises CallError with what went wrong, worded as kube-apiserver does."""
        target = self._target(config)
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        body = msgspec.json.encode(review)
        try:
            async with (
                asyncio.timeout(seconds),
                self._session.post(
                    target.url,
                    data=body,
                    headers={"Content-Type": "application/json", "Accept": "application/json"},
                    ssl=_trust(config.get("caBundle") or ""),
                    server_hostname=target.server_name,
                    allow_redirects=False,
                ) as response,
            ):
                answer = await response.content.read(_MAX_ANSWER + 1)
                while len(answer) <= _MAX_ANSWER and (more := await response.content.read(_MAX_ANSWER)):
                    answer += more
        except TimeoutError:
            raise CallError(f'failed to call webhook: Post "{target.shown}": context deadline exceeded') from None
        except (aiohttp.ClientError, OSError, ValueError) as problem:
            raise CallError(f'failed to call webhook: Post "{target.shown}": {describe(problem)}') from problem
        if len(answer) > _MAX_ANSWER:
            raise CallError("failed to call webhook: the answer is too long")
        if response.status >= 300:
            raise CallError(f"failed to call webhook: the server answered {response.status} {response.reason}")
        try:
            return msgspec.json.decode(answer)
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            raise CallError(f"failed to call webhook: the answer is no JSON: {problem}") from None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    # ---- where to

    def _target(self, config: Obj) -> _Target:
        url = config.get("url")
        if url:
            return _Target(url, None, url)
        reference = config.get("service") or {}
        namespace, name = reference.get("namespace") or "", reference.get("name") or ""
        host = f"{name}.{namespace}.svc"
        path = reference.get("path") or "/"
        shown = f"https://{host}:{reference.get('port') or 443}{path}"
        address, port = self._resolve(namespace, name, int(reference.get("port") or 443))
        literal = f"[{address}]" if ":" in address else address
        return _Target(f"https://{literal}:{port}{path}", host, shown)

    def _resolve(self, namespace: str, name: str, port: int) -> tuple[str, int]:
        """Where a port of a Service is served, as its EndpointSlices tell."""
        stored = self._store.get(Key("services", namespace, name))
        if stored is None:
            raise CallError(f'failed to call webhook: service "{name}" not found in namespace {namespace}')
        spec = stored.obj.get("spec") or {}
        entry = next((item for item in spec.get("ports") or [] if item.get("port") == port), None)
        if entry is None:
            raise CallError(f'failed to call webhook: service "{name}" has no port {port}')
        found = self._by_slices(namespace, name, entry)
        if found is None:
            raise CallError(f'failed to call webhook: no endpoints available for service "{name}"')
        return found

    def _by_slices(self, namespace: str, name: str, entry: Obj) -> tuple[str, int] | None:
        for stored in self._store.list("endpointslices.discovery.k8s.io", namespace)[0]:
            if (dig(stored.obj, "metadata", "labels") or {}).get(_SERVICE_LABEL) != name:
                continue
            ports = stored.obj.get("ports") or []
            port = next((item for item in ports if (item.get("name") or "") == (entry.get("name") or "")), None)
            for endpoint in stored.obj.get("endpoints") or []:
                ready = dig(endpoint, "conditions", "ready") is not False
                if ready and port is not None and port.get("port") and endpoint.get("addresses"):
                    return endpoint["addresses"][0], port["port"]
        return None


@lru_cache(maxsize=64)
def _trust(bundle: str) -> ssl.SSLContext:
    """Trust in the given authorities (base64 of PEM), or in the system's without any. Raises ValueError."""
    if not bundle:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cadata=base64.b64decode(bundle).decode())
    except (ssl.SSLError, ValueError):
        raise ValueError("unable to load root certificates: unable to parse bytes as PEM block") from None
