"""Questions to the server: who am I, may I, is this token good; and tokens for service accounts (TokenRequest)."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from kube.machinery import errors
from kube.machinery.durations import now_rfc3339, rfc3339
from kube.machinery.errors import cause
from solo.auth.rbac import Authorizer, Deed
from solo.auth.rules import Rule
from solo.auth.tokens import DEFAULT_LIFETIME_SECONDS, BoundObject, TokenAuthority, TokenError
from solo.auth.user import User
from solo.registry.builtin_schema import BuiltinSchema
from solo.registry.objects import dig, quote
from solo.store import Key, Store

Obj = dict[str, Any]

_MIN_TOKEN_SECONDS = 600
_MAX_TOKEN_SECONDS = 1 << 32


class Reviews:
    """Answers the kinds that exist only as a POST."""

    def __init__(self, store: Store, access: Authorizer, tokens: TokenAuthority) -> None:
        self._store = store
        self._access = access
        self._tokens = tokens

    def answer(self, plural: str, obj: Obj, namespace: str, user: User) -> Obj:
        """The review with its status filled in. Raises 400 and 422 for one that is none."""
        _schema(str(obj.get("apiVersion")), str(obj.get("kind"))).decode(obj)
        spec = obj.get("spec") or {}
        if plural == "selfsubjectreviews":
            review: Obj = {"metadata": {"creationTimestamp": now_rfc3339()}, "status": {"userInfo": _user_info(user)}}
        elif plural == "tokenreviews":
            review = {"metadata": {}, "spec": spec, "status": self._token_status(spec)}
        elif plural == "selfsubjectrulesreviews":
            review = {"metadata": {}, "spec": spec, "status": self._rules_status(spec, user)}
        else:
            review = {"metadata": {}, "spec": spec, "status": self._access_status(plural, spec, namespace, user)}
        return {"kind": obj.get("kind"), "apiVersion": obj.get("apiVersion"), **review}

    def _access_status(self, plural: str, spec: Obj, namespace: str, user: User) -> Obj:
        subject = user
        if plural != "selfsubjectaccessreviews":
            extra = {key: tuple(values) for key, values in (spec.get("extra") or {}).items()}
            subject = User(spec.get("user") or "", tuple(spec.get("groups") or ()), extra, spec.get("uid") or "")
        attributes, plain = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
        if bool(attributes) == bool(plain):
            detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
            problem = cause("FieldValueInvalid", "spec.resourceAttributes", detail, "null")
            raise errors.invalid("authorization.k8s.io", "SubjectAccessReview", "", [problem])
        if attributes:
            if plural == "localsubjectaccessreviews" and attributes.get("namespace") != namespace:
                raise errors.bad_request("spec.resourceAttributes.namespace must match the namespace")
            deed = Deed(
                attributes.get("verb") or "",
                attributes.get("group") or "",
                attributes.get("resource") or "*",
                attributes.get("subresource") or "",
                attributes.get("namespace") or "",
                attributes.get("name") or "",
            )
        else:
            asked: Obj = plain or {}
            deed = Deed(asked.get("verb") or "", path=asked.get("path") or "")
        allowed, reason = self._access.authorize(subject, deed)
        return {"allowed": allowed, "reason": reason} if reason else {"allowed": allowed}

    def _rules_status(self, spec: Obj, user: User) -> Obj:
        rules = self._access.rules_for(user, spec.get("namespace") or "")
        return {
            "resourceRules": [_resource_rule(rule) for rule in rules if rule.resources],
            "nonResourceRules": [
                {"verbs": sorted(rule.verbs), "nonResourceURLs": sorted(rule.urls)} for rule in rules if rule.urls
            ],
            "incomplete": False,
        }

    def _token_status(self, spec: Obj) -> Obj:
        token = spec.get("token") or ""
        try:
            user = self._tokens.verify(token, spec.get("audiences") or ())
        except TokenError as problem:
            return {"authenticated": False, "error": str(problem), "user": {}}
        audiences = [item for item in self._tokens.audiences(token) if item in (spec.get("audiences") or [item])]
        return {"authenticated": True, "user": _user_info(user), "audiences": audiences}

    def token_request(self, namespace: str, name: str, obj: Obj) -> Obj:
        """POST serviceaccounts/token. Raises 400, 404, 409 or 422."""
        _schema("authentication.k8s.io/v1", "TokenRequest").decode(obj)
        stored = self._store.get(Key("serviceaccounts", namespace, name))
        if stored is None:
            raise errors.not_found("serviceaccounts", name)
        spec = obj.get("spec") or {}
        seconds = spec.get("expirationSeconds") or DEFAULT_LIFETIME_SECONDS
        if not isinstance(seconds, int) or not _MIN_TOKEN_SECONDS <= seconds <= _MAX_TOKEN_SECONDS:
            detail = "may not specify a duration less than 10 minutes"
            problem = cause("FieldValueInvalid", "spec.expirationSeconds", detail, str(seconds))
            raise errors.invalid("authentication.k8s.io", "TokenRequest", name, [problem])
        token, expires = self._tokens.issue(
            namespace,
            name,
            stored.obj["metadata"]["uid"],
            audiences=spec.get("audiences") or (),
            lifetime=seconds,
            **self._bound(namespace, name, spec.get("boundObjectRef")),
        )
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": now_rfc3339()},
            "spec": {**spec, "expirationSeconds": seconds},
            "status": {"token": token, "expirationTimestamp": rfc3339(datetime.fromtimestamp(expires, UTC))},
        }

    def _bound(self, namespace: str, account: str, reference: Obj | None) -> dict[str, BoundObject]:
        """The object that a token is to be bound to, by its kind as an argument of `issue`. Raises 400, 404 or 409."""
        if not reference:
            return {}
        place = _BINDABLE.get(str(reference.get("kind")))
        if place is None:
            detail = 'supported values: "Node", "Pod", "Secret"'
            printed = quote(str(reference.get("kind") or ""))
            problem = cause("FieldValueNotSupported", "spec.boundObjectRef.kind", detail, printed)
            raise errors.invalid("authentication.k8s.io", "TokenRequest", account, [problem])
        name = reference.get("name") or ""
        stored = self._store.get(Key(place, "" if place == "nodes" else namespace, name))
        if stored is None:
            raise errors.not_found(place, name)
        uid = stored.obj["metadata"]["uid"]
        if reference.get("uid") not in (None, "", uid):
            raise errors.conflict(place, name, f"the UID in the bound object reference ({reference['uid']}) is another")
        if place == "pods" and dig(stored.obj, "spec", "serviceAccountName") != account:
            raise errors.bad_request(f'pod "{name}" does not run as service account "{account}"')
        return {place.removesuffix("s"): BoundObject(name, uid)}

    def key_set(self) -> Obj:
        """The keys that sign service account tokens."""
        return self._tokens.key_set()


@lru_cache(maxsize=16)
def _schema(api_version: str, kind: str) -> BuiltinSchema:
    group, _, version = api_version.partition("/")
    return BuiltinSchema(f"io.k8s.api.{group.partition('.')[0]}.{version}.{kind}", kind, version)


_BINDABLE = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}


def _user_info(user: User) -> Obj:
    info: Obj = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        info["uid"] = user.uid
    if user.extra:
        info["extra"] = {key: list(values) for key, values in user.extra.items()}
    return info


def _resource_rule(rule: Rule) -> Obj:
    shown: Obj = {
        "verbs": sorted(rule.verbs),
        "apiGroups": sorted(rule.groups),
        "resources": sorted(rule.resources),
    }
    if rule.names:
        shown["resourceNames"] = sorted(rule.names)
    return shown
