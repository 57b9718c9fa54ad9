"""Typed literals of mutation expressions become maps; everything else stays as it is."""

import pytest

from kube.machinery.cel import compile_cel
from kube.machinery.cel.literals import without_types

VARIABLES = ("object",)
OBJECT = {"metadata": {"name": "a"}, "n": 2}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("Object{spec: Object.spec{replicas: 3}}", {"spec": {"replicas": 3}}),
        (
            'Object{metadata: Object.metadata{labels: {"a": "Object{b: 1}"}}}',
            {"metadata": {"labels": {"a": "Object{b: 1}"}}},
        ),
        ('[JSONPatch{op: "add", path: "/a", value: object.n}]', [{"op": "add", "path": "/a", "value": 2}]),
        ("Object{a: object.n > 1 ? 5 : 6, b: [1].map(x, x)}", {"a": 5, "b": [1]}),
        ('object.n == 2 ? [JSONPatch{op: "remove", path: "/n"}] : []', [{"op": "remove", "path": "/n"}]),
        ('{"k": object.metadata.name}', {"k": "a"}),
        ("Object{?a: optional.none(), b: 1}", {"b": 1}),
        ('jsonpatch.escapeKey("a/b~c")', "a~1b~0c"),
    ],
)
def test_values(expression, value):
    assert compile_cel(without_types(expression), VARIABLES).evaluate({"object": OBJECT}) == value


def test_what_has_no_literals_is_untouched():
    text = 'object.spec.template{ "Object" }'
    assert without_types(text) == text
