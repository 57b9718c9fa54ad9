"""What is wrong with a container's probes and lifecycle hooks (core `validateProbe`, `validateLifecycle`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from kube.machinery.errors import Cause, cause
from solo.registry.objects import dig
from solo.registry.rules.fieldchecks import invalid, one_of, port_number, port_reference

Obj = dict[str, Any]

PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_SECONDS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_SCHEMES = ("HTTP", "HTTPS")
_HEADER_TEXT = (
    "a valid HTTP header must consist of alphanumeric characters or '-' "
    "(e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')"
)


def probe_causes(container: Obj, field: str, grace: int) -> Iterator[Cause]:
    """All of it, where the pod's grace period is `grace` seconds."""
    for key in ("postStart", "preStop"):
        hook = dig(container, "lifecycle", key)
        if hook is not None:
            yield from _handler(hook, ("exec", "httpGet", "tcpSocket", "sleep"), f"{field}.lifecycle.{key}", grace)
    for key in PROBES:
        if container.get(key) is not None:
            yield from _probe(container[key], key, f"{field}.{key}", grace)


def forbidden_probes(container: Obj, field: str) -> Iterator[Cause]:
    """The same where there must be none, in an init container that ends before the next one starts."""
    for key in ("lifecycle", *PROBES):
        if container.get(key) is not None:
            detail = "may not be set for init containers without restartPolicy=Always"
            yield cause("FieldValueForbidden", f"{field}.{key}", detail)


def _probe(probe: Obj, kind: str, field: str, grace: int) -> Iterator[Cause]:
    yield from _handler(probe, ("exec", "httpGet", "tcpSocket", "grpc"), field, grace)
    for name in _SECONDS:
        if (probe.get(name) or 0) < 0:
            yield invalid(f"{field}.{name}", probe[name], "must be greater than or equal to 0")
    own_grace = probe.get("terminationGracePeriodSeconds")
    if own_grace is not None and own_grace <= 0:
        yield invalid(f"{field}.terminationGracePeriodSeconds", own_grace, "must be greater than 0")
    if kind == "readinessProbe":
        if own_grace is not None:
            yield invalid(f"{field}.terminationGracePeriodSeconds", own_grace, "must not be set for readinessProbes")
    elif (probe.get("successThreshold") or 1) != 1:
        yield invalid(f"{field}.successThreshold", probe["successThreshold"], "must be 1")


def _handler(part: Obj, known: tuple[str, ...], field: str, grace: int) -> Iterator[Cause]:
    """Only the first handler is looked into; the others are too many."""
    given = [key for key in known if part.get(key) is not None]
    if not given:
        yield cause("FieldValueRequired", field, "must specify a handler type")
    elif given[0] == "sleep":
        yield from _sleep(part["sleep"], f"{field}.sleep", grace)
    else:
        yield from _CHECKS[given[0]](part[given[0]], f"{field}.{given[0]}")
    for key in given[1:]:
        yield cause("FieldValueForbidden", f"{field}.{key}", "may not specify more than 1 handler type")


def _exec(action: Obj, field: str) -> Iterator[Cause]:
    if not action.get("command"):
        yield cause("FieldValueRequired", f"{field}.command")


def _http(action: Obj, field: str) -> Iterator[Cause]:
    yield from port_reference(action.get("port") or 0, f"{field}.port")
    # Path and scheme are filled in where they are empty.
    if (action.get("scheme") or "HTTP") not in _SCHEMES:
        yield one_of(f"{field}.scheme", action["scheme"], _SCHEMES)
    for header in action.get("httpHeaders") or []:
        name = header.get("name") or ""
        if not re.fullmatch(r"[-A-Za-z0-9]+", name):
            yield invalid(f"{field}.httpHeaders", name, _HEADER_TEXT)


def _tcp(action: Obj, field: str) -> Iterator[Cause]:
    yield from port_reference(action.get("port") or 0, f"{field}.port")


def _grpc(action: Obj, field: str) -> Iterator[Cause]:
    yield from port_number(action.get("port") or 0, f"{field}.port")


def _sleep(action: Obj, field: str, grace: int) -> Iterator[Cause]:
    seconds = action.get("seconds") or 0
    if not 0 <= seconds <= grace:
        detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
        yield invalid(field, seconds, detail)


_CHECKS: dict[str, Callable[[Obj, str], Iterator[Cause]]] = {
    "exec": _exec, "httpGet": _http, "tcpSocket": _tcp, "grpc": _grpc,
}  # fmt: skip
