"""Webhooks: which are called, in which order, and what becomes of their answers, their failures and their silence."""

from __future__ import annotations

import base64
import json

import pytest

from solo.auth.rbac import Authorizer
from solo.auth.user import MASTERS, User
from solo.registry.builtins import builtin_kinds
from solo.registry.catalog import Catalog
from solo.registry.context import DeleteOptions, RequestContext
from solo.registry.registry import Registry
from solo.registry.webhooks import CallError, MutatingWebhooks, ValidatingWebhooks
from solo.store import Store
from unit.solo.conftest import refused

ADMIN = User("admin", (MASTERS,))
GROUP = "admissionregistration.k8s.io"
RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}


class World:
    """A registry whose webhooks are answered by `answers`, functions of the request by URL."""

    def __init__(self, store):
        self.catalog = Catalog(store, builtin_kinds(lambda: ("node", {})))
        self.registry = Registry(store, self.catalog)
        self.registry.add_mutation(MutatingWebhooks(store, self.catalog, self.call, Authorizer(store)))
        self.registry.add_admission(ValidatingWebhooks(store, self.catalog, self.call, Authorizer(store)))
        self.answers = {}
        self.calls = []

    async def call(self, config, review, seconds):
        url, _, query = config["url"].partition("?")
        assert query == f"timeout={seconds:g}s"
        self.calls.append((url, review["request"], seconds))
        given = self.answers[url](review["request"])
        response = {"uid": review["request"]["uid"], "allowed": True, **given}
        return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}

    async def create(self, plural, obj, namespace="", group="", **context):
        kind = self.catalog.lookup(group, "v1", plural)
        result = await self.registry.create(kind, namespace, "", obj, RequestContext(ADMIN, **context))
        return result if isinstance(result, dict) else result.obj

    async def hook(self, kind, name, answer, /, **spec):
        url = f"https://hooks.test/{name}"
        self.answers[url] = answer
        webhook = {
            "name": f"{name}.example.com",
            "clientConfig": {"url": url},
            "rules": [RULE],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            **spec,
        }
        body = {"metadata": {"name": name}, "webhooks": [webhook]}
        await self.create(f"{kind}webhookconfigurations", body, group=GROUP)

    async def configmap(self, data=None, labels=None, **context):
        obj = {"metadata": {"name": "a", "labels": labels or {}}, "data": data or {}}
        return await self.create("configmaps", obj, "ns", **context)

    def called(self):
        return [url.rpartition("/")[2] for url, _, _ in self.calls]


@pytest.fixture
async def world(tmp_path):
    store = Store.open(tmp_path / "state.db")
    world = World(store)
    await world.create("namespaces", {"metadata": {"name": "ns", "labels": {"team": "a"}}})
    yield world
    await store.close()


def patch(*operations):
    return lambda _: {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(operations).encode()).decode()}


def put(key, value):
    return patch({"op": "add", "path": f"/data/{key}", "value": value})


def allow(_):
    return {}


async def test_mutations_are_stored_and_validated(world):
    await world.hook("mutating", "one", put("x", "1"))
    made = await world.configmap({"a": "b"})
    assert made["data"] == {"a": "b", "x": "1"}
    await world.hook("mutating", "two", put("y", 5))
    problem = await refused(world.configmap({"a": "b"}))
    assert "cannot unmarshal number" in problem.message


async def test_a_request_is_described(world):
    await world.hook("validating", "v", allow, timeoutSeconds=3)
    await world.configmap({"a": "b"})
    _, request, seconds = world.calls[0]
    assert seconds == 3.0
    assert (request["operation"], request["namespace"], request["name"]) == ("CREATE", "ns", "a")
    assert request["object"]["data"] == {"a": "b"}
    assert request["oldObject"] is None
    assert request["userInfo"]["username"] == "admin"
    assert not {"subResource", "requestSubResource"} & request.keys()
    kind = world.catalog.lookup("", "v1", "configmaps")
    await world.registry.delete(kind, "ns", "a", DeleteOptions(), RequestContext(ADMIN))
    assert (world.calls[1][1]["object"], world.calls[1][1]["oldObject"]["data"]) == (None, {"a": "b"})


