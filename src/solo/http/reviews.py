"""Questions to the server: who am I, may I, is this token good; and tokens for service accounts (TokenRequest)."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from kube.machinery import errors
from kube.machinery.durations import now_rfc3339, rfc3339
from solo.auth.rbac import Authorizer, Deed
from solo.auth.rules import Rule
from solo.auth.subjects import TokenError
from solo.auth.tokens import DEFAULT_AUDIENCE, DEFAULT_LIFETIME_SECONDS, BoundObject, TokenAuthority
from solo.auth.user import User
from solo.http.reviewchecks import check_access_review, check_token_lifetime, check_token_names
from solo.registry.builtin_schema import BuiltinSchema
from solo.registry.objects import child, dig, quote
from solo.store import Key, Store

Obj = dict[str, Any]


class Reviews:
    """Answers the kinds that exist only as a POST."""

    def __init__(self, store: Store, access: Authorizer, tokens: TokenAuthority) -> None:
        self._store = store
        self._access = access
        self._tokens = tokens

    def answer(self, plural: str, obj: Obj, namespace: str, user: User) -> Obj:
        """The review with its status filled in. Raises 400 and 422 for one that is none."""
        _schema(str(obj.get("apiVersion")), str(obj.get("kind"))).decode(obj)
        if namespace and dig(obj, "metadata", "namespace") not in (None, "", namespace):
            text = "the namespace of the provided object does not match the namespace sent on the request"
            raise errors.bad_request(text)
        spec = obj.get("spec") or {}
        if plural == "selfsubjectreviews":
            review: Obj = {"metadata": {"creationTimestamp": now_rfc3339()}, "status": {"userInfo": _user_info(user)}}
        elif plural == "tokenreviews":
            review = {"metadata": {}, "spec": spec, "status": self._token_status(spec)}
        elif plural == "selfsubjectrulesreviews":
            review = {"metadata": {}, "spec": spec, "status": self._rules_status(spec, user)}
        else:
            causes = check_access_review(plural, obj, namespace)
            if causes:
                raise errors.invalid("authorization.k8s.io", str(obj.get("kind")), "", causes)
            review = {"metadata": {}, "spec": spec, "status": self._access_status(plural, spec, user)}
        return {"kind": obj.get("kind"), "apiVersion": obj.get("apiVersion"), **review}

    def _access_status(self, plural: str, spec: Obj, user: User) -> Obj:
        subject = user
        if plural != "selfsubjectaccessreviews":
            extra = {key: tuple(values) for key, values in (spec.get("extra") or {}).items()}
            subject = User(spec.get("user") or "", tuple(spec.get("groups") or ()), extra, spec.get("uid") or "")
        attributes = spec.get("resourceAttributes")
        if attributes is not None:
            deed = Deed(
                attributes.get("verb") or "",
                attributes.get("group") or "",
                attributes.get("resource") or "*",
                attributes.get("subresource") or "",
                attributes.get("namespace") or "",
                attributes.get("name") or "",
            )
        else:
            asked: Obj = spec["nonResourceAttributes"]
            deed = Deed(asked.get("verb") or "", path=asked.get("path") or "")
        allowed, reason = self._access.authorize(subject, deed)
        return {"allowed": allowed, "reason": reason} if reason else {"allowed": allowed}

    def _rules_status(self, spec: Obj, user: User) -> Obj:
        namespace = spec.get("namespace")
        if not namespace:
            raise errors.bad_request("no namespace on request")
        rules = self._access.rules_for(user, namespace)
        return {
            "resourceRules": [_resource_rule(rule) for rule in rules if rule.resources],
            "nonResourceRules": [
                {"verbs": sorted(rule.verbs), "nonResourceURLs": sorted(rule.urls)} for rule in rules if rule.urls
            ],
            "incomplete": False,
        }

    def _token_status(self, spec: Obj) -> Obj:
        token = spec.get("token")
        if not token:
            raise errors.bad_request("token is required for TokenReview in authentication")
        try:
            user = self._tokens.verify(token, spec.get("audiences") or ())
        except TokenError as problem:
            return {"authenticated": False, "error": str(problem), "user": {}}
        audiences = [item for item in self._tokens.audiences(token) if item in (spec.get("audiences") or [item])]
        return {"authenticated": True, "user": _user_info(user), "audiences": audiences}

    def default_token_request(self, obj: Obj) -> None:
        """Fill in what a TokenRequest leaves out, in place."""
        child(obj, "spec").setdefault("expirationSeconds", DEFAULT_LIFETIME_SECONDS)

    def accept_token_request(self, namespace: str, name: str, obj: Obj) -> None:
        """Take a request for a token of a service account, in place. Raises 404 or 422."""
        if causes := check_token_names(child(obj, "metadata"), namespace, name):
            raise errors.invalid("authentication.k8s.io", "TokenRequest", name, causes)
        if self._store.get(Key("serviceaccounts", namespace, name)) is None:
            raise errors.not_found("serviceaccounts", name)
        self.default_token_request(obj)
        obj["spec"]["audiences"] = obj["spec"].get("audiences") or [DEFAULT_AUDIENCE]
        obj["metadata"] = {"name": name, "namespace": namespace, "creationTimestamp": now_rfc3339()}
        obj.pop("status", None)
        if causes := check_token_lifetime(obj["spec"]["expirationSeconds"]):
            raise errors.invalid("authentication.k8s.io", "TokenRequest", "", causes)

    def issue_token(self, namespace: str, name: str, obj: Obj) -> Obj:
        """The TokenRequest with its token. Raises 400, 404 or 409."""
        spec = obj["spec"]
        reference = spec.get("boundObjectRef")
        stored = self._store.get(Key("serviceaccounts", namespace, name))
        if stored is None:
            raise errors.not_found("serviceaccounts", name)
        token, expires = self._tokens.issue(
            namespace,
            name,
            stored.obj["metadata"]["uid"],
            audiences=spec["audiences"],
            lifetime=spec["expirationSeconds"],
            **self._bound(namespace, name, reference),
        )
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": obj["metadata"],
            "spec": {**spec, "boundObjectRef": reference},
            "status": {"token": token, "expirationTimestamp": rfc3339(datetime.fromtimestamp(expires, UTC))},
        }

    def _bound(self, namespace: str, account: str, reference: Obj | None) -> dict[str, BoundObject]:
        """The object that a token is to be bound to, by its kind as an argument of `issue`. Raises 400, 404 or 409."""
        if reference is None:
            return {}
        group, _, version = (reference.get("apiVersion") or "").rpartition("/")
        kind, name = reference.get("kind") or "", reference.get("name") or ""
        place = None if group else _BINDABLE.get(kind)
        if place is None:
            raise errors.bad_request(f"cannot bind token to object of type {group}/{version}, Kind={kind}")
        stored = self._store.get(Key(place, "" if place == "nodes" else namespace, name))
        if stored is None:
            raise errors.not_found(place, name)
        uid = stored.obj["metadata"]["uid"]
        if reference.get("uid") not in (None, "", uid):
            text = f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record. "
            raise errors.conflict(kind, name, f"{text}The object might have been deleted and then recreated")
        if place == "pods" and dig(stored.obj, "spec", "serviceAccountName") != account:
            text = f"cannot bind token for serviceaccount {quote(account)} to pod running with different "
            raise errors.bad_request(f"{text}serviceaccount name.")
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
