"""Role-based access control over the store's own Roles and bindings.

Bindings are indexed by subject, so that a decision looks only at what concerns the caller; the index and the remembered
decisions are dropped whenever one of the four kinds changes. Rules and messages follow Kubernetes'
`plugin/pkg/auth/authorizer/rbac` and `apiserver/pkg/endpoints/handlers/responsewriters/errors.go`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from kube.machinery import errors
from kube.machinery import resources as kinds
from kube.machinery.errors import StatusError
from kube.machinery.selectors import label_selector_from_dict
from solo.auth.rules import Rule, rules_from
from solo.auth.user import MASTERS, User, service_account_name
from solo.store import Key, Store

CACHE_LIMIT = 8192
REMEMBERED_LENGTH = 1024
"""Characters of a question whose answer is remembered; anybody can ask about paths of 64 KiB, and ever new ones."""

CLUSTERROLES = kinds.CLUSTERROLES.group_resource
CLUSTERROLEBINDINGS = kinds.CLUSTERROLEBINDINGS.group_resource
ROLES = kinds.ROLES.group_resource
ROLEBINDINGS = kinds.ROLEBINDINGS.group_resource

Subject = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Grant:
    """A binding as seen by one of its subjects."""

    binding: str
    role: str
    rules: tuple[Rule, ...]
    subject: str


class Deed(NamedTuple):
    """What a request would do; `path` is its URL path where it is for no resource (`resource` is empty)."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


