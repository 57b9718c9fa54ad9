"""From Swagger 2 definitions with references to one schema graph that the schema compiler understands.

What the swagger file cannot say is added here: which Go types read and write JSON of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_REF = "#/definitions/"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_CRD = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."

_ANY = {"x-kubernetes-preserve-unknown-fields": True}
_SPECIAL: dict[str, dict[str, Any]] = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"x-kubernetes-int-or-string": True},
    # A quantity is written as a string but read from a number, too (api/resource.Quantity.UnmarshalJSON).
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"], "format": "quantity"},
    "io.k8s.apimachinery.pkg.runtime.RawExtension": {"type": "object", **_ANY},
    _META + "FieldsV1": {"type": "object", **_ANY},
    _META + "Patch": {"type": "object", **_ANY},
    _CRD + "JSON": _ANY,
    _CRD + "JSONSchemaPropsOrBool": _ANY,
    _CRD + "JSONSchemaPropsOrArray": _ANY,
    _CRD + "JSONSchemaPropsOrStringArray": _ANY,
}
# The server fills in what a client leaves out of these, because Go has zero values: `required` says only that the
# field is always written. Refusing a status without it would refuse what Kubernetes accepts.
_ALWAYS_WRITTEN = re.compile(r"(Status|Condition|ContainerState\w*|StatusCause|StatusDetails|RoleRef)$")


class Resolver:
    """Resolves definitions of one Swagger file; shared parts are the same dictionary, cycles are real cycles."""

    def __init__(self, definitions: Mapping[str, dict[str, Any]]) -> None:
        self._definitions = definitions
        self._done: dict[str, dict[str, Any]] = dict(_SPECIAL)

    def resolve(self, name: str) -> dict[str, Any]:
        """The graph of one definition. Raises KeyError if it, or something it refers to, is not there."""
        node = self._done.get(name)
        if node is None:
            definition = self._definitions[name]
            node = self._done[name] = {}  # before descending: a definition may refer to itself
            node.update(self._inline(definition))
            node["x-go-type"] = name
            if _ALWAYS_WRITTEN.search(name):
                node.pop("required", None)
        return node

    def _inline(self, schema: dict[str, Any]) -> dict[str, Any]:
        target = schema.get("$ref")
        if isinstance(target, str):
            return self.resolve(target.removeprefix(_REF))
        out = {key: value for key, value in schema.items() if key != "description"}
        if "properties" in schema:
            out["properties"] = {key: self._inline(sub) for key, sub in schema["properties"].items()}
        for key in ("items", "additionalProperties"):
            if isinstance(schema.get(key), dict):
                out[key] = self._inline(schema[key])
        return out
