"""What kube-apiserver refuses of admission policies and webhook configurations is refused here, in the same words."""

from __future__ import annotations

import pytest

from solo.registry.builtins import builtin_kinds
from solo.registry.objects import copy

KINDS = {kind.resource.plural: kind.strategy for kind in builtin_kinds(lambda: ("node", {}))}
RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
PARAMS = {"apiVersion": "v1", "kind": "ConfigMap"}
CONSTRAINTS = {"resourceRules": [RULE]}
REQUIRED, NOT_BOOL = "Required value", "must evaluate to bool but got"


def problems(plural, obj, old=None):
    """The fields that are refused, with what is said of them."""
    states = [copy(state) for state in (obj, old) if state is not None]
    for state in states:
        state.setdefault("metadata", {"name": "x"})
        KINDS[plural].default(state)
    return [(found.field, found.message) for found in KINDS[plural].validate(states[0], states[1] if old else None)]


def webhooks(**more):
    hook = {
        "name": "a.example.com",
        "clientConfig": {"url": "https://a.test"},
        "rules": [RULE],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **more,
    }
    return {"webhooks": [hook]}


def policy(**more):
    return {"spec": {"matchConstraints": CONSTRAINTS, "validations": [{"expression": "true"}], **more}}


def binding(**more):
    return {"spec": {"policyName": "p", "validationActions": ["Deny"], **more}}


def selector(*expressions):
    return {"matchExpressions": list(expressions)}


def refused(found, field, text):
    assert [place for place, _ in found] == [field], found
    assert text in found[0][1]


SELECTORS = [
    ("matchExpressions[0].operator", "not a valid selector operator", selector({"key": "a", "operator": "X"})),
    ("matchExpressions[0].values", "must be specified when", selector({"key": "a", "operator": "In"})),
    (
        "matchExpressions[0].values",
        "may not be specified when",
        selector({"key": "a", "operator": "Exists", "values": ["b"]}),
    ),
    ("matchExpressions[0].key", "name part must be non-empty", selector({"key": "a/", "operator": "Exists"})),
    (
        "matchExpressions[0].values[0]",
        "a valid label must be",
        selector({"key": "a", "operator": "In", "values": ["-"]}),
    ),
    ("matchLabels", "a valid label must be", {"matchLabels": {"a": "-"}}),
]


@pytest.mark.parametrize(("place", "text", "given"), SELECTORS, ids=range(len(SELECTORS)))
def test_selectors(place, text, given):
    for key in ("objectSelector", "namespaceSelector"):
        found = problems("mutatingwebhookconfigurations", webhooks(**{key: given}))
        assert (found[0][0], text in found[0][1]) == (f"webhooks[0].{key}.{place}", True)
        found = problems("mutatingadmissionpolicybindings", binding(matchResources={key: given}))
        assert (found[0][0], text in found[0][1]) == (f"spec.matchResources.{key}.{place}", True)
        found = problems("validatingadmissionpolicies", policy(matchConstraints={**CONSTRAINTS, key: given}))
        assert (found[0][0], text in found[0][1]) == (f"spec.matchConstraints.{key}.{place}", True)
    reference = {"selector": given, "parameterNotFoundAction": "Allow"}
    found = problems("validatingadmissionpolicybindings", binding(paramRef=reference))
    assert (found[0][0], text in found[0][1]) == (f"spec.paramRef.selector.{place}", True)


@pytest.mark.parametrize(
    ("place", "text", "rule"),
    [
        ("operations", REQUIRED, {"operations": []}),
        ("operations[0]", 'supported values: "*", "CONNECT", "CREATE", "DELETE", "UPDATE"', {"operations": ["FOO"]}),
        ("operations", "if '*' is present, must not specify other operations", {"operations": ["*", "CREATE"]}),
        ("apiGroups", REQUIRED, {"apiGroups": []}),
        ("apiGroups", "if '*' is present, must not specify other API groups", {"apiGroups": ["*", "a"]}),
        ("apiVersions", REQUIRED, {"apiVersions": []}),
        ("apiVersions", "must not specify other API versions", {"apiVersions": ["*", "v1"]}),
        ("apiVersions[0]", REQUIRED, {"apiVersions": [""]}),
        ("resources", REQUIRED, {"resources": []}),
        ("resources[0]", REQUIRED, {"resources": [""]}),
        ("resources", "if '*/*' is present, must not specify other resources", {"resources": ["*/*", "pods"]}),
        ("resources", "must not specify other resources without subresources", {"resources": ["*", "pods"]}),
        ("resources[1]", "if 'pods/*' is present, must not specify pods/log", {"resources": ["pods/*", "pods/log"]}),
        ("resources[1]", "if '*/log' is present, must not specify pods/log", {"resources": ["*/log", "pods/log"]}),
        ("scope", 'supported values: "*", "Cluster", "Namespaced"', {"scope": "X"}),
        ("scope", 'Unsupported value: ""', {"scope": ""}),
    ],
)
def test_rules(place, text, rule):
    rules = [{**RULE, **rule}]
    refused(problems("validatingwebhookconfigurations", webhooks(rules=rules)), f"webhooks[0].rules[0].{place}", text)
    constraints = {"resourceRules": [RULE], "excludeResourceRules": rules}
    found = problems("validatingadmissionpolicies", policy(matchConstraints=constraints))
    refused(found, f"spec.matchConstraints.excludeResourceRules[0].{place}", text)