async def test_a_deletion_is_described(world):
    pods = {**RULE, "operations": ["DELETE"], "resources": ["pods", "namespaces"]}
    await world.hook("validating", "v", allow, rules=[pods])
    spec = {"containers": [{"name": "c", "image": "host"}], "terminationGracePeriodSeconds": 7}
    pod = await world.create("pods", {"metadata": {"name": "p"}, "spec": spec}, "ns")
    kind, uid = world.catalog.lookup("", "v1", "pods"), pod["metadata"]["uid"]
    await world.registry.delete(
        kind, "ns", "p", DeleteOptions(propagation="Background", uid=uid), RequestContext(ADMIN)
    )
    told = {"gracePeriodSeconds": 7, "propagationPolicy": "Background", "preconditions": {"uid": uid}}
    assert world.calls[0][1]["options"] == {"apiVersion": "meta.k8s.io/v1", "kind": "DeleteOptions", **told}
    kind = world.catalog.lookup("", "v1", "namespaces")
    await world.registry.delete(kind, "", "ns", DeleteOptions(), RequestContext(ADMIN, dry_run=True))
    request = world.calls[1][1]
    assert (request["name"], request["namespace"]) == ("ns", "ns")
    assert request["options"] == {"apiVersion": "meta.k8s.io/v1", "kind": "DeleteOptions", "dryRun": ["All"]}


async def test_a_mutating_webhook_may_refuse_a_deletion_but_change_nothing(world):
    said = {"allowed": False, "status": {"message": "not this one"}}
    await world.hook("mutating", "m", lambda _: said, rules=[{**RULE, "operations": ["DELETE"]}])
    await world.configmap({"a": "b"})
    kind = world.catalog.lookup("", "v1", "configmaps")

    def delete(**context):
        return world.registry.delete(kind, "ns", "a", DeleteOptions(), RequestContext(ADMIN, **context))

    assert (await refused(delete())).message == 'admission webhook "m.example.com" denied the request: not this one'
    assert (world.calls[0][1]["object"], world.calls[0][1]["oldObject"]["data"]) == (None, {"a": "b"})
    said = put("x", "1")({})
    problem = await refused(delete())
    assert problem.code == 500 and "attempted to modify the object" in problem.message
    said = {}
    assert (await delete(dry_run=True)).gone and (await delete()).gone
    assert [request["dryRun"] for _, request, _ in world.calls] == [False, False, True, False]


async def test_conditions_see_what_webhooks_are_told(world):
    absent = ["subResource", "requestSubResource", "userInfo.uid", "userInfo.extra"]
    there = "has(request.name) && request.namespace == 'ns' && request.options.fieldManager == 'foo'"
    expression = " && ".join([*(f"!has(request.{name})" for name in absent), there])
    await world.hook("validating", "v", allow, matchConditions=[{"name": "c", "expression": expression}])
    await world.configmap(options={"fieldManager": "foo"})
    assert world.called() == ["v"]
    assert world.calls[0][1]["options"]["fieldManager"] == "foo"


async def test_a_new_object_is_shown_as_its_client_gave_it_until_it_has_a_name(world):
    await world.hook("mutating", "m", allow)
    await world.hook("validating", "v", allow)
    given = {"generateName": "a-", "uid": "u", "resourceVersion": ""}
    made = await world.create("configmaps", {"metadata": given}, "ns")
    (_, changing, _), (_, judging, _) = world.calls
    assert "name" not in changing and "name" not in judging
    assert set(changing["object"]["metadata"]) <= {"generateName", "namespace", "managedFields"}
    assert {name: judging["object"]["metadata"][name] for name in ("name", "uid", "creationTimestamp")} == {
        name: made["metadata"][name] for name in ("name", "uid", "creationTimestamp")
    }


async def test_a_webhook_may_give_the_name(world):
    await world.hook("mutating", "m", patch({"op": "add", "path": "/metadata/name", "value": "mine"}))
    made = await world.create("configmaps", {"metadata": {"generateName": "a-"}}, "ns")
    assert made["metadata"]["name"] == "mine"
    assert (
        await refused(world.create("configmaps", {"metadata": {"generateName": "a-"}}, "ns"))
    ).reason == "AlreadyExists"


