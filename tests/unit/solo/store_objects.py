"""Keys and objects for the tests of the store."""

from __future__ import annotations

from solo.store import Key


def key(name, namespace="ns", resource="pods"):
    return Key(resource, namespace, name)


def obj(name, value=0):
    return {"metadata": {"name": name, "namespace": "ns"}, "value": value}
