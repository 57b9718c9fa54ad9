"""ValidatingAdmissionPolicy: who is refused, with which words, and what parameters do."""

from __future__ import annotations

import pytest

from kube.machinery.errors import StatusError
from solo.auth.rbac import Authorizer
from solo.auth.user import MASTERS, User
from solo.registry.builtins import builtin_kinds
from solo.registry.catalog import Catalog
from solo.registry.context import DeleteOptions, RequestContext
from solo.registry.policies import PolicyAdmission
from solo.registry.registry import Registry
from solo.store import Store

ADMIN = User("admin", (MASTERS,))
GROUP = "admissionregistration.k8s.io"
RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}


class World:
    def __init__(self, store):
        catalog = Catalog(store, builtin_kinds(lambda: ("node", {})))
        self.catalog = catalog
        self.registry = Registry(store, catalog)
        self.registry.add_admission(PolicyAdmission(store, catalog, self.registry.views, Authorizer(store)))

    async def create(self, plural, obj, namespace="", group=""):
        kind = self.catalog.lookup(group, "v1", plural)
        context = RequestContext(ADMIN)
        await self.registry.create(kind, namespace, "", obj, context)
        return context.warnings

    async def policy(self, validations, *, actions=("Deny",), binding=None, **spec):
        rules = {"resourceRules": [RULE], **spec.pop("match", {})}
        body = {"matchConstraints": rules, "validations": validations, **spec}
        await self.create("validatingadmissionpolicies", {"metadata": {"name": "p"}, "spec": body}, group=GROUP)
        bound = {"policyName": "p", "validationActions": list(actions), **(binding or {})}
        await self.create("validatingadmissionpolicybindings", {"metadata": {"name": "b"}, "spec": bound}, group=GROUP)

    async def configmap(self, name="a", namespace="ns", **rest):
        metadata = {"name": name, **rest.pop("metadata", {})}
        return await self.create("configmaps", {"metadata": metadata, **rest}, namespace)


@pytest.fixture
async def world(tmp_path):
    store = Store.open(tmp_path / "state.db")
    world = World(store)
    await world.create("namespaces", {"metadata": {"name": "ns", "labels": {"team": "a"}}})
    yield world
    await store.close()


async def refused(action) -> StatusError:
    with pytest.raises(StatusError) as problem:
        await action
    return problem.value


async def test_denial_in_kubernetes_words(world):
    await world.policy([{"expression": "has(object.data)", "message": "data is needed"}])
    problem = await refused(world.configmap())
    denial = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: data is needed"
    assert problem.message == f'configmaps "a" is forbidden: {denial}'
    assert problem.details["causes"] == [{"message": denial}]
    assert (problem.code, problem.reason) == (422, "Invalid")
    await world.configmap(data={"k": "v"})


async def test_reason_and_computed_message(world):
    rule = {
        "expression": "false",
        "reason": "Forbidden",
        "message": "plain",
        "messageExpression": "'not ' + object.metadata.name + ' by ' + request.userInfo.username",
    }
    await world.policy([rule])
    problem = await refused(world.configmap())
    assert (problem.code, problem.reason) == (403, "Forbidden")
    assert problem.message.endswith("denied request: not a by admin")


async def test_a_failing_expression_follows_the_failure_policy(world):
    await world.policy([{"expression": "object.data.k == 'v'"}])
    problem = await refused(world.configmap())
    assert "resulted in error: no such key: data" in problem.message


async def test_failure_policy_ignore(world):
    await world.policy([{"expression": "object.data.k == 'v'"}], failurePolicy="Ignore")
    await world.configmap()


async def test_warn_does_not_refuse(world):
    await world.policy([{"expression": "false", "message": "hm"}], actions=["Warn"])
    warnings = await world.configmap()
    assert warnings == ["Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': hm"]


async def test_conditions_variables_and_namespace(world):
    await world.policy(
        [{"expression": "variables.size < 2", "message": "too big"}],
        variables=[
            {"name": "keys", "expression": "has(object.data) ? object.data : {}"},
            {"name": "size", "expression": "size(variables.keys)"},
        ],
        matchConditions=[{"name": "team", "expression": "namespaceObject.metadata.labels.team == 'a'"}],
    )
    assert "too big" in (await refused(world.configmap(data={"a": "", "b": ""}))).message
    await world.configmap("ok", data={"a": ""})
    await world.create("namespaces", {"metadata": {"name": "other", "labels": {"team": "b"}}})
    await world.configmap(namespace="other", data={"a": "", "b": ""})


@pytest.mark.parametrize(
    ("match", "allowed"),
    [
        ({"namespaceSelector": {"matchLabels": {"team": "b"}}}, True),
        ({"namespaceSelector": {"matchLabels": {"team": "a"}}}, False),
        ({"objectSelector": {"matchLabels": {"x": "y"}}}, True),
        ({"excludeResourceRules": [RULE]}, True),
        ({"resourceRules": [{**RULE, "operations": ["DELETE"]}]}, True),
        ({"resourceRules": [{**RULE, "resources": ["*"], "apiGroups": ["*"]}]}, False),
        ({"resourceRules": [{**RULE, "resources": ["configmaps/status"]}]}, True),
        ({"resourceRules": [{**RULE, "scope": "Cluster"}]}, True),
    ],
)
async def test_what_it_is_about(world, match, allowed):
    await world.policy([{"expression": "false"}], match=match)
    if allowed:
        await world.configmap()
    else:
        assert (await refused(world.configmap())).message.endswith("denied request: failed expression: false")


