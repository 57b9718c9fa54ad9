"""Authentication of a request: client certificate, then bearer token, then anonymous, as kube-apiserver orders them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from kube.machinery import errors
from solo.auth.subjects import TokenError
from solo.auth.tokens import TokenAuthority
from solo.auth.user import ANONYMOUS, AUTHENTICATED, User

__all__ = ["ANONYMOUS", "Authenticator", "User", "bearer_token", "certificate_user"]

logger = logging.getLogger(__name__)


class Authenticator:
    """Turns what a connection and a request carry into a `User`."""

    def __init__(self, tokens: TokenAuthority) -> None:
        self._tokens = tokens

    def authenticate(self, peer_certificate: Mapping[str, Any] | None, authorization: str | None) -> User:
        """The caller's identity.

        Args:
            peer_certificate: `ssl.SSLSocket.getpeercert()`; TLS has checked it against the cluster's CA.
            authorization: the value of the Authorization header.

        Raises:
            StatusError: 401; credentials were given that are not good.
        """
        if peer_certificate:
            user = certificate_user(peer_certificate)
            if user is not None:
                return user
        token = bearer_token(authorization)
        if token is None:
            return ANONYMOUS
        try:
            return self._tokens.verify(token)
        except TokenError as exc:
            logger.info("a bearer token was refused: %s", exc)
            raise errors.unauthorized() from exc


def certificate_user(certificate: Mapping[str, Any]) -> User | None:
    """User name = common name, groups = organizations (None without a common name)."""
    names: list[str] = []
    groups: list[str] = []
    subject: Sequence[Sequence[tuple[str, str]]] = certificate.get("subject", ())
    for relative_name in subject:
        for attribute, value in relative_name:
            if attribute == "commonName":
                names.append(value)
            elif attribute == "organizationName":
                groups.append(value)
    return User(names[-1], (*groups, AUTHENTICATED)) if names and names[-1] else None


def bearer_token(authorization: str | None) -> str | None:
    """The token of an Authorization header, None when it carries none."""
    scheme, _, token = (authorization or "").strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