@pytest.mark.parametrize("resources", [["*", "pods/log"], ["pods", "pods/status"], ["*/*"], ["pods/*", "pods"]])
def test_resources_that_go_together(resources):
    assert problems("validatingwebhookconfigurations", webhooks(rules=[{**RULE, "resources": resources}])) == []


@pytest.mark.parametrize(
    ("place", "text", "more"),
    [
        ("admissionReviewVersions[1]", "duplicate version", {"admissionReviewVersions": ["v1", "v1"]}),
        ("admissionReviewVersions[1]", "a DNS-1035 label must", {"admissionReviewVersions": ["v1", "1"]}),
        ("matchConditions[0].name", REQUIRED, {"matchConditions": [{"expression": "true"}]}),
        ("matchConditions[0].name", "name part must", {"matchConditions": [{"name": "a b", "expression": "true"}]}),
        (
            "matchConditions[0].expression",
            f"{NOT_BOOL} string",
            {"matchConditions": [{"name": "a", "expression": '"a"'}]},
        ),
        ("matchConditions[1].name", "Duplicate", {"matchConditions": [{"name": "a", "expression": "true"}] * 2}),
        (
            "matchConditions",
            "Too many",
            {"matchConditions": [{"name": f"n{n}", "expression": "true"} for n in range(65)]},
        ),
    ],
    ids=range(7),
)
def test_webhooks(place, text, more):
    refused(problems("validatingwebhookconfigurations", webhooks(**more)), f"webhooks[0].{place}", text)


def test_conditions_that_stay_are_not_looked_at():
    old = webhooks(matchConditions=[{"name": "a b", "expression": "1"}])
    assert problems("validatingwebhookconfigurations", {**old, "metadata": {"name": "y"}}, old) == []
    kept = {"matchConditions": [{"name": "a b", "expression": "params.x"}], "paramKind": PARAMS}
    assert problems("validatingadmissionpolicies", policy(**kept, failurePolicy="Ignore"), policy(**kept)) == []
    assert problems("validatingadmissionpolicies", policy(**{**kept, "paramKind": None}), policy(**kept))


def validations(expression="true", **more):
    return {"validations": [{"expression": expression, **more}]}


