"""Acting as somebody else: the `Impersonate-*` headers, for those who may (authentication: "User impersonation")."""

from __future__ import annotations

from urllib.parse import unquote

from multidict import CIMultiDictProxy

from kube.machinery import errors
from solo.auth.rbac import Authorizer, denial
from solo.auth.user import AUTHENTICATED, SERVICE_ACCOUNT_PREFIX, User, service_account_groups

_USER, _GROUP, _UID, _EXTRA = "Impersonate-User", "Impersonate-Group", "Impersonate-Uid", "impersonate-extra-"
_ANONYMOUS = "system:anonymous"


def impersonated(user: User, headers: CIMultiDictProxy[str], access: Authorizer) -> User:
    """The user that a request wants to be, the caller itself without such headers.

    Raises 400 for headers that make no sense without a user, 403 where the caller may not.
    """
    name = headers.get(_USER) or ""
    groups = headers.getall(_GROUP, [])
    extra: dict[str, list[str]] = {}
    for key, value in headers.items():
        if key.lower().startswith(_EXTRA):
            extra.setdefault(unquote(key[len(_EXTRA) :]).lower(), []).append(value)
    if not name:
        if groups or extra or headers.get(_UID):
            raise errors.bad_request("requested impersonation of groups, a uid or extra fields without a user")
        return user
    if name.startswith(SERVICE_ACCOUNT_PREFIX) and name.count(":") == 3:
        _, _, namespace, account = name.split(":")
        _require(user, access, "", "serviceaccounts", "", namespace, account)
        groups = groups or list(service_account_groups(namespace))
    else:
        _require(user, access, "", "users", "", "", name)
    for group in groups:
        _require(user, access, "", "groups", "", "", group)
    for key, values in extra.items():
        for value in values:
            _require(user, access, "authentication.k8s.io", "userextras", key, "", value)
    uid = headers.get(_UID) or ""
    if uid:
        _require(user, access, "authentication.k8s.io", "uids", "", "", uid)
    if name != _ANONYMOUS and AUTHENTICATED not in groups:
        groups = [*groups, AUTHENTICATED]
    return User(name, tuple(groups), {key: tuple(values) for key, values in extra.items()}, uid)


def _require(
    user: User, access: Authorizer, group: str, resource: str, subresource: str, namespace: str, name: str
) -> None:
    allowed, reason = access.authorize(user, "impersonate", group, resource, subresource, namespace, name, "")
    if not allowed:
        text = denial(user, "impersonate", group, resource, subresource, namespace, "", reason)
        raise errors.forbidden(f"{resource}.{group}" if group else resource, name, text)
