"""Acting as somebody else: the `Impersonate-*` headers, for those who may (authentication: "User impersonation").

There are several ways to be allowed, tried from the narrowest to the widest. Each but the last is bounded to some verbs
by a second right, `impersonate-on:MODE:VERB` on what the request is about (KEP-5284, constrained impersonation):

- `associated-node`: a pod's service account acts as the node that its token says the pod is on;
- `arbitrary-node`, `serviceaccount`: as any node or service account, by its user name alone;
- `user-info`: as any other user, with groups, uid and extra fields;
- `impersonate` alone: as anybody, for everything that they may do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import unquote

from multidict import CIMultiDictProxy

from kube.machinery import errors
from kube.machinery.errors import StatusError
from kube.machinery.names import dns1123_subdomain
from solo.auth.rbac import Authorizer, Deed
from solo.auth.subjects import NODE_NAME
from solo.auth.user import (
    ANONYMOUS,
    AUTHENTICATED,
    MASTERS,
    NODE_PREFIX,
    NODES,
    SERVICE_ACCOUNT_PREFIX,
    UNAUTHENTICATED,
    User,
    service_account_groups,
)

_USER, _GROUP, _UID, _EXTRA = "Impersonate-User", "Impersonate-Group", "Impersonate-Uid", "impersonate-extra-"
_GROUP_OF_USERS = "authentication.k8s.io"
_ASSOCIATED_NODE = "associated-node"


def impersonated(user: User, headers: CIMultiDictProxy[str], access: Authorizer, deed: Deed) -> User:
    """The user that a request wants to be while it does `deed`, the caller itself without such headers.

    Raises 400 for headers that make no sense without a user, 403 where the caller may not (the first of the reasons).
    """
    wanted = _wanted(headers)
    if wanted is None:
        return user
    refusal: StatusError | None = None
    for mode in _modes(user, wanted):
        try:
            if mode:
                access.require(user, deed._replace(verb=f"impersonate-on:{mode}:{deed.verb}"))
            _check(user, wanted, mode, access)
            return _completed(wanted, mode)
        except StatusError as problem:
            refusal = refusal or problem
    assert refusal is not None  # the last mode is for everybody
    raise refusal


def _wanted(headers: CIMultiDictProxy[str]) -> User | None:
    """The user as the headers describe it, None without one."""
    name, uid = headers.get(_USER) or "", headers.get(_UID) or ""
    groups = tuple(headers.getall(_GROUP, []))
    extra: dict[str, tuple[str, ...]] = {}
    for key, value in headers.items():
        if key.lower().startswith(_EXTRA):
            field = unquote(key[len(_EXTRA) :]).lower()
            extra[field] = (*extra.get(field, ()), value)
    if name:
        return User(name, groups, extra, uid)
    if groups or extra or uid:
        raise errors.bad_request("requested impersonation of groups, a uid or extra fields without a user")
    return None


def _modes(user: User, wanted: User) -> Iterator[str]:
    """The ways in which `user` may come to be `wanted`; the last one, "", is not bounded."""
    node, account = _node(wanted), _service_account(wanted)
    named_only = not (wanted.groups or wanted.extra or wanted.uid)
    if node and named_only:
        if _service_account(user) and tuple(user.extra.get(NODE_NAME, ())) == (node,):
            yield _ASSOCIATED_NODE
        yield "arbitrary-node"
    if account and named_only:
        yield "serviceaccount"
    if not node and not account:
        yield "user-info"
    yield ""


def _check(user: User, wanted: User, mode: str, access: Authorizer) -> None:
    """Raises 403 unless `user` may be all that `wanted` is."""
    verb, group = (f"impersonate:{mode}", _GROUP_OF_USERS) if mode else ("impersonate", "")
    account, node = _service_account(wanted), _node(wanted)
    if account:
        access.require(user, Deed(verb, group, "serviceaccounts", "", *account))
    elif node and mode:
        # Which node the token says: so the right is one on all nodes.
        access.require(user, Deed(verb, group, "nodes", name="*" if mode == _ASSOCIATED_NODE else node))
    else:
        access.require(user, Deed(verb, group, "users", name=wanted.name))
    if wanted.uid:
        access.require(user, Deed(verb, _GROUP_OF_USERS, "uids", name=wanted.uid))
    for each in wanted.groups:
        if mode and each in ("", MASTERS):
            raise errors.forbidden(f"groups.{group}", each, f'impersonating the group "{each}" is not allowed')
        access.require(user, Deed(verb, group, "groups", name=each))
    for key, values in wanted.extra.items():
        for value in values:
            if mode and not (key and value):
                raise errors.forbidden(f"userextras.{group}", "", "impersonating empty extra fields is not allowed")
            access.require(user, Deed(verb, _GROUP_OF_USERS, "userextras", key, name=value))


def _completed(wanted: User, mode: str) -> User:
    """The user with the groups that it is in by its name."""
    account = _service_account(wanted)
    groups = wanted.groups
    if account and not groups:
        groups = service_account_groups(account[0])
    elif mode and _node(wanted):
        groups = (NODES,)
    if wanted.name == ANONYMOUS.name:
        also = UNAUTHENTICATED
    elif UNAUTHENTICATED in groups:
        return replace(wanted, groups=groups)
    else:
        also = AUTHENTICATED
    return replace(wanted, groups=groups if also in groups else (*groups, also))


def _node(user: User) -> str:
    name = user.name.removeprefix(NODE_PREFIX)
    return name if name != user.name and not dns1123_subdomain(name) else ""


def _service_account(user: User) -> tuple[str, str] | None:
    """Namespace and name of the service account that a user is."""
    if not user.name.startswith(SERVICE_ACCOUNT_PREFIX) or user.name.count(":") != 3:
        return None
    _, _, namespace, name = user.name.split(":")
    return namespace, name