@pytest.mark.parametrize(
    ("given", "code", "text"),
    [
        ({}, 400, 'admission webhook "v.example.com" denied the request without explanation'),
        ({"status": {"message": "no", "code": 422}}, 422, 'admission webhook "v.example.com" denied the request: no'),
        ({"status": {"code": 200, "reason": "Odd"}}, 400, 'admission webhook "v.example.com" denied the request: Odd'),
    ],
)
async def test_denials(world, given, code, text):
    await world.hook("validating", "v", lambda _: {"allowed": False, **given})
    problem = await refused(world.configmap())
    assert (problem.code, problem.message) == (code, text)


def fail(_):
    raise CallError("failed to call webhook: no route")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (fail, "failed to call webhook: no route"),
        (lambda _: {"uid": "other"}, "received invalid webhook response: expected response.uid"),
        (lambda _: {"allowed": "true"}, "cannot unmarshal string into Go struct field"),
        (lambda _: {"patch": "e30="}, "response: webhook returned response.patch but not response.patchType"),
        (lambda _: {"patchType": "JSONPatch"}, "response: webhook returned response.patchType but not response.patch"),
        (lambda _: {"patchType": "", "patch": "e30="}, 'webhook returned invalid response.patchType of ""'),
        (lambda _: {"patchType": "Other", "patch": "W3t9XQ=="}, 'unsupported patch type "Other"'),
        (lambda _: {"patchType": "JSONPatch", "patch": "%%"}, "not in base64"),
        (lambda _: {"patchType": "JSONPatch", "patch": "e30="}, "received undecodable patch in webhook response: "),
        (lambda _: {"patchType": "JSONPatch", "patch": "aGk="}, "received undecodable patch in webhook response: "),
    ],
)
async def test_failures_refuse_unless_they_are_to_be_ignored(world, answer, text):
    await world.hook("mutating", "m", answer)
    problem = await refused(world.configmap())
    assert problem.code == 500
    assert 'failed calling webhook "m.example.com"' in problem.message
    assert text in problem.message
    kind = world.catalog.lookup(GROUP, "v1", "mutatingwebhookconfigurations")
    await world.registry.delete(kind, "", "m", DeleteOptions(), RequestContext(ADMIN))
    await world.hook("mutating", "m", answer, failurePolicy="Ignore")
    assert (await world.configmap())["data"] == {}


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (patch({"op": "remove", "path": "/nothing"}), "doc is missing path: /nothing: missing value"),
        (patch({"op": "replace", "path": "/metadata", "value": 3}), "json: cannot unmarshal number into Go struct"),
        (put("y", 5), "json: cannot unmarshal number into Go struct field ConfigMap.data.y of type string"),
        (patch({"op": "replace", "path": "", "value": 3}), "the patch replaces the object by something"),
    ],
)
async def test_a_patch_that_does_not_fit_is_never_ignored(world, answer, text, policy):
    await world.hook("mutating", "m", answer, failurePolicy=policy)
    problem = await refused(world.configmap())
    assert (problem.code, problem.reason) == (500, "InternalError")
    assert problem.message.startswith(f"Internal error occurred: {text}")


@pytest.mark.parametrize(("name", "value"), [("patch", "e30="), ("patchType", "JSONPatch"), ("patchType", "")])
async def test_a_validating_webhook_gives_no_patch(world, name, value):
    await world.hook("validating", "v", lambda _: {name: value})
    text = f"received invalid webhook response: validating webhook may not return response.{name}"
    problem = await refused(world.configmap())
    assert problem.message == f'Internal error occurred: failed calling webhook "v.example.com": {text}'


async def test_selectors_and_conditions(world):
    await world.hook("validating", "ns", allow, namespaceSelector={"matchLabels": {"team": "b"}})
    await world.hook("validating", "obj", allow, objectSelector={"matchLabels": {"x": "y"}})
    condition = {"name": "c", "expression": "object.metadata.name == 'b'"}
    await world.hook("validating", "cond", allow, matchConditions=[condition])
    await world.configmap()
    assert world.called() == []
    await world.create("configmaps", {"metadata": {"name": "b", "labels": {"x": "y"}}}, "ns")
    assert sorted(world.called()) == ["cond", "obj"]


