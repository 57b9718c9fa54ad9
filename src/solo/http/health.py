"""/healthz, /livez and /readyz, plain and with `?verbose`."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from solo.store import Store

ENDPOINTS = ("healthz", "livez", "readyz")


def answer(request: web.Request, parts: list[str], store: Store) -> web.Response:
    """The state of the server: each check by itself at `/livez/NAME`, all of them at `/livez`."""
    checks: dict[str, Callable[[], bool]] = {"ping": lambda: True, "store": lambda: store.revision >= 0}
    if len(parts) == 2 and parts[1] in checks:
        checks = {parts[1]: checks[parts[1]]}
    elif len(parts) > 1:
        return web.Response(status=404, text="404 page not found\n")
    results = {name: check() for name, check in checks.items()}
    healthy = all(results.values())
    if healthy and "verbose" not in request.query:
        return web.Response(text="ok")
    lines = [f"[{'+' if good else '-'}]{name} {'ok' if good else 'failed'}" for name, good in results.items()]
    lines.append(f"{parts[0]} check {'passed' if healthy else 'failed'}")
    return web.Response(status=200 if healthy else 500, text="\n".join(lines) + "\n")