async def test_delete_sees_the_old_object(world):
    match = {"resourceRules": [{**RULE, "operations": ["DELETE"]}]}
    await world.policy([{"expression": "oldObject.metadata.name != 'keep'", "message": "kept"}], match=match)
    await world.configmap("keep")
    kind = world.catalog.lookup("", "v1", "configmaps")
    deletion = world.registry.delete(kind, "ns", "keep", DeleteOptions(), RequestContext(ADMIN))
    assert (await refused(deletion)).message.endswith("kept")


async def test_parameters(world):
    await world.create("configmaps", {"metadata": {"name": "limits"}, "data": {"max": "1"}}, "ns")
    await world.policy(
        [{"expression": "size(object.data) <= int(params.data.max)", "messageExpression": "'max ' + params.data.max"}],
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        binding={"paramRef": {"name": "limits", "parameterNotFoundAction": "Deny"}},
    )
    assert (await refused(world.configmap(data={"a": "", "b": ""}))).message.endswith("denied request: max 1")
    await world.configmap(data={"a": ""})
    await world.create("namespaces", {"metadata": {"name": "bare"}})
    problem = await refused(world.configmap(namespace="bare", data={"a": ""}))
    assert "no params found for policy binding with `Deny` parameterNotFoundAction" in problem.message


async def test_absent_parameters_may_be_allowed(world):
    await world.policy(
        [{"expression": "false"}],
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        binding={"paramRef": {"name": "limits", "parameterNotFoundAction": "Allow"}},
    )
    await world.configmap()


async def test_unserved_parameter_kind(world):
    await world.policy(
        [{"expression": "false"}],
        paramKind={"apiVersion": "example.com/v1", "kind": "Limits"},
        binding={"paramRef": {"name": "limits", "parameterNotFoundAction": "Allow"}},
    )
    problem = await refused(world.configmap())
    assert "failed to find resource referenced by paramKind: 'example.com/v1, Kind=Limits'" in problem.message


async def test_a_policy_that_does_not_compile_is_refused(world):
    problem = await refused(world.policy([{"expression": "object.("}]))
    assert problem.code == 422
    assert "spec.validations[0].expression" in problem.message


async def grant(world, name, subject, verb, resource):
    rbac = "rbac.authorization.k8s.io"
    rule = {"apiGroups": [""], "resources": [resource], "verbs": [verb]}
    await world.create("clusterroles", {"metadata": {"name": name}, "rules": [rule]}, group=rbac)
    reference = {"apiGroup": rbac, "kind": "ClusterRole", "name": name}
    binding = {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}
    await world.create("rolebindings", binding, "ns", group=rbac)


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("authorizer.group('').resource('secrets').namespace('ns').check('get').allowed()", True),
        ("authorizer.group('').resource('secrets').namespace('other').check('get').allowed()", False),
        ("authorizer.group('').resource('secrets').subresource('x').namespace('ns').check('get').allowed()", False),
        ("authorizer.requestResource.check('get').allowed()", False),
        ("authorizer.requestResource.check('update').allowed()", True),
        ("authorizer.path('/healthz').check('get').allowed()", False),
        (
            "authorizer.serviceAccount('ns', 'sa').group('').resource('pods').namespace('ns').check('list').allowed()",
            True,
        ),
        (
            "authorizer.serviceAccount('ns', 'sa').group('').resource('nodes').namespace('ns').check('get').allowed()",
            False,
        ),
        ("authorizer.group('').resource('secrets').check('get').reason() == ''", True),
        ("!authorizer.group('').resource('secrets').check('get').errored()", True),
    ],
)
async def test_rights_of_the_user(world, expression, allowed):
    await grant(world, "secrets", {"kind": "User", "name": "jane"}, "get", "secrets")
    await grant(world, "maps", {"kind": "User", "name": "jane"}, "update", "configmaps")
    await grant(world, "pods", {"kind": "ServiceAccount", "name": "sa", "namespace": "ns"}, "list", "pods")
    await world.policy([{"expression": expression}])
    kind = world.catalog.lookup("", "v1", "configmaps")
    made = world.registry.create(kind, "ns", "", {"metadata": {"name": "a"}}, RequestContext(User("jane")))
    if allowed:
        await made
    else:
        assert (await refused(made)).code == 422


async def test_two_checks_of_rights_in_one_expression(world):
    check = "authorizer.group('').resource('secrets').check('get').allowed()"
    await world.policy([{"expression": f"{check} || {check} || {check} || true"}])
    kind = world.catalog.lookup("", "v1", "configmaps")
    context = RequestContext(User("jane"))
    problem = await refused(world.registry.create(kind, "ns", "", {"metadata": {"name": "a"}}, context))
    assert "operation cancelled: actual cost limit exceeded" in problem.message


@pytest.mark.parametrize(("failure_policy", "code"), [("Fail", 422), ("Ignore", 0)])
async def test_a_stored_selector_that_cannot_be_read_fails_as_the_policy_may(world, monkeypatch, failure_policy, code):
    """There may be some from before selectors were checked."""
    monkeypatch.setattr("solo.registry.rules.admissionmatch.validate_selectors", lambda match, field: [])
    match = {"objectSelector": {"matchExpressions": [{"key": "a", "operator": "X"}]}}
    await world.policy([{"expression": "true"}], match=match, failurePolicy=failure_policy)
    await world.create("secrets", {"metadata": {"name": "a"}}, "ns")
    if not code:
        await world.configmap()
        return
    problem = await refused(world.configmap())
    assert (problem.code, "invalid label selector" in problem.message) == (code, True)
