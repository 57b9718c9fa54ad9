"""Service-account tokens: ES256 JWTs with the claims of Kubernetes' bound tokens.

A token is good while its signature, time and audience are, and while the service account it names (and the pod it is
bound to, if any) still exists with the same uid. The signature is checked once per token and remembered, since a client
sends the same token with every request; existence is checked every time.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from solo.auth.user import User, service_account_groups, service_account_name

ISSUER = "https://kubernetes.default.svc.cluster.local"
DEFAULT_AUDIENCE = ISSUER
DEFAULT_LIFETIME_SECONDS = 3600
NODE_NAME = "authentication.kubernetes.io/node-name"
CACHE_LIMIT = 1024
LEEWAY_SECONDS = 30

# (resource, namespace, name) -> uid of the object, or None when there is none (or it is being deleted for good).
Lookup = Callable[[str, str, str], str | None]


class TokenError(Exception):
    """The token is not acceptable; the message says why and holds nothing of the token."""


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
        self._lookup = lookup
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
        import jwt

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
        headers = {"kid": self.key_set()["keys"][0]["kid"]}
        return jwt.encode(claims, self._load_keys()[0], algorithm="ES256", headers=headers), expires

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
            TokenError: signature, time, audience, service account or pod are not good.
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
        return self._user(verified.claims)

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
                issuer=ISSUER,
                options={"require": ["exp", "iat", "nbf", "sub", "aud"], "verify_aud": False},
                leeway=LEEWAY_SECONDS,
            )
        except jwt.InvalidTokenError as exc:
            raise TokenError(f"invalid token: {type(exc).__name__}") from exc
        audience = claims["aud"]
        return _Verified(
            claims,
            float(claims["nbf"]),
            float(claims["exp"]),
            frozenset([audience] if isinstance(audience, str) else audience),
        )

    def _user(self, claims: dict[str, Any]) -> User:
        bound = claims["kubernetes.io"]
        namespace = bound["namespace"]
        account = bound["serviceaccount"]
        if self._lookup("serviceaccounts", namespace, account["name"]) != account["uid"]:
            raise TokenError("the token's service account no longer exists")
        extra = {"authentication.kubernetes.io/credential-id": (f"JTI={claims['jti']}",)}
        pod = bound.get("pod")
        if pod is not None:
            if self._lookup("pods", namespace, pod["name"]) != pod["uid"]:
                raise TokenError("the token's pod no longer exists")
            extra["authentication.kubernetes.io/pod-name"] = (pod["name"],)
            extra["authentication.kubernetes.io/pod-uid"] = (pod["uid"],)
        secret = bound.get("secret")
        if secret is not None and self._lookup("secrets", namespace, secret["name"]) != secret["uid"]:
            raise TokenError("the token's secret no longer exists")
        node = bound.get("node")
        if node is not None:
            if pod is None and self._lookup("nodes", "", node["name"]) != node["uid"]:
                raise TokenError("the token's node no longer exists")
            extra[NODE_NAME] = (node["name"],)
            extra["authentication.kubernetes.io/node-uid"] = (node["uid"],)
        return User(
            service_account_name(namespace, account["name"]), service_account_groups(namespace), extra, account["uid"]
        )