class Authorizer:
    """Answers who may do what."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._index: dict[str, dict[Subject, list[Grant]]] | None = None
        self._decisions: dict[tuple[str, tuple[str, ...], Deed], tuple[bool, str]] = {}
        for resource in (CLUSTERROLES, CLUSTERROLEBINDINGS, ROLES, ROLEBINDINGS):
            store.add_listener(resource, lambda _: self._invalidate())

    def _invalidate(self) -> None:
        self._index = None
        self._decisions.clear()

    def authorize(self, user: User, deed: Deed) -> tuple[bool, str]:
        """Whether `user` may do it, and why (empty when refused)."""
        if MASTERS in user.groups:
            return True, ""
        question = (user.name, user.groups, deed)
        known = self._decisions.get(question)
        if known is None:
            known = self._decide(user, deed)
            if len(self._decisions) >= CACHE_LIMIT:
                self._decisions.clear()
            if sum(map(len, deed)) <= REMEMBERED_LENGTH:
                self._decisions[question] = known
        return known

    def require(self, user: User, deed: Deed) -> None:
        """Raises 403 with Kubernetes' words if `user` may not."""
        allowed, reason = self.authorize(user, deed)
        if allowed:
            return
        text = denial(user, deed, reason)
        if not deed.resource:
            raise StatusError(403, "Forbidden", f"forbidden: {text}", {})
        raise errors.forbidden(f"{deed.resource}.{deed.group}" if deed.group else deed.resource, deed.name, text)

    def _decide(self, user: User, deed: Deed) -> tuple[bool, str]:
        verb, group, resource, subresource, namespace, name, path = deed
        for grant in self._grants(user, namespace):
            for rule in grant.rules:
                if resource:
                    allowed = rule.allows_resource(verb, group, resource, subresource, name)
                else:
                    allowed = rule.allows_path(verb, path)
                if allowed:
                    return True, f"RBAC: allowed by {grant.binding} of {grant.role} to {grant.subject}"
        return False, ""

    def rules_for(self, user: User, namespace: str) -> list[Rule]:
        """All rules that hold for `user` in `namespace` ("": cluster-wide ones only)."""
        if MASTERS in user.groups:
            every = frozenset("*")
            return [Rule(every, every, every), Rule(every, urls=every)]
        return [rule for grant in self._grants(user, namespace) for rule in grant.rules]

    def role_rules(self, kind: str, namespace: str, name: str) -> list[Rule] | None:
        """The rules of a role that a binding refers to, None when there is no such role."""
        resource, place = (CLUSTERROLES, "") if kind == "ClusterRole" else (ROLES, namespace)
        stored = self._store.get(Key(resource, place, name))
        if stored is None:
            return None
        return self._aggregated(stored.obj) if kind == "ClusterRole" else rules_from(stored.obj)

    def _aggregated(self, role: Mapping[str, Any]) -> list[Rule]:
        """A ClusterRole's rules; with an aggregationRule, those of the roles that it selects (which may aggregate too).

        The aggregation controller writes the same list into `rules`; this needs no controller to have run. Each role
        is looked at once, however many select it.
        """
        rules: list[Rule] = []
        seen = {role["metadata"]["name"]}
        chosen = [role]
        for each in chosen:
            selectors = (each.get("aggregationRule") or {}).get("clusterRoleSelectors")
            if not selectors:
                rules += rules_from(each)
                continue
            try:
                compiled = [label_selector_from_dict(selector) for selector in selectors]
            except ValueError:
                # Stored before selectors were checked: it holds what it held then.
                rules += rules_from(each)
                continue
            for stored in self._store.list(CLUSTERROLES)[0]:
                labels = stored.obj["metadata"].get("labels")
                if stored.key.name not in seen and any(selector.matches(labels) for selector in compiled):
                    seen.add(stored.key.name)
                    chosen.append(stored.obj)
        return rules

    def _grants(self, user: User, namespace: str) -> Iterator[Grant]:
        index = self._index if self._index is not None else self._build()
        subjects: list[Subject] = [("User", user.name), *(("Group", group) for group in user.groups)]
        for place in ("", namespace) if namespace else ("",):
            by_subject = index.get(place)
            if by_subject:
                for subject in subjects:
                    yield from by_subject.get(subject, ())

    def _build(self) -> dict[str, dict[Subject, list[Grant]]]:
        index: dict[str, dict[Subject, list[Grant]]] = {}
        known: dict[tuple[str, str, str], tuple[Rule, ...]] = {}
        for resource, kind in ((CLUSTERROLEBINDINGS, "ClusterRoleBinding"), (ROLEBINDINGS, "RoleBinding")):
            for stored in self._store.list(resource)[0]:
                namespace = stored.key.namespace
                reference = stored.obj.get("roleRef") or {}
                role_kind = reference.get("kind", "")
                role = (role_kind, "" if role_kind == "ClusterRole" else namespace, reference.get("name", ""))
                if role not in known:
                    known[role] = tuple(self.role_rules(*role) or ())
                place = f"{namespace}/{stored.key.name}" if namespace else stored.key.name
                grants = index.setdefault(namespace, {})
                for subject in stored.obj.get("subjects") or ():
                    key, label = _subject(subject, namespace)
                    grant = Grant(f'{kind} "{place}"', f'{role[0]} "{role[2]}"', known[role], label)
                    grants.setdefault(key, []).append(grant)
        self._index = index
        return index


def _subject(subject: Mapping[str, Any], namespace: str) -> tuple[Subject, str]:
    kind = subject.get("kind", "")
    name = subject.get("name", "")
    if kind == "ServiceAccount":
        place = subject.get("namespace") or namespace
        return ("User", service_account_name(place, name)), f'ServiceAccount "{name}/{place}"'
    return (kind, name), f'{kind} "{name}"'


def denial(user: User, deed: Deed, reason: str) -> str:
    """The text of a refusal, the part after `is forbidden: `."""
    verb, group, resource, subresource, namespace, _, path = deed
    if resource:
        full = f"{resource}/{subresource}" if subresource else resource
        where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
        text = f'User "{user.name}" cannot {verb} resource "{full}" in API group "{group}" {where}'
    else:
        text = f'User "{user.name}" cannot {verb} path "{path}"'
    return f"{text}: {reason}" if reason else text
