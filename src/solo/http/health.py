"""/healthz, /livez and /readyz: the state of the server, each check by itself at `/livez/NAME`, `?verbose`, `?exclude=`
(apiserver `pkg/server/healthz`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp import web

ENDPOINTS = ("healthz", "livez", "readyz")
Check = Callable[[], bool]

# The names by which kube-apiserver reports the steps of its start, and by which monitoring asks. Here they are done
# before the server listens, or the process has ended: rights and objects that every cluster has, definitions.
_START_STEPS = (
    "poststarthook/start-apiserver-admission-initializer",
    "poststarthook/start-kube-apiserver-admission-initializer",
    "poststarthook/generic-apiserver-start-informers",
    "poststarthook/start-apiextensions-informers",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/crd-informer-synced",
    "poststarthook/bootstrap-controller",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/start-cluster-authentication-info-controller",
    "poststarthook/start-kube-aggregator-informers",
    "poststarthook/apiservice-registration-controller",
    "poststarthook/apiservice-status-local-available-controller",
    "poststarthook/apiservice-status-remote-available-controller",
    "poststarthook/kube-apiserver-autoregistration",
    "autoregister-completion",
    "poststarthook/apiservice-openapi-controller",
)


class Health:
    """Answers the health endpoints. `stored` says whether writes reach the disk, `serving` whether clients may come."""

    def __init__(self, stored: Check, serving: Check) -> None:
        steps = dict.fromkeys(_START_STEPS, _yes)
        self._live: Mapping[str, Check] = {"ping": _yes, "log": _yes, "etcd": stored, **steps}
        self._ready = {**self._live, "etcd-readiness": stored, "informer-sync": _yes, "shutdown": serving}

    def answer(self, request: web.BaseRequest, parts: list[str]) -> web.Response:
        """`/livez` and below."""
        checks = self._ready if parts[0] == "readyz" else self._live
        if len(parts) == 1:
            return _all(parts[0], checks, request.query.getall("exclude", []), "verbose" in request.query)
        check = checks.get("/".join(parts[1:]))
        if check is None:
            return web.Response(status=404, text="404 page not found\n")
        return _text("ok") if check() else _text("internal server error: the check failed\n", 500)


def _all(name: str, checks: Mapping[str, Check], exclude: list[str], verbose: bool) -> web.Response:
    healthy, lines = True, []
    for check, passes in checks.items():
        if check in exclude:
            lines.append(f"[+]{check} excluded: ok")
        elif passes():
            lines.append(f"[+]{check} ok")
        else:
            healthy = False
            lines.append(f"[-]{check} failed: reason withheld")
    unknown = [f'"{check}"' for check in exclude if check not in checks]
    if unknown:
        lines.append(f"warn: some health checks cannot be excluded: no matches for {','.join(unknown)}")
    if healthy and not verbose:
        return _text("ok")
    lines.append(f"{name} check {'passed' if healthy else 'failed'}")
    return _text("\n".join(lines) + "\n", 200 if healthy else 500)


def _text(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, headers={"X-Content-Type-Options": "nosniff"})


def _yes() -> bool:
    return True
