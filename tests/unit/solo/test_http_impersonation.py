"""Who may act as whom: the `impersonate` verb, and the modes that bound what is done as somebody else."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from kube.machinery.errors import StatusError
from solo.auth.rbac import Authorizer, Deed
from solo.auth.subjects import NODE_NAME
from solo.auth.user import User, service_account_groups
from solo.http.impersonation import impersonated
from solo.store import Key, Store

RBAC = "rbac.authorization.k8s.io"
USERS = "authentication.k8s.io"
BOB = User("bob", ("system:authenticated",))
AGENT = User("system:serviceaccount:ns:agent", service_account_groups("ns"), {NODE_NAME: ("n1",)})
LIST = Deed("list", "", "pods", "", "ns")


@pytest.fixture
async def allow(tmp_path):
    """Give a user rights, each a rule of verb, group, resource and names, everywhere; returns the authorizer."""
    store = Store.open(tmp_path / "state.db")
    access = Authorizer(store)

    async def give(user, *rights):
        rules = [{"verbs": [verb], "apiGroups": [group], "resources": [what]} for verb, group, what, *_ in rights]
        for rule, (*_, names) in zip(rules, ((*each, []) if len(each) == 3 else each for each in rights), strict=True):
            rule |= {"resourceNames": names} if names else {}
        await store.create(Key(f"clusterroles.{RBAC}", "", "r"), {"metadata": {"name": "r"}, "rules": rules})
        bound = {"roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "User", "name": user.name}]}
        await store.create(Key(f"clusterrolebindings.{RBAC}", "", "b"), {"metadata": {"name": "b"}, **bound})
        return access

    yield give
    await store.close()


def become(user, access, name, deed=LIST, **more):
    headers = CIMultiDict({"Impersonate-User": name})
    for group in more.get("groups", ()):
        headers.add("Impersonate-Group", group)
    for key, value in more.get("extra", ()):
        headers.add(f"Impersonate-Extra-{key}", value)
    if "uid" in more:
        headers["Impersonate-Uid"] = more["uid"]
    return impersonated(user, CIMultiDictProxy(headers), access, deed)


def refused(*arguments, **more):
    with pytest.raises(StatusError) as caught:
        become(*arguments, **more)
    assert caught.value.code == 403
    return caught.value.message


async def test_without_headers_one_stays_oneself(allow):
    access = await allow(BOB)
    assert impersonated(BOB, CIMultiDictProxy(CIMultiDict()), access, LIST) is BOB
    with pytest.raises(StatusError, match="without a user"):
        impersonated(BOB, CIMultiDictProxy(CIMultiDict({"Impersonate-Group": "dev"})), access, LIST)


async def test_the_unbounded_right(allow):
    access = await allow(
        BOB,
        ("impersonate", "", "users", ["jane", "system:anonymous", "system:node:n1"]),
        ("impersonate", "", "groups", ["dev"]),
        ("impersonate", "", "serviceaccounts"),
        ("impersonate", USERS, "uids"),
        ("impersonate", USERS, "userextras/lang"),
    )
    jane = become(BOB, access, "jane", groups=["dev"], uid="7", extra=[("Lang", "de"), ("lang", "en")])
    assert jane == User("jane", ("dev", "system:authenticated"), {"lang": ("de", "en")}, "7")
    assert become(BOB, access, "system:anonymous").groups == ("system:unauthenticated",)
    assert become(BOB, access, "system:serviceaccount:a:b").groups == service_account_groups("a")
    assert become(BOB, access, "system:node:n1").groups == ("system:authenticated",)
    assert become(BOB, access, "jane", Deed("get", path="/metrics")).name == "jane"
    refused(BOB, access, "joe")
    refused(BOB, access, "jane", groups=["dev", "system:masters"])
    refused(BOB, access, "jane", extra=[("other", "x")])


async def test_a_user_for_one_verb(allow):
    access = await allow(
        BOB,
        ("impersonate:user-info", USERS, "users", ["jane"]),
        ("impersonate:user-info", USERS, "groups"),
        ("impersonate-on:user-info:list", "", "pods"),
    )
    assert become(BOB, access, "jane", groups=["dev"]).groups == ("dev", "system:authenticated")
    text = refused(BOB, access, "jane", Deed("get", "", "pods", "", "ns", "p"))
    assert 'User "bob" cannot impersonate-on:user-info:get resource "pods"' in text
    text = refused(BOB, access, "joe")
    assert text == (
        'users.authentication.k8s.io "joe" is forbidden: User "bob" cannot impersonate:user-info resource "users" in '
        'API group "authentication.k8s.io" at the cluster scope'
    )
    assert "system:masters" in refused(BOB, access, "jane", groups=["system:masters"])
    refused(BOB, access, "system:serviceaccount:a:b")
    refused(BOB, access, "system:node:n1")


async def test_a_service_account_by_its_name_alone(allow):
    rights = (
        ("impersonate:serviceaccount", USERS, "serviceaccounts", ["b"]),
        ("impersonate-on:serviceaccount:list", "", "pods"),
    )
    access = await allow(BOB, *rights)
    assert become(BOB, access, "system:serviceaccount:a:b").groups == service_account_groups("a")
    refused(BOB, access, "system:serviceaccount:a:c")
    refused(BOB, access, "system:serviceaccount:a:b", groups=["dev"])


async def test_a_pod_as_its_own_node(allow):
    rights = ("impersonate:associated-node", USERS, "nodes"), ("impersonate-on:associated-node:list", "", "pods")
    access = await allow(AGENT, *rights)
    assert become(AGENT, access, "system:node:n1") == User("system:node:n1", ("system:nodes", "system:authenticated"))
    refused(AGENT, access, "system:node:n2")
    refused(AGENT, access, "system:node:n1", Deed("watch", "", "pods", "", "ns"))
    refused(User(AGENT.name, AGENT.groups), access, "system:node:n1")


async def test_some_nodes(allow):
    rights = ("impersonate:arbitrary-node", USERS, "nodes", ["n2"]), ("impersonate-on:arbitrary-node:list", "", "pods")
    access = await allow(BOB, *rights)
    assert become(BOB, access, "system:node:n2").groups == ("system:nodes", "system:authenticated")
    refused(BOB, access, "system:node:n1")
