"""RBAC decisions, their cache, and the check against handing out more than one has."""

import pytest

from kube.machinery.errors import StatusError
from solo.auth.escalation import check_escalation
from solo.auth.rbac import Authorizer, Deed, denial
from solo.auth.rules import Rule, missing
from solo.auth.user import User
from solo.store import Key, Store

GROUP = "rbac.authorization.k8s.io"
BOB = User("bob", ("dev", "system:authenticated"))


class World:
    """A store with roles, and the authorizer over it."""

    def __init__(self, store):
        self.store = store
        self.access = Authorizer(store)

    async def role(self, name, rules, namespace="", **more):
        kind = "roles" if namespace else "clusterroles"
        obj = {
            "metadata": {"name": name, "namespace": namespace, "labels": more.pop("labels", {})},
            "rules": rules,
            **more,
        }
        await self.store.create(Key(f"{kind}.{GROUP}", namespace, name), obj)

    async def bind(self, role, subject, namespace="", kind="ClusterRole"):
        name = f"{role}-{subject['name']}"
        resource = "rolebindings" if namespace else "clusterrolebindings"
        obj = {
            "metadata": {"name": name, "namespace": namespace},
            "roleRef": {"kind": kind, "name": role},
            "subjects": [subject],
        }
        await self.store.create(Key(f"{resource}.{GROUP}", namespace, name), obj)

    def may(self, verb, resource, namespace="", name="", group="", user=BOB):
        plural, _, sub = resource.partition("/")
        return self.access.authorize(user, Deed(verb, group, plural, sub, namespace, name))[0]


@pytest.fixture
async def world(tmp_path):
    store = Store.open(tmp_path / "state.db")
    yield World(store)
    await store.close()


