"""What a client is told about pods that are accepted and yet may surprise, in Kubernetes' words."""

from __future__ import annotations

import pytest

from solo.registry.builtins import builtin_kinds
from solo.registry.objects import copy

KINDS = {kind.resource.plural: kind.strategy for kind in builtin_kinds(lambda: ("node", {}))}
HIDES = 'hides previous definition of "a", which may be dropped when using apply'
POD = {"containers": [{"name": "c", "image": "i", "env": [{"name": "a"}, {"name": "a"}]}]}
NAMED = "which can result in surprising behavior; a DNS label is recommended: [must not contain dots]"


def made(plural, spec, name="x"):
    obj = {"metadata": {"name": name}, **copy(spec)}
    KINDS[plural].default(obj)
    return obj


def warnings(*containers, inits=()):
    spec = {"initContainers": list(inits), "containers": list(containers)}
    return KINDS["pods"].warnings(made("pods", {"spec": spec}), None)


def env(*values):
    return {"name": "c", "env": [{"name": "a", **({"value": value} if value else {})} for value in values]}


def ports(*values):
    return {"name": "c", "ports": [{"containerPort": 80, **value} for value in values]}


def test_variables_that_hide_others():
    assert warnings(env("x", "y", "$(a)", "", "$(a) $(a)")) == [
        f"spec.containers[0].env[{n}]: {HIDES}" for n in (1, 2, 3)
    ]
    secret = {"name": "c", "env": [{"name": "a"}, {"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]}
    assert warnings({"name": "d"}, inits=[secret]) == [f"spec.initContainers[0].env[1]: {HIDES}"]
    assert warnings(env("x"), env("y")) == []


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        ({}, {}, "duplicate"),
        ({"protocol": "UDP"}, {}, ""),
        ({"containerPort": 81}, {}, ""),
        ({"hostPort": 8}, {}, "overlapping"),
        ({"hostPort": 8}, {"hostPort": 8, "hostIP": "127.0.0.1"}, "dangerously ambiguous"),
        ({"hostPort": 8, "hostIP": "127.0.0.2"}, {"hostPort": 8, "hostIP": "127.0.0.1"}, ""),
        ({"hostPort": 8}, {"hostPort": 9}, ""),
    ],
)
def test_ports_that_are_declared_twice(first, second, problem):
    there, here = "spec.initContainers[0].ports[0]", "spec.containers[0].ports[0]"
    expected = [f"{here}: {problem} port definition with {there}"] if problem else []
    assert warnings(ports(second), inits=[ports(first)]) == expected


@pytest.mark.parametrize(
    ("plural", "spec", "field"),
    [
        ("deployments", {"spec": {"template": {"spec": POD}}}, "spec.template.spec"),
        ("jobs", {"spec": {"template": {"spec": POD}}}, "spec.template.spec"),
        (
            "cronjobs",
            {"spec": {"jobTemplate": {"spec": {"template": {"spec": POD}}}}},
            "spec.jobTemplate.spec.template.spec",
        ),
        ("podtemplates", {"template": {"spec": POD}}, "template.spec"),
    ],
)
def test_templates(plural, spec, field):
    expected = [f"{field}.containers[0].env[1]: {HIDES}"]
    obj, strategy = made(plural, spec), KINDS[plural]
    assert strategy.warnings(obj, None) == expected
    if plural != "podtemplates":
        assert strategy.warnings(obj, obj) == []
        assert strategy.warnings(obj, {**obj, "spec": {}}) == expected


def test_names_that_are_no_host_names():
    (text,) = KINDS["pods"].warnings(made("pods", {"spec": {"containers": []}}, "a.b"), None)
    assert text == f"metadata.name: this is used in the Pod's hostname, {NAMED}"
    template = {"spec": {"template": {"spec": {"containers": []}}}}
    (text,) = KINDS["replicasets"].warnings(made("replicasets", template, "a.b"), None)
    assert text == f"metadata.name: this is used in Pod names and hostnames, {NAMED}"
