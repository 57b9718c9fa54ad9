"""JSONPath: what printer columns and kubectl wait need."""

from __future__ import annotations

import pytest

from kube.machinery.jsonpath import compile_jsonpath

POD = {
    "metadata": {
        "name": "x",
        "labels": {"kubevirt.io/vm": "web", "app": "y"},
        "annotations": {"it's": 1, "a.b": {"c": 2}},
    },
    "spec": {
        "containers": [
            {"name": "a", "ports": [{"containerPort": 80}, {"containerPort": 443}], "cpu": 2, "tty": True},
            {"name": "b", "ports": [], "cpu": 1.5},
            {"name": "c", "cpu": "9", "tty": False, "alias": "c"},
        ],
        "nodeName": None,
    },
    "status": {"conditions": [{"type": "Scheduled"}, {"type": "Ready", "status": "True"}, {"status": "?"}]},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".metadata.name", ["x"]),
        ("{.metadata.name}", ["x"]),
        ("{ .metadata.name }", ["x"]),
        ("$.metadata.name", ["x"]),
        ("metadata.name", ["x"]),
        ("$", [POD]),
        ("@", [POD]),
        (".metadata.nothing", []),
        (".metadata.name.deeper", []),
        (".spec.nodeName", [None]),
        (r".metadata.labels.kubevirt\.io/vm", ["web"]),
        (".metadata.labels['kubevirt.io/vm']", ["web"]),
        (r".metadata.labels['kubevirt\.io/vm']", ["web"]),
        ('.metadata.labels["app"]', ["y"]),
        (r".metadata.annotations['it\'s']", [1]),
        (".metadata.annotations['a.b'].c", [2]),
        (".metadata.labels['app','kubevirt.io/vm']", ["y", "web"]),
        (".metadata.labels.*", ["web", "y"]),
        (".spec.containers[*].name", ["a", "b", "c"]),
        (".spec.containers.*.name", ["a", "b", "c"]),
        (".spec.containers[0].name", ["a"]),
        (".spec.containers[-1].name", ["c"]),
        (".spec.containers[7].name", []),
        (".spec.containers[-4].name", []),
        (".metadata[0]", []),
        (".spec.containers[1:].name", ["b", "c"]),
        (".spec.containers[:2].name", ["a", "b"]),
        (".spec.containers[:-1].name", ["a", "b"]),
        (".spec.containers[-2:].name", ["b", "c"]),
        (".spec.containers[0:3:2].name", ["a", "c"]),
        (".spec.containers[0, 2].name", ["a", "c"]),
        (".spec.containers[*].ports[*].containerPort", [80, 443]),
        ("..containerPort", [80, 443]),
        (".spec..name", ["a", "b", "c"]),
        ("..ports[0].containerPort", [80]),
        ("..ports.*.containerPort", [80, 443]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type == 'Ready')].status", ["True"]),
        (".status.conditions[?(@.type!='Ready')].type", ["Scheduled"]),
        (".status.conditions[?(@.type)].type", ["Scheduled", "Ready"]),
        (".status.conditions[?(@.type=='No')].status", []),
        (".spec.containers[?(@.cpu>1.5)].name", ["a"]),
        (".spec.containers[?(@.cpu>=1.5)].name", ["a", "b"]),
        (".spec.containers[?(@.cpu<2)].name", ["b"]),
        (".spec.containers[?(@.cpu<=2)].name", ["a", "b"]),
        (".spec.containers[?(@.cpu==2)].name", ["a"]),
        (".spec.containers[?(@.tty==true)].name", ["a"]),
        (".spec.containers[?(@.tty==1)].name", []),
        (".spec.containers[?(@.name==@.alias)].name", ["c"]),
        (".spec.containers[?(@.ports[?(@.containerPort==443)])].name", ["a"]),
        (".spec.containers[?(@.ports[0].containerPort==80)].name", ["a"]),
        (".metadata[?(@.name)]", []),
    ],
)
def test_selected(path, found):
    assert compile_jsonpath(path).find(POD) == found


def test_descent_visits_parents_first():
    assert compile_jsonpath("..").find({"a": [{"b": 1}], "c": {}}) == [
        {"a": [{"b": 1}], "c": {}},
        [{"b": 1}],
        {"b": 1},
    ]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("", "empty"),
        ("{}", "empty"),
        (".", "expected a field name"),
        (".a.", "expected a field name"),
        (".a b", "unrecognized character ' '"),
        (".a{.b}", "unrecognized character '{'"),
        ("{range .a[*]}{.b}{end}", "unrecognized character"),
        (".a[", "invalid array index"),
        (".a[]", "invalid array index"),
        (".a[x]", "invalid array index"),
        (".a[0", "unterminated array"),
        (".a[::0]", "step"),
        (".a['b]", "unterminated quoted string"),
        (".a[?(@.b=='c'", "unterminated filter"),
        (".a[?(@.b=='c')", "unterminated filter"),
        (".a[?(@.b~'c')]", "unrecognized filter operator"),
        (".a[?(@.b=~'c')]", "unrecognized filter operator"),
        (".a[?(@.b && @.c)]", "unrecognized filter operator"),
        ("....a", "expected a field name"),
        ("." + "a" * 5000, "longer than"),
        (".a[?(@" * 20 + ")]" * 20, "nested more than 16 levels"),
        ("[?(@[?(@" * 20, "nested more than 16 levels"),
    ],
)
def test_refused(path, problem):
    with pytest.raises(ValueError, match=problem):
        compile_jsonpath(path)


def test_long_and_multiplying_paths_stay_bounded():
    deep: dict = {}
    for _ in range(1500):
        deep = {"a": deep}
    assert compile_jsonpath(".a" * 1500).find(deep) == [{}]
    nested: list = []
    for _ in range(400):
        nested = [nested]
    assert len(compile_jsonpath("[0,-1]" * 400).find(nested)) == 10_000
