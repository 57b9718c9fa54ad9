"""Whole numbers that were written as floats: what Go's encoder makes of them and its decoder says to them."""

from __future__ import annotations

import json

import pytest

from kube.machinery.schema.numbers import misplaced_floats, write_whole

NODE = {
    "type": "object",
    "properties": {
        "count": {"type": "integer", "format": "int32"},
        "share": {"type": "number"},
        "port": {"x-kubernetes-int-or-string": True},
        "list": {"type": "array", "items": {"type": "object", "properties": {"count": {"type": "integer"}}}},
        "map": {"type": "object", "additionalProperties": {"type": "integer"}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ('{"a": 2.0, "b": [1e3, {"c": -0.0}]}', '{"a": 2, "b": [1000, {"c": 0}]}'),
        ('{"a": 1.5, "b": true, "c": "2.0", "d": null}', '{"a": 1.5, "b": true, "c": "2.0", "d": null}'),
        ('{"a": 1e18}', '{"a": 1000000000000000000}'),
        ('{"a": 1e20}', '{"a": 1e+20}'),
        ("2.0", "2.0"),
    ],
)
def test_whole_floats_become_integers(text, written):
    value = json.loads(text)
    write_whole(value)
    assert json.dumps(value) == written


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        ({"count": 2, "share": 2.0, "port": "80", "free": {"x": 1.0}}, []),
        ({"count": 2.0, "port": 80.0}, ["count", "port"]),
        ({"list": [{"count": 1}, {"count": 1.0}], "map": {"k": 1.0}, "unknown": 1.0}, ["list[1].count", "map.k"]),
    ],
)
def test_floats_where_integers_belong(value, paths):
    assert list(misplaced_floats(value, NODE)) == paths
