"""Access to Google Cloud Storage with a key: what stands in a Secret's `creds-gcp.json`, exchanged for access tokens.

Sources: RFC 7523 (JWT bearer grants) and RFC 6749, section 6; Google's "Using OAuth 2.0 for Server to Server
Applications"; the file's format is that of application default credentials.
"""

from __future__ import annotations

import json
import re
import time
from ssl import SSLContext
from typing import Any
from urllib.parse import SplitResult, urlencode

from vmruntime.engines.qemu.http_dial import is_loopback_name
from vmruntime.engines.qemu.http_request import Access, Limits, Requester
from vmruntime.engines.qemu.sources import SourceError, check_url

_SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
_TOKEN_URI = "https://oauth2.googleapis.com/token"
_JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_KEY_SECONDS = 3600
_EARLY_SECONDS = 300.0
_TOKEN_BYTES = 1 << 20
_WANTED = {
    "service_account": ("client_email", "private_key"),
    "authorized_user": ("client_id", "client_secret", "refresh_token"),
}


class GoogleAccess:
    """Puts an access token, fetched when it is first needed and again before it runs out, into each request."""

    def __init__(self, credentials: str, limits: Limits) -> None:
        """`credentials`: the JSON text. Raises SourceError (Forbidden) where it is of no use."""
        self._credentials = _parsed(credentials)
        self._limits = limits
        self._token = ""
        self._until = 0.0

    def tls(self) -> SSLContext | None:
        return None

    def headers(self, _parts: SplitResult) -> dict[str, str]:
        """Raises SourceError where no token is to be had."""
        if not self._token or time.monotonic() > self._until:
            self._renew()
        return {"Authorization": f"Bearer {self._token}"}

    def _renew(self) -> None:
        uri = str(self._credentials.get("token_uri") or _TOKEN_URI)
        parts = check_url(uri)
        if parts.scheme != "https" and not is_loopback_name(parts.hostname or ""):
            raise SourceError("Forbidden", "token_uri of the credentials is no https address")
        requester = Requester(self._limits, Access())
        try:
            body = urlencode(self._grant(uri)).encode()
            response = requester.post(uri, body, "application/x-www-form-urlencoded")
            answer = requester.body(response, _TOKEN_BYTES)
        finally:
            requester.close()
        if response.status != 200:
            temporary = response.status >= 500 or response.status == 429
            message = f"{parts.hostname} refused the credentials: {response.status}{_error(answer)}"
            raise SourceError("Forbidden", message, temporary=temporary)
        try:
            document = json.loads(answer)
            self._token = str(document["access_token"])
            seconds = float(document.get("expires_in", _KEY_SECONDS))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SourceError("ServerError", f"the access token from {parts.hostname} cannot be read") from error
        if not re.fullmatch(r"[\x21-\x7e]+", self._token):
            raise SourceError("ServerError", f"the access token from {parts.hostname} cannot be read")
        self._until = time.monotonic() + max(seconds - _EARLY_SECONDS, seconds / 2)

    def _grant(self, uri: str) -> dict[str, str]:
        known = self._credentials
        if known["type"] == "authorized_user":
            return {"grant_type": "refresh_token", **{name: str(known[name]) for name in _WANTED["authorized_user"]}}
        # Imported where it is needed: it would double the time in which an import starts.
        import jwt

        now = int(time.time())
        claims = {"iss": known["client_email"], "scope": _SCOPE, "aud": uri, "iat": now, "exp": now + _KEY_SECONDS}
        key_id = {"kid": str(known["private_key_id"])} if known.get("private_key_id") else None
        try:
            signed = jwt.encode(claims, str(known["private_key"]), algorithm="RS256", headers=key_id)
        except (ValueError, TypeError, jwt.PyJWTError) as error:
            raise SourceError("Forbidden", "private_key of the credentials cannot be read") from error
        return {"grant_type": _JWT_GRANT, "assertion": signed}


def _parsed(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError("Forbidden", "the credentials for Cloud Storage are no JSON text") from error
    kind = document.get("type") if isinstance(document, dict) else None
    if kind not in _WANTED:
        kinds = " and ".join(_WANTED)
        raise SourceError(
            "Forbidden", f"credentials for Cloud Storage of type {kind!r:.60} are not supported; {kinds} are"
        )
    if missing := [name for name in _WANTED[kind] if not document.get(name)]:
        raise SourceError("Forbidden", f"the credentials for Cloud Storage lack {', '.join(missing)}")
    return dict(document)


def _error(answer: bytes) -> str:
    """What an OAuth server says of why, if that can be shown (RFC 6749, section 5.2)."""
    try:
        word = str(json.loads(answer)["error"])
    except (ValueError, TypeError, KeyError):
        return ""
    return f" {word}" if re.fullmatch(r"[\w.-]{1,60}", word) else ""
