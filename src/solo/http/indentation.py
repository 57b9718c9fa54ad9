"""Indented JSON, for people: who asks for it, and those who look with a browser or a command line's client."""

from __future__ import annotations

import msgspec
from aiohttp import web
from aiohttp.payload import Payload

from solo.http.negotiation import JSON

_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_PEOPLE = ("curl", "Wget", "Mozilla/5.0")
_DOCUMENTS = ("/openapi", "/openid", "/.well-known")
"""What is served as it was made, whoever asks."""


def wants_indented(request: web.BaseRequest) -> bool:
    """Whether a client has its JSON indented (apiserver `isPrettyPrint`)."""
    path = request.raw_path
    asked = request.query.get("pretty") if "pretty" in path else ""
    wanted = asked in _TRUE if asked else request.headers.get("User-Agent", "").startswith(_PEOPLE)
    return wanted and not path.startswith(_DOCUMENTS)


async def indented(answer: web.StreamResponse) -> web.StreamResponse:
    """The answer, indented where it is JSON and not the stream of a watch."""
    if not isinstance(answer, web.Response) or answer.content_type != JSON or not answer.body:
        return answer
    body = answer.body
    answer.body = indent(await body.as_bytes() if isinstance(body, Payload) else body)
    return answer


def indent(text: bytes | bytearray) -> bytes:
    """JSON as Go's `json.MarshalIndent` writes it here."""
    return msgspec.json.format(bytes(text), indent=2)