def rule(verbs, resources, groups=("",), names=()):
    made = {"verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources)}
    return {**made, "resourceNames": list(names)} if names else made


async def test_nothing_is_allowed_without_a_binding_but_to_masters(world):
    await world.role("reader", [rule(["get"], ["pods"])])
    assert not world.may("get", "pods", "ns")
    assert world.may("delete", "nodes", user=User("root", ("system:masters",)))


async def test_cluster_and_namespace_bindings(world):
    await world.role("reader", [rule(["get", "list"], ["pods"])])
    await world.bind("reader", {"kind": "User", "name": "bob"}, "ns")
    assert world.may("get", "pods", "ns") and not world.may("get", "pods", "other")
    assert not world.may("list", "pods")
    await world.bind("reader", {"kind": "Group", "name": "dev"})
    assert world.may("get", "pods", "other") and world.may("list", "pods")
    assert not world.may("delete", "pods", "ns") and not world.may("get", "pods", "ns", group="apps")


async def test_a_namespaced_role_holds_in_its_namespace(world):
    await world.role("r", [rule(["*"], ["*"], ["*"])], "ns")
    await world.bind("r", {"kind": "User", "name": "bob"}, "ns", kind="Role")
    assert world.may("delete", "pods/log", "ns") and not world.may("get", "pods", "other")


@pytest.mark.parametrize(
    ("resources", "asked", "allowed"),
    [
        (["pods"], "pods/log", False),
        (["pods/log"], "pods/log", True),
        (["pods/log"], "pods", False),
        (["*/log"], "pods/log", True),
        (["*"], "pods/log", True),
        (["pods/*"], "pods/log", False),
    ],
)
async def test_subresources(world, resources, asked, allowed):
    await world.role("r", [rule(["get"], resources)])
    await world.bind("r", {"kind": "User", "name": "bob"})
    assert world.may("get", asked, "ns", "x") is allowed


async def test_resource_names(world):
    await world.role("r", [rule(["get", "list", "create"], ["secrets"], names=["a"])])
    await world.bind("r", {"kind": "User", "name": "bob"})
    assert world.may("get", "secrets", "ns", "a") and not world.may("get", "secrets", "ns", "b")
    assert not world.may("list", "secrets", "ns") and not world.may("create", "secrets", "ns")


async def test_paths(world):
    await world.role("r", [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/metrics/*"]}])
    await world.bind("r", {"kind": "Group", "name": "system:authenticated"})

    def may(verb, path):
        return world.access.authorize(BOB, Deed(verb, path=path))[0]

    assert may("get", "/healthz") and may("get", "/metrics/a/b")
    assert not may("get", "/healthz/x") and not may("post", "/healthz")


async def test_service_accounts_and_reason(world):
    await world.role("r", [rule(["get"], ["pods"])])
    await world.bind("r", {"kind": "ServiceAccount", "name": "app", "namespace": "apps"})
    user = User("system:serviceaccount:apps:app", ("system:serviceaccounts",))
    allowed, reason = world.access.authorize(user, Deed("get", "", "pods", "", "ns", "x"))
    expected = 'RBAC: allowed by ClusterRoleBinding "r-app" of ClusterRole "r" to ServiceAccount "app/apps"'
    assert allowed and reason == expected


async def test_decisions_follow_changes(world):
    await world.role("r", [rule(["get"], ["pods"])])
    await world.bind("r", {"kind": "User", "name": "bob"})
    assert world.may("get", "pods") and not world.may("get", "nodes")
    changed = {"metadata": {"name": "r"}, "rules": [rule(["get"], ["nodes"])]}
    await world.store.update(Key(f"clusterroles.{GROUP}", "", "r"), changed, None)
    assert world.may("get", "nodes") and not world.may("get", "pods")
    await world.store.delete(Key(f"clusterrolebindings.{GROUP}", "", "r-bob"), None)
    assert not world.may("get", "nodes")


async def test_endless_questions_are_answered_and_not_kept(world):
    """Anybody can ask about ever new long paths; what is remembered of them must not fill the memory."""
    for number in range(3):
        assert not world.access.authorize(BOB, Deed("get", path=f"/{number}" + "x" * 60_000))[0]
    assert not world.access._decisions


async def test_aggregation_through_two_levels(world):
    def selecting(label):
        return {"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]}}

    await world.role("admin", [], **selecting("to-admin"))
    await world.role("edit", [], labels={"to-admin": "true"}, **selecting("to-edit"))
    await world.role("more", [rule(["get"], ["vms"])], labels={"to-edit": "true"})
    await world.role("loop", [], labels={"to-admin": "true"}, **selecting("to-admin"))
    await world.bind("admin", {"kind": "User", "name": "bob"})
    assert world.may("get", "vms") and not world.may("list", "vms")


async def test_roles_that_select_each_other_are_looked_at_once(world):
    """Each of these aggregates all the others; to follow every path among them would take for ever."""
    everybody = {"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"all": "true"}}]}}
    for number in range(14):
        await world.role(f"a{number}", [], labels={"all": "true"}, **everybody)
    await world.role("leaf", [rule(["get"], ["pods"])], labels={"all": "true"})
    await world.role("own", [rule(["list"], ["pods"])], labels={"all": "true"})
    rules = world.access.role_rules("ClusterRole", "", "a3")
    assert [verb for each in rules for verb in each.verbs] == ["get", "list"]


def test_denial_texts():
    assert denial(BOB, Deed("get", "", "pods", "log", "ns"), "") == (
        'User "bob" cannot get resource "pods/log" in API group "" in the namespace "ns"'
    )
    assert denial(BOB, Deed("list", "apps", "deployments"), "") == (
        'User "bob" cannot list resource "deployments" in API group "apps" at the cluster scope'
    )
    assert denial(BOB, Deed("get", path="/x"), "") == 'User "bob" cannot get path "/x"'


def rules(*dicts):
    return [Rule.from_dict(each) for each in dicts]


@pytest.mark.parametrize(
    ("held", "wanted", "covered"),
    [
        (rule(["get", "list"], ["pods", "secrets"]), rule(["get"], ["pods"]), True),
        (rule(["get"], ["pods"]), rule(["get", "list"], ["pods"]), False),
        (rule(["*"], ["*"], ["*"]), rule(["get"], ["pods/log"], ["apps"]), True),
        (rule(["get"], ["*"]), rule(["*"], ["pods"]), False),
        (rule(["get"], ["pods"]), rule(["get"], ["*"]), False),
        (rule(["get"], ["pods"], names=["a"]), rule(["get"], ["pods"]), False),
        (rule(["get"], ["pods"], names=["a", "b"]), rule(["get"], ["pods"], names=["a"]), True),
        (rule(["get"], ["pods"]), rule(["get"], ["pods"], names=["a"]), True),
        (rule(["get"], ["*/log"]), rule(["get"], ["pods/log"]), True),
    ],
)
def test_covering(held, wanted, covered):
    assert (not missing(rules(held), rules(wanted))) is covered


def test_covering_paths():
    held = rules({"verbs": ["get"], "nonResourceURLs": ["/metrics/*"]})
    assert not missing(held, rules({"verbs": ["get"], "nonResourceURLs": ["/metrics/a"]}))
    assert missing(held, rules({"verbs": ["get"], "nonResourceURLs": ["/*"]}))


async def test_a_role_with_rights_that_one_lacks_is_refused(world):
    await world.role("rbac", [rule(["create"], ["roles", "rolebindings"], [GROUP]), rule(["get"], ["pods"])])
    await world.bind("rbac", {"kind": "User", "name": "bob"})
    obj = {"metadata": {"name": "r", "namespace": "ns"}, "rules": [rule(["get"], ["pods"])]}
    check_escalation(world.access, BOB, f"roles.{GROUP}", obj, None)
    more = {**obj, "rules": [rule(["get", "delete"], ["pods"])]}
    with pytest.raises(StatusError) as caught:
        check_escalation(world.access, BOB, f"roles.{GROUP}", more, None)
    assert caught.value.code == 403
    assert caught.value.message == (
        'roles.rbac.authorization.k8s.io "r" is forbidden: user "bob" (groups=["dev" "system:authenticated"]) is '
        "attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}'
    )
    check_escalation(world.access, BOB, f"roles.{GROUP}", more, more)
    await world.role("esc", [rule(["escalate"], ["roles"], [GROUP])])
    await world.bind("esc", {"kind": "User", "name": "bob"})
    check_escalation(world.access, BOB, f"roles.{GROUP}", more, None)


async def test_binding_needs_the_roles_rights_or_the_verb_bind(world):
    await world.role("power", [rule(["*"], ["*"], ["*"])])
    obj = {
        "metadata": {"name": "b", "namespace": "ns"},
        "roleRef": {"kind": "ClusterRole", "name": "power"},
        "subjects": [],
    }
    with pytest.raises(StatusError, match="not currently held"):
        check_escalation(world.access, BOB, f"rolebindings.{GROUP}", obj, None)
    unknown = {**obj, "roleRef": {"kind": "Role", "name": "none"}}
    with pytest.raises(StatusError, match="not found"):
        check_escalation(world.access, BOB, f"rolebindings.{GROUP}", unknown, None)
    await world.role("binder", [rule(["bind"], ["clusterroles"], [GROUP], names=["power"])])
    await world.bind("binder", {"kind": "User", "name": "bob"})
    check_escalation(world.access, BOB, f"rolebindings.{GROUP}", obj, None)


async def test_aggregating_needs_everything(world):
    obj = {"metadata": {"name": "r"}, "aggregationRule": {"clusterRoleSelectors": [{}]}}
    with pytest.raises(StatusError, match="cluster-admin"):
        check_escalation(world.access, BOB, f"clusterroles.{GROUP}", obj, None)
    await world.role("all", [rule(["*"], ["*"], ["*"]), {"verbs": ["*"], "nonResourceURLs": ["*"]}])
    await world.bind("all", {"kind": "User", "name": "bob"})
    check_escalation(world.access, BOB, f"clusterroles.{GROUP}", obj, None)


async def test_rights_that_one_lacks_are_listed_in_order(world):
    wanted = [rule(["get"], ["secrets"]), rule(["get"], ["pods"]), rule(["get"], ["pods"]), rule(["list"], ["pods"])]
    obj = {"metadata": {"name": "r", "namespace": "ns"}, "rules": wanted}
    with pytest.raises(StatusError) as caught:
        check_escalation(world.access, BOB, f"roles.{GROUP}", obj, None)
    assert caught.value.message.split("\n")[1:] == [
        '{APIGroups:[""], Resources:["pods"], Verbs:["get", "list"]}',
        '{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}',
    ]


async def test_a_stored_aggregation_that_cannot_be_read_holds_what_it_held(world):
    """There may be some from before selectors were checked; one must not end everybody's rights."""
    unreadable = {"clusterRoleSelectors": [{"matchExpressions": [{"key": "a", "operator": "X"}]}]}
    await world.role("odd", [rule(["get"], ["pods"])], aggregationRule=unreadable)
    await world.bind("odd", {"kind": "User", "name": "bob"})
    assert world.may("get", "pods") and not world.may("get", "secrets")
