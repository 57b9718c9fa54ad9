"""What kube-apiserver refuses of roles and bindings is refused here, in the same words."""

from __future__ import annotations

import pytest

from solo.registry.builtins import builtin_kinds
from solo.registry.objects import copy

KINDS = {kind.resource.plural: kind.strategy for kind in builtin_kinds(lambda: ("node", {}))}
GROUP = "rbac.authorization.k8s.io"
REFERENCE = {"kind": "ClusterRole", "name": "view"}


def problems(plural, obj):
    """The fields that are refused, with what is said of them."""
    given = copy({"metadata": {"name": "x"}, **obj})
    KINDS[plural].default(given)
    return [(found.field, found.message) for found in KINDS[plural].validate(given, None)]


@pytest.mark.parametrize("plural", ["rolebindings", "clusterrolebindings"])
@pytest.mark.parametrize(
    ("field", "message", "reference"),
    [
        ("roleRef.apiGroup", f'Unsupported value: "x": supported values: "{GROUP}"', {"apiGroup": "x"}),
        ("roleRef.name", "Invalid value: \"a/b\": may not contain '/'", {"name": "a/b"}),
        ("roleRef.name", "Required value", {"name": ""}),
    ],
)
def test_references(plural, field, message, reference):
    assert problems(plural, {"roleRef": {**REFERENCE, **reference}}) == [(field, message)]


@pytest.mark.parametrize("plural", ["rolebindings", "clusterrolebindings"])
@pytest.mark.parametrize(
    ("field", "text", "subject"),
    [
        ("apiGroup", f'"foo": supported values: "{GROUP}"', {"kind": "User", "name": "zoe", "apiGroup": "foo"}),
        ("apiGroup", f'"foo": supported values: "{GROUP}"', {"kind": "Group", "name": "zoe", "apiGroup": "foo"}),
        ("name", "Required value", {"kind": "User", "name": ""}),
        ("name", "Required value", {"kind": "Group"}),
        ("name", "RFC 1123 subdomain", {"kind": "ServiceAccount", "namespace": "a", "name": "a b"}),
        (
            "apiGroup",
            f'"{GROUP}": supported values: ""',
            {"kind": "ServiceAccount", "namespace": "a", "name": "a", "apiGroup": GROUP},
        ),
        ("kind", '"X": supported values: "ServiceAccount", "User", "Group"', {"kind": "X", "name": "a"}),
    ],
)
def test_subjects(plural, field, text, subject):
    [(place, message)] = problems(plural, {"roleRef": REFERENCE, "subjects": [subject]})
    assert (place, text in message) == (f"subjects[0].{field}", True)


def test_only_a_cluster_role_binding_needs_the_namespace_of_an_account():
    bound = {"roleRef": REFERENCE, "subjects": [{"kind": "ServiceAccount", "name": "a"}]}
    assert problems("rolebindings", bound) == []
    assert problems("clusterrolebindings", bound) == [("subjects[0].namespace", "Required value")]


def test_a_rule_is_for_resources_or_for_paths():
    paths = {"verbs": ["get"], "nonResourceURLs": ["/a"]}
    assert problems("clusterroles", {"rules": [paths]}) == []
    for part in ("apiGroups", "resources", "resourceNames"):
        [(field, message)] = problems("clusterroles", {"rules": [{**paths, part: ["a"]}]})
        assert (field, "both regular resources" in message) == ("rules[0].nonResourceURLs", True)


@pytest.mark.parametrize(
    ("place", "text", "selectors"),
    [
        ("", "at least one clusterRoleSelector required if aggregationRule is non-nil", []),
        (
            "[0].matchExpressions[0].operator",
            "not a valid selector operator",
            [{"matchExpressions": [{"key": "a", "operator": "X"}]}],
        ),
        ("[1].matchLabels", "name part must be non-empty", [{}, {"matchLabels": {"a/": "b"}}]),
    ],
    ids=["none", "operator", "key"],
)
def test_aggregation(place, text, selectors):
    found = problems("clusterroles", {"aggregationRule": {"clusterRoleSelectors": selectors}})
    assert found[0][0] == f"aggregationRule.clusterRoleSelectors{place}" and text in found[0][1]
