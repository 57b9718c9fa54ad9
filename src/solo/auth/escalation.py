"""Nobody hands out rights that they do not have.

Writing a role needs all its rules (or the verb `escalate` on roles); binding a role needs all its rules (or the verb
`bind` on that role); an aggregated role can collect anything, so making one needs everything. See Kubernetes'
"Using RBAC: Privilege escalation prevention and bootstrapping".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kube.machinery import errors
from kube.machinery.resources import RBAC_GROUP
from solo.auth.rbac import CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES, Authorizer, Deed
from solo.auth.rules import Rule, missing, rules_from
from solo.auth.user import MASTERS, User

_EVERY = frozenset("*")
_EVERYTHING = [Rule(_EVERY, _EVERY, _EVERY), Rule(_EVERY, urls=_EVERY)]

Obj = Mapping[str, Any]


def check_escalation(access: Authorizer, user: User, group_resource: str, obj: Obj, old: Obj | None) -> None:
    """Check the write of an RBAC object (any other kind passes). `old` is the object before an update.

    Raises:
        StatusError: 403, naming the rights that `user` lacks; 404 when a binding's role does not exist and `user` may
            not bind it unseen.
    """
    if MASTERS in user.groups:
        return
    if group_resource in (CLUSTERROLES, ROLES):
        _check_role(access, user, group_resource, obj, old)
    elif group_resource in (CLUSTERROLEBINDINGS, ROLEBINDINGS):
        _check_binding(access, user, group_resource, obj, old)


def _may(access: Authorizer, user: User, verb: str, resource: str, namespace: str, name: str) -> bool:
    return access.authorize(user, Deed(verb, RBAC_GROUP, resource, "", namespace, name))[0]


def _check_role(access: Authorizer, user: User, group_resource: str, obj: Obj, old: Obj | None) -> None:
    if old is not None and all(
        (old.get(part) or None) == (obj.get(part) or None) for part in ("rules", "aggregationRule")
    ):
        return
    metadata = obj["metadata"]
    name, namespace = metadata.get("name", ""), metadata.get("namespace", "")
    if _may(access, user, "escalate", group_resource.partition(".")[0], namespace, name):
        return
    held = access.rules_for(user, namespace)
    if obj.get("aggregationRule") and missing(held, _EVERYTHING):
        raise errors.forbidden(group_resource, name, "must have cluster-admin privileges to use the aggregationRule")
    _require(user, held, rules_from(obj), group_resource, name)


def _check_binding(access: Authorizer, user: User, group_resource: str, obj: Obj, old: Obj | None) -> None:
    if old is not None and all((old.get(part) or None) == (obj.get(part) or None) for part in ("roleRef", "subjects")):
        return
    metadata = obj["metadata"]
    name, namespace = metadata.get("name", ""), metadata.get("namespace", "")
    reference = obj.get("roleRef") or {}
    role_name = str(reference.get("name", ""))
    role_resource = "clusterroles" if reference.get("kind") == "ClusterRole" else "roles"
    if _may(access, user, "bind", role_resource, namespace, role_name):
        return
    wanted = access.role_rules(str(reference.get("kind", "")), namespace, role_name)
    if wanted is None:
        raise errors.not_found(f"{role_resource}.{RBAC_GROUP}", role_name)
    _require(user, access.rules_for(user, namespace), wanted, group_resource, name)


def _require(user: User, held: list[Rule], wanted: list[Rule], group_resource: str, name: str) -> None:
    lacking = missing(held, wanted)
    if not lacking:
        return
    groups = " ".join(f'"{group}"' for group in user.groups)
    listed = "\n".join(sorted({str(rule) for rule in lacking}))
    raise errors.forbidden(
        group_resource,
        name,
        f'user "{user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n{listed}',
    )
