"""URLs as Go's net/url reads them, which is neither RFC 3986 nor Python: what Kubernetes accepts as one, and its parts.

Errors say what Go's do after the `parse "...": `.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import unquote

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*")
_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")
_PORT = re.compile(r"(:[0-9]*)?")
_USER = re.compile(r"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*")
# What may stand in a host as it is (net/url validEncoded and shouldEscape for hosts); above ASCII everything may.
_HOST = re.compile(r"[A-Za-z0-9\-_.~!$&'()*+,;=:\[\]<>\"\x80-\U0010ffff]*")
_PATH_SAFE = re.compile(r"[A-Za-z0-9\-_.~$&+,/:;=@!'()*\[\]]")


@dataclass(frozen=True, slots=True)
class Url:
    """The parts of a URL; `path` is unescaped, `escaped_path` as it is sent."""

    scheme: str
    opaque: str
    user: str | None
    host: str
    path: str
    escaped_path: str
    query: str
    fragment: str

    @property
    def hostname(self) -> str:
        """The host without port and brackets."""
        name, _ = _split_port(self.host)
        return name[1:-1] if name.startswith("[") and name.endswith("]") else name

    @property
    def port(self) -> str:
        return _split_port(self.host)[1]


class UrlError(ValueError):
    """The text is no URL."""


def parse_url(text: str) -> Url:
    """What `url.Parse` makes of a text. Raises UrlError."""
    before, mark, fragment = text.partition("#")
    found = _parse(before, via_request=False)
    return replace(found, fragment=_unescape(fragment)) if mark else found


def parse_request_uri(text: str) -> Url:
    """What `url.ParseRequestURI` makes of a text: absolute, or a path from the root; `#` is nothing special.
    Raises UrlError."""
    return _parse(text, via_request=True)


def _parse(text: str, *, via_request: bool) -> Url:
    if any(char < " " or char == "\x7f" for char in text):
        raise UrlError("net/url: invalid control character in URL")
    if not text and via_request:
        raise UrlError("empty url")
    if text == "*":
        return Url("", "", None, "", "*", "*", "", "")
    scheme, rest = _split_scheme(text)
    rest, _, query = rest.partition("?")
    if not rest.startswith("/"):
        if scheme:
            return Url(scheme, rest, None, "", "", "", query, "")
        if via_request:
            raise UrlError("invalid URI for request")
        if ":" in rest.partition("/")[0]:
            raise UrlError("first path segment in URL cannot contain colon")
    user: str | None = None
    host = ""
    if (scheme or (not via_request and not rest.startswith("///"))) and rest.startswith("//"):
        authority, slash, path = rest[2:].partition("/")
        rest = slash + path
        user, host = _authority(authority)
    path = _unescape(rest)
    return Url(scheme, "", user, host, path, _escaped(rest, path), query, "")


def _split_scheme(text: str) -> tuple[str, str]:
    before, colon, rest = text.partition(":")
    if text.startswith(":"):
        raise UrlError("missing protocol scheme")
    if colon and _SCHEME.fullmatch(before):
        return before.lower(), rest
    return "", text


def _authority(text: str) -> tuple[str | None, str]:
    given, mark, host = text.rpartition("@")
    if mark and not _USER.fullmatch(given):
        raise UrlError("net/url: invalid userinfo")
    return (given if mark else None), _host(host)


def _host(text: str) -> str:
    if text.startswith("["):
        end = text.rfind("]")
        if end < 0:
            raise UrlError("missing ']' in host")
        if not _PORT.fullmatch(text[end + 1 :]):
            raise UrlError(f'invalid port "{text[end + 1 :]}" after host')
    elif ":" in text and not _PORT.fullmatch(text[text.rindex(":") :]):
        raise UrlError(f'invalid port "{text[text.rindex(":") :]}" after host')
    if bad := _ESCAPE.search(text):
        raise UrlError(f'invalid URL escape "{text[bad.start() : bad.start() + 3]}"')
    plain = text.replace("%", "")
    matched = _HOST.match(plain)
    end = matched.end() if matched else 0
    if end < len(plain):
        raise UrlError(f'invalid character "{plain[end]}" in host name')
    return unquote(text)


def _unescape(text: str) -> str:
    if bad := _ESCAPE.search(text):
        raise UrlError(f'invalid URL escape "{text[bad.start() : bad.start() + 3]}"')
    return unquote(text)


def _escaped(raw: str, path: str) -> str:
    """The path as it was given where that is a valid encoding, else a newly encoded one."""
    plain = re.sub(r"%[0-9a-fA-F]{2}", "", raw)
    if all(_PATH_SAFE.fullmatch(char) for char in plain):
        return raw
    return "".join(
        char if _PATH_SAFE.fullmatch(char) and char not in "!'()*[]" else "".join(f"%{b:02X}" for b in char.encode())
        for char in path
    )


def _split_port(host: str) -> tuple[str, str]:
    colon = host.rfind(":")
    if colon >= 0 and _PORT.fullmatch(host[colon:]) and colon > host.rfind("]"):
        return host[:colon], host[colon + 1 :]
    return host, ""
