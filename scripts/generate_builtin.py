#!/usr/bin/env python3
"""Write the packaged OpenAPI definitions of the built-in kinds (src/kube/machinery/builtin/k8s-VERSION.json.xz).

The source is the `_definitions.json` that the PyPI distribution `kubernetes-validate` (Apache-2.0, as Kubernetes
itself) derives from Kubernetes' own swagger.json for every minor version. It keeps the list types, merge keys, group
version kinds and descriptions, and differs from the original by three edits, which are undone here:

1. an optional field's type `string` became `["string", "null"]`;
2. the two union types (IntOrString, Quantity) were spelt out with `oneOf`;
3. `apiVersion` and `kind` of a kind got an `enum` of their only values.

Only the kinds that a control plane for one machine serves are kept, with everything that they refer to. Run it again
after a new release of the source: `python scripts/generate_builtin.py` (needs the `dev` extra installed).
"""

from __future__ import annotations

import argparse
import importlib.resources
import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VERSION = "1.36"
TARGET = Path(__file__).resolve().parent.parent / "src" / "kube" / "machinery" / "builtin"

# Every kind of these group versions is kept ("" is the core group) ...
GROUP_VERSIONS = {
    "/v1",
    "admissionregistration.k8s.io/v1",
    "apiextensions.k8s.io/v1",
    "apiregistration.k8s.io/v1",
    "apps/v1",
    "authentication.k8s.io/v1",
    "authorization.k8s.io/v1",
    "autoscaling/v1",
    "autoscaling/v2",
    "batch/v1",
    "certificates.k8s.io/v1",
    "coordination.k8s.io/v1",
    "discovery.k8s.io/v1",
    "events.k8s.io/v1",
    "flowcontrol.apiserver.k8s.io/v1",
    "networking.k8s.io/v1",
    "node.k8s.io/v1",
    "policy/v1",
    "rbac.authorization.k8s.io/v1",
    "resource.k8s.io/v1",
    "scheduling.k8s.io/v1",
    "storage.k8s.io/v1",
}
# ... and these, which no kind refers to.
EXTRA = {
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch",
    "io.k8s.apimachinery.pkg.version.Info",
}
INT_OR_STRING = {
    "description": (
        "IntOrString is a type that can hold an int32 or a string.  When used in JSON or YAML marshalling and "
        "unmarshalling, it produces or consumes the inner type.  This allows you to have, for example, a JSON field "
        "that can accept a name or number."
    ),
    "format": "int-or-string",
    "type": "string",
}
QUANTITY = {
    "description": (
        "Quantity is a fixed-point representation of a number. It provides convenient marshaling/unmarshaling in "
        "JSON and YAML, in addition to String() and AsInt64() accessors. Its serialization is a number with an "
        "optional suffix: Ki, Mi, Gi, Ti, Pi, Ei (powers of 1024), m, k, M, G, T, P, E (powers of 1000) or an exponent."
    ),
    "type": "string",
}
UNIONS = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": INT_OR_STRING,
    "io.k8s.apimachinery.pkg.api.resource.Quantity": QUANTITY,
}


def source_definitions(version: str) -> dict[str, Any]:
    """The definitions of one Kubernetes minor version as `kubernetes-validate` ships them."""
    root = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}.0-local"
    found: dict[str, Any] = json.loads((root / "_definitions.json").read_text(encoding="utf-8"))["$defs"]
    return found


def restore(definition: dict[str, Any]) -> dict[str, Any]:
    """One definition without the three edits of the source."""
    restored: dict[str, Any] = restore_schema(definition)
    if "x-kubernetes-group-version-kind" in definition:
        for name in ("apiVersion", "kind"):
            restored.get("properties", {}).get(name, {}).pop("enum", None)
    return restored


def restore_schema(schema: Any) -> Any:
    """A schema with single types and references as Swagger 2 writes them. A property may be called `$ref` or `type`."""
    if not isinstance(schema, dict):
        return schema
    out: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "type" and isinstance(value, list):
            out[key] = next(item for item in value if item != "null")
        elif key == "$ref":
            out[key] = "#/definitions/" + value.rpartition("/")[2]
        elif key == "properties":
            out[key] = {name: restore_schema(sub) for name, sub in value.items()}
        elif key in ("items", "additionalProperties"):
            out[key] = restore_schema(value)
        else:
            out[key] = value
    return out


def references(schema: Any) -> Iterator[str]:
    """Names of the definitions that a restored schema refers to."""
    if isinstance(schema, dict):
        target = schema.get("$ref")
        if isinstance(target, str):
            yield target.rpartition("/")[2]
        for value in schema.values():
            yield from references(value)


def wanted(name: str, definition: dict[str, Any]) -> bool:
    if name in EXTRA or name in UNIONS:
        return True
    kinds = definition.get("x-kubernetes-group-version-kind", [])
    return any(f"{kind['group']}/{kind['version']}" in GROUP_VERSIONS for kind in kinds)


def closure(definitions: dict[str, Any]) -> dict[str, Any]:
    """The wanted definitions and all that they refer to."""
    pending = [name for name, definition in definitions.items() if wanted(name, definition)]
    kept: dict[str, Any] = {}
    while pending:
        name = pending.pop()
        if name not in kept:
            kept[name] = definitions[name]
            pending += references(definitions[name])
    return dict(sorted(kept.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", default=VERSION, help="Kubernetes minor version (default: %(default)s)")
    version = parser.parse_args().version
    definitions = {name: restore(definition) for name, definition in source_definitions(version).items()}
    definitions.update(UNIONS)
    kept = closure(definitions)
    text = json.dumps(kept, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    packed = lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME, check=lzma.CHECK_CRC32)
    target = TARGET / f"k8s-{version}.json.xz"
    target.write_bytes(packed)
    print(f"{target.name}: {len(kept)} definitions, {len(text)} bytes, {len(packed)} packed")


if __name__ == "__main__":
    main()
