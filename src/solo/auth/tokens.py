"""Service-account tokens: ES256 JWTs with the claims of Kubernetes' tokens.

A token is good while its signature, time and audience are, and while what it is bound to is there. The signature is
checked once per token and remembered, since a client sends the same token with every request; the rest every time.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from solo.auth.subjects import LEGACY, LEGACY_CLAIMS, Lookup, Subjects, TokenError
from solo.auth.user import User, service_account_name

ISSUER = "https://kubernetes.default.svc.cluster.local"
DEFAULT_AUDIENCE = ISSUER
DEFAULT_LIFETIME_SECONDS = 3600
LEGACY_ISSUER = "kubernetes/serviceaccount"
"""Who issues the tokens that Secrets hold, which never end by themselves."""
CACHE_LIMIT = 1024
LEEWAY_SECONDS = 30


@dataclass(frozen=True, slots=True)
class BoundObject:
    """An object (a pod, a secret, a node) whose end is the token's end too."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class _Verified:
    claims: dict[str, Any]
    not_before: float
    expires: float
    audiences: frozenset[str]


class TokenAuthority:
    """Issues and checks the tokens of one cluster."""

    def __init__(self, key_pem: bytes, lookup: Lookup) -> None:
        self._key_pem = key_pem
        self._subjects = Subjects(lookup)
        self._keys: tuple[Any, Any] | None = None
        self._key_set: dict[str, Any] | None = None
        self._cache: OrderedDict[str, _Verified] = OrderedDict()

    def _load_keys(self) -> tuple[Any, Any]:
        if self._keys is None:
            from cryptography.hazmat.primitives import serialization

            private = serialization.load_pem_private_key(self._key_pem, None)
            self._keys = (private, private.public_key())
        return self._keys

    def issue(
        self,
        namespace: str,
        name: str,
        uid: str,
        *,
        audiences: Sequence[str] = (),
        lifetime: float = DEFAULT_LIFETIME_SECONDS,
        pod: BoundObject | None = None,
        node: BoundObject | None = None,
        secret: BoundObject | None = None,
    ) -> tuple[str, int]:
        """A token for a service account and the Unix time at which it ends; `lifetime` in seconds."""
        now = int(time.time())
        expires = now + int(lifetime)
        kubernetes: dict[str, Any] = {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}}
        if pod is not None:
            kubernetes["pod"] = {"name": pod.name, "uid": pod.uid}
        if node is not None:
            kubernetes["node"] = {"name": node.name, "uid": node.uid}
        if secret is not None:
            kubernetes["secret"] = {"name": secret.name, "uid": secret.uid}
        claims = {
            "aud": list(audiences) or [DEFAULT_AUDIENCE],
            "exp": expires,
            "iat": now,
            "iss": ISSUER,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": kubernetes,
            "nbf": now,
            "sub": service_account_name(namespace, name),
        }
        return self._signed(claims), expires

    def issue_for_secret(self, namespace: str, name: str, uid: str, secret: str) -> str:
        """A token for a service account that is good while the Secret `secret` holds it."""
        claims = {
            LEGACY + claim: value for claim, value in zip(LEGACY_CLAIMS, (namespace, name, uid, secret), strict=True)
        }
        return self._signed({"iss": LEGACY_ISSUER, "sub": service_account_name(namespace, name), **claims})

    def _signed(self, claims: dict[str, Any]) -> str:
        import jwt

        headers = {"kid": self.key_set()["keys"][0]["kid"]}
        return jwt.encode(claims, self._load_keys()[0], algorithm="ES256", headers=headers)

    def key_set(self) -> dict[str, Any]:
        """The public key as a JSON Web Key Set (RFC 7517), for others who check tokens; its id is its thumbprint."""
        if self._key_set is None:
            from jwt.algorithms import ECAlgorithm

            key: dict[str, Any] = ECAlgorithm.to_jwk(self._load_keys()[1], as_dict=True)
            members = {name: key[name] for name in ("crv", "kty", "x", "y")}
            text = json.dumps(members, sort_keys=True, separators=(",", ":"))
            digest = hashlib.sha256(text.encode()).digest()
            thumbprint = base64.urlsafe_b64encode(digest).decode().rstrip("=")
            self._key_set = {"keys": [{"use": "sig", "alg": "ES256", "kid": thumbprint, **members}]}
        return self._key_set

    def verify(self, token: str, audiences: Sequence[str] = ()) -> User:
        """The user that a token stands for; `audiences` are those accepted (none given: the API server's own).

        Raises:
            TokenError: signature, time or audience are not good, or something that it is bound to is gone.
        """
        verified = self._cache.get(token)
        if verified is None:
            verified = self._decode(token)
            self._cache[token] = verified
            if len(self._cache) > CACHE_LIMIT:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(token)
        now = time.time()
        if now > verified.expires + LEEWAY_SECONDS or now < verified.not_before - LEEWAY_SECONDS:
            raise TokenError("token has expired" if now > verified.expires else "token is not yet valid")
        if not verified.audiences & set(audiences or (DEFAULT_AUDIENCE,)):
            raise TokenError("token is for another audience")
        if verified.claims["iss"] == LEGACY_ISSUER:
            return self._subjects.of_secret(verified.claims, token)
        return self._subjects.bound(verified.claims)

    def audiences(self, token: str) -> tuple[str, ...]:
        """The audiences that a token verified before names."""
        verified = self._cache.get(token)
        return tuple(sorted(verified.audiences)) if verified else ()

    def _decode(self, token: str) -> _Verified:
        import jwt

        try:
            claims = jwt.decode(
                token,
                self._load_keys()[1],
                algorithms=["ES256"],
                issuer=[ISSUER, LEGACY_ISSUER],
                options={"require": ["sub"], "verify_aud": False},
                leeway=LEEWAY_SECONDS,
            )
            if claims["iss"] == LEGACY_ISSUER:
                return _Verified(claims, -math.inf, math.inf, frozenset((DEFAULT_AUDIENCE,)))
            for claim in ("exp", "iat", "nbf", "aud"):
                if claim not in claims:
                    raise jwt.MissingRequiredClaimError(claim)
        except jwt.InvalidTokenError as exc:
            raise TokenError(f"invalid token: {type(exc).__name__}") from exc
        audience = claims["aud"]
        audiences = frozenset([audience] if isinstance(audience, str) else audience)
        return _Verified(claims, float(claims["nbf"]), float(claims["exp"]), audiences)