async def test_a_condition_that_cannot_be_evaluated_refuses(world):
    broken = [{"name": "c", "expression": "object.data.missing == 'b'"}]
    await world.hook("validating", "v", allow, matchConditions=broken)
    assert (await refused(world.configmap({"a": "b"}))).code == 403
    kind = world.catalog.lookup(GROUP, "v1", "validatingwebhookconfigurations")
    await world.registry.delete(kind, "", "v", DeleteOptions(), RequestContext(ADMIN))
    await world.hook("validating", "v", allow, matchConditions=broken, failurePolicy="Ignore")
    await world.configmap({"a": "b"})
    assert world.called() == []


async def test_dry_run_needs_webhooks_without_side_effects(world):
    await world.hook("mutating", "m", put("x", "1"), sideEffects="NoneOnDryRun")
    assert (await world.configmap(dry_run=True))["data"] == {"x": "1"}
    assert world.calls[0][1]["dryRun"] is True


async def test_reinvocation_sees_later_changes_once(world):
    await world.hook("mutating", "a", put("first", "1"), reinvocationPolicy="IfNeeded")
    await world.hook("mutating", "b", put("second", "2"))
    await world.configmap({"k": "v"})
    assert world.called() == ["a", "b", "a"]


async def test_warnings_and_configurations_of_webhooks_themselves(world):
    everything = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}
    await world.hook("validating", "v", lambda _: {"warnings": ["old"]}, rules=[everything])
    context = RequestContext(ADMIN)
    await world.registry.create(
        world.catalog.lookup("", "v1", "configmaps"), "ns", "", {"metadata": {"name": "c"}}, context
    )
    assert context.warnings == ["old"]
    await world.hook("validating", "w", lambda _: {"allowed": False})
    assert len(world.calls) == 1


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"sideEffects": "Some"}, "sideEffects"),
        ({"timeoutSeconds": 31}, "between 1 and 30"),
        ({"admissionReviewVersions": ["v2"]}, "must include at least one of v1"),
        ({"clientConfig": {"url": "http://plain"}}, "https"),
        ({"clientConfig": {}}, "exactly one of url or service"),
        ({"clientConfig": {"url": "https://user@host/"}}, "user information is not permitted"),
        ({"clientConfig": {"url": "https://host/?a=b"}}, "query parameters are not permitted"),
        ({"clientConfig": {"url": "https://[::1/"}}, "missing ']' in host; desired format: https://host[/path]"),
        ({"clientConfig": {"service": {"namespace": "n", "name": "s", "path": "@elsewhere/"}}}, "start with a '/'"),
        ({"clientConfig": {"service": {"namespace": "n", "name": "s", "port": 70000}}}, "between 1 and 65535"),
        ({"matchConditions": [{"name": "c", "expression": "object."}]}, "compilation failed"),
        ({"name": "short"}, "three segments"),
        ({"failurePolicy": "Maybe"}, "failurePolicy"),
    ],
)
async def test_bad_configurations(world, spec, text):
    problem = await refused(world.hook("mutating", "m", allow, **spec))
    assert problem.code == 422
    assert text in problem.message


async def test_a_stored_selector_that_cannot_be_read_fails_as_the_webhook_may(world, monkeypatch):
    """There may be some from before selectors were checked."""
    monkeypatch.setattr("solo.registry.rules.webhookconfigs.validate_selectors", lambda match, field: [])
    unreadable = {"matchExpressions": [{"key": "a", "operator": "X"}]}
    await world.hook("mutating", "m", allow, failurePolicy="Ignore", objectSelector=unreadable)
    await world.hook("validating", "v", allow, failurePolicy="Ignore", namespaceSelector=unreadable)
    await world.configmap()
    assert world.called() == []
    await world.hook("validating", "w", allow, objectSelector=unreadable)
    problem = await refused(world.create("configmaps", {"metadata": {"name": "b"}}, "ns"))
    assert (problem.code, "invalid label selector" in problem.message) == (403, True)
    await world.create("secrets", {"metadata": {"name": "b"}}, "ns")
