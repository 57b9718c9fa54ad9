"""Where a webhook is, in admission configurations and conversions (apiserver's pkg/util/webhook/validation.go)."""

from __future__ import annotations

from typing import Any

from kube.machinery import names
from kube.machinery.errors import Cause, cause
from kube.machinery.gourl import UrlError, parse_url
from solo.registry.objects import quote

Obj = dict[str, Any]

_FORM = "; desired format: https://host[/path]"


def validate_client_config(config: Obj, field: str) -> list[Cause]:
    """Exactly one of an https URL and a service."""
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        return [cause("FieldValueRequired", field, "exactly one of url or service is required")]
    if service is None:
        return _validate_url(str(url), f"{field}.url")
    place = f"{field}.service"
    causes = [cause("FieldValueRequired", f"{place}.{key}") for key in ("name", "namespace") if not service.get(key)]
    port = service.get("port")
    if port is not None and not 1 <= port <= 65535:
        detail = "port is not valid: must be between 1 and 65535, inclusive"
        causes.append(cause("FieldValueInvalid", f"{place}.port", detail, str(port)))
    texts = _path_problems(service.get("path") or "")
    return causes + [cause("FieldValueInvalid", f"{place}.path", text, quote(service["path"])) for text in texts]


def _path_problems(path: str) -> list[str]:
    if path in ("", "/"):
        return []
    if path == "//":
        return ["segment[0] may not be empty"]
    problems = [] if path.startswith("/") else ["must start with a '/'"]
    for index, step in enumerate(path[1:].removesuffix("/").split("/")):
        if not step:
            problems.append(f"segment[{index}] may not be empty")
        else:
            problems += [f"segment[{index}]: {text}" for text in names.dns1123_subdomain(step)]
    return problems


def _validate_url(url: str, field: str) -> list[Cause]:
    try:
        parts = parse_url(url)
    except UrlError as problem:
        text = f"url must be a valid URL: parse {quote(url)}: {problem}{_FORM}"
        return [cause("FieldValueRequired", field, text)]
    problems = {
        f"'https' is the only allowed URL scheme{_FORM}": None if parts.scheme == "https" else parts.scheme,
        f"host must be specified{_FORM}": None if parts.host else parts.host,
        "user information is not permitted in the URL": parts.user,
        "fragments are not permitted in the URL": parts.fragment or None,
        "query parameters are not permitted in the URL": parts.query or None,
    }
    return [
        cause("FieldValueInvalid", field, detail, quote(value))
        for detail, value in problems.items()
        if value is not None
    ]
