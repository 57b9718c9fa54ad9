"""The built-in kinds: Kubernetes' own OpenAPI definitions, packaged, and read when first asked for.

`scripts/generate_builtin.py` writes the packaged file and tells where the definitions come from. They serve as the
schema of built-in objects (what fields exist, of which type), as merge keys for strategic merge patches, and as the
OpenAPI documents that `kubectl explain` reads.
"""

from __future__ import annotations

import json
import lzma
from functools import cache
from importlib.resources import files
from typing import Any

from kube.machinery.builtin.resolve import Resolver
from kube.machinery.resources import Resource

VERSION = "1.36"

OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
LIST_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"
DELETE_OPTIONS = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
STATUS = "io.k8s.apimachinery.pkg.apis.meta.v1.Status"
PATCH = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"
WATCH_EVENT = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent"


@cache
def definitions() -> dict[str, dict[str, Any]]:
    """All definitions by name ("io.k8s.api.core.v1.Pod"), in Swagger 2 form (`$ref: #/definitions/NAME`).

    Shared: treat them as immutable.
    """
    packed = (files(__package__) / f"k8s-{VERSION}.json.xz").read_bytes()
    loaded: dict[str, dict[str, Any]] = json.loads(lzma.decompress(packed))
    return loaded


@cache
def _names() -> dict[tuple[str, str, str], str]:
    names = {}
    for name, definition in definitions().items():
        for kind in definition.get("x-kubernetes-group-version-kind", ()):
            names[kind["group"], kind["version"], kind["kind"]] = name
    return names


def definition_for(resource: Resource) -> str | None:
    """The definition's name of a built-in resource's kind; None if it is not one of the packaged kinds."""
    return definition_for_kind(resource.group, resource.version, resource.kind)


def definition_for_kind(group: str, version: str, kind: str) -> str | None:
    """As `definition_for`, for any kind (`PodList`, `Scale`, `Status`)."""
    return _names().get((group, version, kind))


@cache
def openapi_v3_schema(name: str) -> dict[str, Any]:
    """The schema of a definition with its references replaced by what they refer to.

    The result is a graph of shared dictionaries: cyclic for JSONSchemaProps, so walk it lazily (as `compile_schema`
    does) and never write it as JSON. Types that have their own JSON form in Go (quantities, any-JSON, raw extensions)
    carry the structural-schema extension that describes it. Raises KeyError for an unknown name.
    """
    return _resolver().resolve(name)


@cache
def _resolver() -> Resolver:
    return Resolver(definitions())
