"""The OpenAPI document in protobuf, read field by field as gnostic's messages number them."""

from __future__ import annotations

import json
import struct

from kube.machinery.openapi import openapi_v2_document
from kube.machinery.openapi_schemas import ServedResource
from kube.machinery.protobuf.swagger import encode_swagger
from kube.machinery.protobuf.wire import fields
from kube.machinery.resources import Resource

WIDGETS = Resource("example.com", "v1", "widgets", "Widget", namespaced=True)
SCHEMA = {
    "type": "object",
    "description": "Ein Gerät.",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "format": "int32", "minimum": -1, "exclusiveMinimum": True, "default": 3},
        "names": {"type": "array", "items": {"type": "string", "maxLength": 300}, "x-kubernetes-list-type": "set"},
        "closed": {"type": "object", "additionalProperties": False},
        "labels": {"type": "object", "additionalProperties": {"type": "string", "enum": ["a", "b"]}},
    },
}


def read(data, *path):
    """The values of a field, from message to message by the numbers of `path`."""
    found = [data]
    for number in path:
        found = [value for each in found for at, _, value in fields(each) if at == number]
    return [value if isinstance(value, int) else bytes(value) for value in found]


def text(data, *path):
    return [value.decode() for value in read(data, *path)]


def named(data, *path):
    """A map's values by their names."""
    entries = read(data, *path)
    return {text(entry, 1)[0]: read(entry, 2)[0] for entry in map(memoryview, entries)}


def views(data):
    return {name: memoryview(value) for name, value in data.items()}


def document():
    made = openapi_v2_document([ServedResource(WIDGETS, schema=SCHEMA, subresources=("status",))], "v1.36.0")
    return made, memoryview(encode_swagger(made))


def test_definitions():
    made, data = document()
    definitions = views(named(data, 9, 1))
    assert list(definitions) == list(made["definitions"])
    widget = definitions["com.example.v1.Widget"]
    assert (text(widget, 4), text(widget, 22, 1), text(widget, 19)) == (["Ein Gerät."], ["object"], ["size"])
    kinds = [json.loads(text(memoryview(value), 2)[0]) for value in named(widget, 31).values()]
    assert kinds == [[{"group": "example.com", "version": "v1", "kind": "Widget"}]]
    properties = views(named(widget, 25, 1))
    assert list(properties) == [*SCHEMA["properties"], "apiVersion", "kind", "metadata"]
    size = properties["size"]
    assert (text(size, 2), read(size, 10), text(size, 5, 2)) == (["int32"], [1], ["3\n"])
    assert struct.unpack("<d", read(size, 9)[0]) == (-1.0,)
    assert read(properties["names"], 23, 1, 11) == [300]
    assert {name: text(memoryview(value), 2) for name, value in named(properties["names"], 31).items()} == {
        "x-kubernetes-list-type": ['"set"\n']
    }
    assert read(properties["closed"], 21, 2) == [0]
    assert text(properties["labels"], 21, 1, 20, 2) == ['"a"\n', '"b"\n']
    assert text(properties["metadata"], 1) == ["#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"]


def test_paths():
    made, data = document()
    assert text(data, 1) == ["2.0"]
    assert text(data, 2, 2) == ["v1.36.0"]
    paths = views(named(data, 8, 2))
    assert list(paths) == list(made["paths"])
    one = paths["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]
    patch = memoryview(read(one, 8)[0])
    assert text(patch, 5) == ["patchExampleComV1NamespacedWidget"]
    assert "application/apply-patch+yaml" in text(patch, 7)
    assert text(patch, 8, 1, 1, 2) == ["body"]
    assert "dryRun" in text(patch, 8, 1, 2, 3, 4)
    assert list(named(patch, 9, 1)) == ["200", "401"]
    assert text(patch, 9, 1, 2, 1, 2, 1, 1) == ["#/definitions/com.example.v1.Widget"]
    assert text(one, 9, 1, 2, 4, 4) == ["namespace", "name"]
    assert read(one, 9, 1, 2, 4, 1) == [1, 1]


def test_a_field_without_a_number_is_left_out():
    assert encode_swagger({"swagger": "2.0", "x-odd": 1}) == encode_swagger({"swagger": "2.0"})