@pytest.mark.parametrize(
    ("place", "text", "more"),
    [
        ("validations[0].expression", f"{NOT_BOOL} string", validations('"a"')),
        ("validations[0].expression", f"{NOT_BOOL} list(int)", validations("[1]")),
        ("validations[0].expression", f"{NOT_BOOL} dyn", validations("object.paused")),
        ("validations[0].expression", "undeclared reference to 'params", validations("params.a == 1")),
        ("validations[0].expression", "1:8: undefined field 'foo'", validations("request.foo == 1")),
        ("validations[0].expression", "undeclared reference to 'variables", validations("variables.a == 1")),
        ("validations[0].expression", "expression is not specified", validations(" ")),
        ("validations[0].messageExpression", "must evaluate to string but got int", validations(messageExpression="1")),
        ("validations[0].messageExpression", "undeclared", validations(messageExpression="string(authorizer.a)")),
        ("validations[0].messageExpression", "must be non-empty", validations(messageExpression=" ")),
        ("validations[0].message", "must not contain line breaks", validations(message="a\nb")),
        ("validations[0].message", "must be non-empty", validations(message=" ")),
        ("validations[0].reason", '"Forbidden", "Invalid", "RequestEntityTooLarge"', validations(reason="Foo")),
        ("variables[0].name", "not a valid CEL identifier", {"variables": [{"name": "a-b", "expression": "1"}]}),
        ("variables[0].name", "not a valid CEL identifier", {"variables": [{"name": "in", "expression": "1"}]}),
        ("variables[0].expression", "not specified", {"variables": [{"name": "a", "expression": ""}]}),
        (
            "variables[0].expression",
            "1:10: undefined field 'b'",
            {"variables": [{"name": "a", "expression": "variables.b"}, {"name": "b", "expression": "1"}]},
        ),
        (
            "matchConditions[0].expression",
            "undefined field",
            {"matchConditions": [{"name": "a", "expression": "request.foo"}]},
        ),
        (
            "paramKind.apiVersion",
            "unexpected GroupVersion string: a/b/c",
            {"paramKind": {**PARAMS, "apiVersion": "a/b/c"}},
        ),
        ("paramKind.apiVersion", "version must be specified", {"paramKind": {**PARAMS, "apiVersion": "a/"}}),
        ("paramKind.kind", "may have mixed case", {"paramKind": {**PARAMS, "kind": "a b"}}),
        ("auditAnnotations[0].key", "name part must", {"auditAnnotations": [{"key": "a b", "valueExpression": "'a'"}]}),
        ("auditAnnotations[1].key", "Duplicate", {"auditAnnotations": [{"key": "a", "valueExpression": "'a'"}] * 2}),
        (
            "auditAnnotations[0].valueExpression",
            "must evaluate to one of [string null_type] but got int",
            {"auditAnnotations": [{"key": "a", "valueExpression": "1"}]},
        ),
    ],
    ids=range(24),
)
def test_policies(place, text, more):
    refused(problems("validatingadmissionpolicies", policy(**more)), f"spec.{place}", text)


@pytest.mark.parametrize(
    "more",
    [
        {"paramKind": PARAMS, **validations("params.a == object.b", messageExpression="string(params.a)")},
        {
            "variables": [{"name": "a", "expression": "1"}, {"name": "b", "expression": "variables.a == 1"}],
            **validations("variables.b"),
        },
        validations("request.dryRun"),
        validations("has(request.options.x) || request.userInfo.groups.exists(g, g == 'a')"),
        validations("namespaceObject.metadata.labels.exists(l, l == 'a')"),
        validations("authorizer.requestResource.check('get').allowed()"),
        {"auditAnnotations": [{"key": "a", "valueExpression": "null"}], "validations": []},
        {"matchConditions": [{"name": "example.com/a", "expression": " !request.dryRun\n"}]},
    ],
    ids=range(8),
)
def test_good_policies(more):
    assert problems("validatingadmissionpolicies", policy(**more)) == []


def test_a_policy_does_something():
    text = "Required value: validations or auditAnnotations must contain at least one item"
    places = [("spec.validations", text), ("spec.auditAnnotations", text)]
    assert problems("validatingadmissionpolicies", policy(validations=[])) == places


@pytest.mark.parametrize(
    ("place", "text", "more"),
    [
        ("validationActions", "at least one validation action is required", {"validationActions": []}),
        (
            "validationActions[1]",
            'Unsupported value: "X": supported values: "Audit", "Deny", "Warn"',
            {"validationActions": ["Deny", "X"]},
        ),
        ("validationActions[1]", 'Duplicate value: "Deny"', {"validationActions": ["Deny", "Deny"]}),
        ("validationActions", "must not contain both", {"validationActions": ["Deny", "Warn"]}),
        ("policyName", "RFC 1123 subdomain", {"policyName": "A"}),
        ("paramRef", "one of name or selector must be specified", {"paramRef": {"parameterNotFoundAction": "Deny"}}),
        (
            "paramRef.parameterNotFoundAction",
            '"Deny", "Allow"',
            {"paramRef": {"name": "a", "parameterNotFoundAction": "X"}},
        ),
        ("matchResources.matchPolicy", '"Equivalent", "Exact"', {"matchResources": {"matchPolicy": "X"}}),
    ],
    ids=range(8),
)
def test_bindings(place, text, more):
    refused(problems("validatingadmissionpolicybindings", binding(**more)), f"spec.{place}", text)


def test_a_binding_names_its_parameters_in_one_way():
    reference = {"name": "a", "selector": {}, "parameterNotFoundAction": "Deny"}
    found = problems("validatingadmissionpolicybindings", binding(paramRef=reference))
    assert [place for place, _ in found] == ["spec.paramRef.name", "spec.paramRef.selector"]
