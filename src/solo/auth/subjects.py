"""For whom a service account's token speaks, and whether it still may: what it is bound to has to be there, with the
same uid (kube-apiserver's `pkg/serviceaccount`: claims.go for tokens that are asked for, legacy.go for Secrets').
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from kube.machinery.durations import parse_rfc3339
from solo.auth.user import User, service_account_groups, service_account_name

Claims = Mapping[str, Any]
Obj = Mapping[str, Any]
Lookup = Callable[[str, str, str], Obj | None]
"""(resource, namespace, name) -> the object, None when there is none."""

NODE_NAME = "authentication.kubernetes.io/node-name"
LEGACY = "kubernetes.io/serviceaccount/"
"""What the claims of a token in a Secret begin with."""
INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since"
"""The label by which an administrator, or a cleaner, takes a Secret's token out of use."""
_AFTER_DELETION = timedelta(minutes=1)


class TokenError(Exception):
    """The token is not acceptable; the message says why and holds nothing of the token."""


class Subjects:
    """Finds the users of tokens whose signature is good."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    def bound(self, claims: Claims) -> User:
        """The user of a token that was asked for. Raises TokenError when something that it is bound to is gone."""
        bound = claims["kubernetes.io"]
        namespace = bound["namespace"]
        account = bound["serviceaccount"]
        self._check("serviceaccounts", namespace, account, "service account")
        extra = {"authentication.kubernetes.io/credential-id": (f"JTI={claims['jti']}",)}
        pod, secret, node = bound.get("pod"), bound.get("secret"), bound.get("node")
        if pod is not None:
            self._check("pods", namespace, pod, "pod")
            extra["authentication.kubernetes.io/pod-name"] = (pod["name"],)
            extra["authentication.kubernetes.io/pod-uid"] = (pod["uid"],)
        if secret is not None:
            self._check("secrets", namespace, secret, "secret")
        if node is not None:
            if pod is None:
                self._check("nodes", "", node, "node")
            extra[NODE_NAME] = (node["name"],)
            extra["authentication.kubernetes.io/node-uid"] = (node["uid"],)
        return _user(namespace, account["name"], account["uid"], extra)

    def _check(self, resource: str, namespace: str, bound: Obj, word: str) -> None:
        found = self._lookup(resource, namespace, bound["name"])
        if found is None or found["metadata"]["uid"] != bound["uid"] or _long_deleted(found):
            raise TokenError(f"the token's {word} no longer exists")

    def of_secret(self, claims: Claims, token: str) -> User:
        """The user of a token that a Secret holds. Raises TokenError unless the Secret holds this very one."""
        namespace, name, uid, held = (claims[LEGACY + claim] for claim in LEGACY_CLAIMS)
        account = self._lookup("serviceaccounts", namespace, name)
        if account is None or account["metadata"]["uid"] != uid or account["metadata"].get("deletionTimestamp"):
            raise TokenError("the token's service account no longer exists")
        secret = self._lookup("secrets", namespace, held)
        if secret is None or secret["metadata"].get("deletionTimestamp"):
            raise TokenError("the token's secret no longer exists")
        if not hmac.compare_digest(_token_in(secret), token.encode()):
            raise TokenError("the token is not the one that its secret holds")
        if (secret["metadata"].get("labels") or {}).get(INVALID_SINCE):
            raise TokenError(f"the token's secret {namespace}/{held} has the label {INVALID_SINCE}")
        return _user(namespace, name, uid, {})


LEGACY_CLAIMS = ("namespace", "service-account.name", "service-account.uid", "secret.name")


def _user(namespace: str, name: str, uid: str, extra: Mapping[str, tuple[str, ...]]) -> User:
    return User(service_account_name(namespace, name), service_account_groups(namespace), extra, uid)


def _long_deleted(obj: Obj) -> bool:
    """Whether an object that a finalizer may still hold is at its end for longer than clocks differ."""
    until = obj["metadata"].get("deletionTimestamp")
    return bool(until) and parse_rfc3339(until) < datetime.now(UTC) - _AFTER_DELETION


def _token_in(secret: Obj) -> bytes:
    try:
        return base64.b64decode((secret.get("data") or {}).get("token") or "")
    except binascii.Error:
        return b""
