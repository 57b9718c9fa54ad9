"""What the status of a ValidatingAdmissionPolicy says of expressions that cannot fit the kinds it matches."""

from __future__ import annotations

import pytest

from kube.machinery.schema.celtypes import type_problem
from solo.auth.user import MASTERS, User
from solo.registry.builtins import builtin_kinds
from solo.registry.catalog import Catalog
from solo.registry.context import RequestContext
from solo.registry.registry import Registry
from solo.registry.typechecking import PolicyTypeChecker
from solo.store import Store

DEPLOYMENTS = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}
REPLICAS = {
    "type": "object",
    "properties": {"spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}}},
}
CRONTABS = {
    "metadata": {"name": "crontabs.stable.example.com"},
    "spec": {
        "group": "stable.example.com",
        "scope": "Namespaced",
        "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": REPLICAS}}],
    },
}


@pytest.fixture
async def check(tmp_path):
    """Creates a policy and gives the warnings of its status."""
    store = Store.open(tmp_path / "state.db")
    catalog = Catalog(store, builtin_kinds(lambda: ("node", {})))
    registry = Registry(store, catalog)
    registry.add_admission(PolicyTypeChecker(catalog))
    crds = catalog.lookup("apiextensions.k8s.io", "v1", "customresourcedefinitions")
    await registry.create(crds, "", "", CRONTABS, RequestContext(User("admin", (MASTERS,))))

    async def create(validation, rule=DEPLOYMENTS, **spec):
        kind = catalog.lookup("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies")
        body = {"matchConstraints": {"resourceRules": [rule]}, "validations": [validation], **spec}
        obj = {"metadata": {"generateName": "p-"}, "spec": body}
        made = await registry.create(kind, "", "", obj, RequestContext(User("admin", (MASTERS,))))
        return made.obj["status"]["typeChecking"].get("expressionWarnings", [])

    yield create
    await store.close()


async def test_type_confusion_is_told(check):
    confused = {
        "expression": "object.spec.replicas > '1'",
        "messageExpression": "'wants > 1, got ' + object.spec.replicas",
    }
    first, second = await check(confused)
    assert first == {
        "fieldRef": "spec.validations[0].expression",
        "warning": "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to "
        "'(int, string)'\n | object.spec.replicas > '1'\n | .....................^\n",
    }
    assert second["fieldRef"] == "spec.validations[0].messageExpression"
    assert "found no matching overload for '_+_' applied to '(string, int)'" in second["warning"]


async def test_fields_that_do_not_exist_are_told(check):
    (warning,) = await check({"expression": "object.replicas > 1"})
    assert warning["warning"] == (
        "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'\n | object.replicas > 1\n | ......^\n"
    )


@pytest.mark.parametrize(
    "expression",
    [
        "object.spec.replicas > 1 && object.metadata.name.startsWith('a')",
        "has(object.spec.replicas) && object.metadata.labels.app == 'x'",
        "object.spec.template.spec.containers.all(c, c.image.contains('/'))",
        "object.metadata.creationTimestamp != null",
        "object == null || oldObject.spec.paused || namespaceObject.metadata.name == 'a'",
        "variables.x > 1 && params.nothing.known && request.operation == 'CREATE'",
    ],
    ids=range(6),
)
async def test_expressions_that_fit_are_not_warned_of(check, expression):
    about = {
        "variables": [{"name": "x", "expression": "1"}],
        "paramKind": {"apiVersion": "example.com/v1", "kind": "X"},
    }
    assert await check({"expression": expression}, **about) == []


async def test_custom_resources_are_checked_by_their_schema(check):
    rule = {**DEPLOYMENTS, "apiGroups": ["stable.example.com"], "resources": ["crontabs"]}
    assert await check({"expression": "object.spec.replicas > 1 && object.metadata.generation > 0"}, rule) == []
    (warning,) = await check({"expression": "object.spec.replicas > '1'"}, rule)
    assert warning["warning"].startswith("stable.example.com/v1, Kind=CronTab: ERROR: <input>:1:22: found no matching")
    (warning,) = await check({"expression": "object.spec.image == ''"}, rule)
    assert "undefined field 'image'" in warning["warning"]


async def test_each_kind_has_a_warning_and_wildcards_none(check):
    (warning,) = await check(
        {"expression": "object.data.x == ''"}, {**DEPLOYMENTS, "resources": ["deployments", "daemonsets", "pods/log"]}
    )
    assert [text.partition(":")[0] for text in warning["warning"].split("\n\n")] == [
        "apps/v1, Kind=DaemonSet",
        "apps/v1, Kind=Deployment",
    ]
    assert await check({"expression": "object.data.x == ''"}, {**DEPLOYMENTS, "resources": ["*"]}) == []


async def test_parameters_and_namespaces_have_types(check):
    param = {"apiVersion": "v1", "kind": "ConfigMap"}
    (warning,) = await check({"expression": "params.dta.x == ''"}, paramKind=param)
    assert "undefined field 'dta'" in warning["warning"]
    (warning,) = await check({"expression": "namespaceObject.metadata.name == 1"})
    assert "'(string, int)'" in warning["warning"]


def test_expressions_of_several_lines_are_shown_as_they_were_written():
    problem = type_problem("true &&\n  object.spec.replicas == ''", {"object": REPLICAS}, ())
    assert problem.startswith("ERROR: <input>:2:24: found no matching overload")
    assert " |   object.spec.replicas == ''\n" in problem
