"""The query parameters of `pods/log`, with the checks of core `ValidatePodLogOptions`."""

from __future__ import annotations

import time
from collections.abc import Mapping

from kube.machinery import errors
from kube.machinery.durations import parse_rfc3339
from kube.machinery.errors import Cause, cause
from kube.machinery.queries import flag
from solo.http.streams import Excerpt, LogOptions

_STREAMS = ("All", "Stderr", "Stdout")


def log_options(query: Mapping[str, str], pod: str) -> LogOptions:
    """Raises 422 for a value that is not valid, and 400 for one of another type or that cannot be honoured here."""
    numbers = {name: _number(query, name) for name in ("tailLines", "limitBytes", "sinceSeconds")}
    since = _time(query, "sinceTime")
    stream = query.get("stream") or "All"
    causes = [
        cause("FieldValueInvalid", name, f"must be greater than {bound}", str(value))
        for name, bound, least in (
            ("tailLines", "or equal to 0", 0),
            ("limitBytes", "0", 1),
            ("sinceSeconds", "0", 1),
        )
        if (value := numbers[name]) is not None and value < least
    ]
    if since is not None and numbers["sinceSeconds"] is not None:
        text = "at most one of `sinceTime` or `sinceSeconds` may be specified"
        causes.append(cause("FieldValueForbidden", "[]", text))
    causes += _stream_problems(stream, tail=numbers["tailLines"] is not None)
    if causes:
        raise errors.invalid("", "PodLogOptions", pod, causes)
    if stream != "All":
        raise errors.bad_request(
            f"stream {stream} is not available: containers write their standard output and error to one log"
        )
    if numbers["sinceSeconds"] is not None:
        since = time.time() - numbers["sinceSeconds"]
    return LogOptions(
        container=query.get("container") or "",
        follow=flag(query, "follow"),
        previous=flag(query, "previous"),
        excerpt=Excerpt(numbers["tailLines"], since, numbers["limitBytes"], flag(query, "timestamps")),
    )


def _stream_problems(stream: str, *, tail: bool) -> list[Cause]:
    if stream not in _STREAMS:
        values = ", ".join(f'"{value}"' for value in _STREAMS)
        return [cause("FieldValueNotSupported", "stream", f"supported values: {values}", f'"{stream}"')]
    if stream != "All" and tail:
        text = "`tailLines` and specific `stream` are mutually exclusive for now"
        return [cause("FieldValueForbidden", "[]", text)]
    return []


def _number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise errors.bad_request(f"{name} must be a number, not {text!r}") from None


def _time(query: Mapping[str, str], name: str) -> float | None:
    text = query.get(name)
    if not text:
        return None
    try:
        return parse_rfc3339(text).timestamp()
    except ValueError:
        raise errors.bad_request(f"{name} must be an RFC 3339 time") from None
