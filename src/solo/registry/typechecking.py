"""What is told of a ValidatingAdmissionPolicy's expressions in its status: those that cannot fit the kinds it matches
(apiserver `admission/plugin/policy/validating/typechecking.go`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from kube.machinery.cel.literals import without_types
from kube.machinery.resources import VALIDATINGADMISSIONPOLICIES
from solo.registry.bound_policies import VARIABLES
from solo.registry.catalog import Catalog
from solo.registry.kinds import Kind
from solo.registry.objects import dig
from solo.registry.registry import Attributes

Obj = dict[str, Any]

_MOST_KINDS = 10


class PolicyTypeChecker:
    """An admission plug-in that refuses nothing: it writes its warnings into the status, which is made anew with every
    write of a policy. kube-controller-manager does so a moment later."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def admit(self, attributes: Attributes) -> None:
        """Check the policy that is being written."""
        obj = attributes.obj
        resource = attributes.kind.resource.group_resource
        if obj is None or attributes.subresource or resource != VALIDATINGADMISSIONPOLICIES.group_resource:
            return
        warnings = list(self._warnings(obj["spec"]))
        if warnings:
            obj["status"]["typeChecking"] = {"expressionWarnings": warnings}

    def _warnings(self, spec: Obj) -> Iterator[Obj]:
        kinds = self._kinds(spec)
        if not kinds:
            return
        shared = self._shared_schemas(spec)
        for index, validation in enumerate(spec.get("validations") or []):
            for part in ("expression", "messageExpression"):
                problems = list(_problems(validation[part], kinds, shared)) if validation.get(part) else []
                if problems:
                    yield {"fieldRef": f"spec.validations[{index}].{part}", "warning": "\n".join(problems)}

    def _kinds(self, spec: Obj) -> list[Kind]:
        """The kinds that the policy names, one by one and without wildcards, up to a number."""
        found = {}
        for rule in dig(spec, "matchConstraints", "resourceRules") or []:
            groups, versions = rule.get("apiGroups") or [], rule.get("apiVersions") or []
            if "*" in groups or "*" in versions:
                continue
            resources = [name for name in rule.get("resources") or [] if not {"*", "/"} & set(name)]
            for group, version, plural in product(groups, versions, resources):
                kind = self._catalog.lookup(group, version, plural)
                if kind is not None:
                    found[kind.resource.api_version, kind.resource.kind] = kind
        return [found[name] for name in sorted(found)][:_MOST_KINDS]

    def _shared_schemas(self, spec: Obj) -> dict[str, Obj]:
        schemas = {}
        namespace = self._catalog.by_kind("v1", "Namespace")
        if namespace is not None:
            schemas["namespaceObject"] = _schema(namespace)
        parameter = spec.get("paramKind")
        kind = self._catalog.by_kind(parameter["apiVersion"], parameter["kind"]) if parameter else None
        if kind is not None:
            schemas["params"] = _schema(kind)
        return schemas


def _problems(expression: str, kinds: list[Kind], shared: dict[str, Obj]) -> Iterator[str]:
    from kube.machinery.schema.celtypes import type_problem

    for kind in kinds:
        schema = _schema(kind)
        schemas = {**shared, "object": schema, "oldObject": schema}
        problem = type_problem(without_types(expression), schemas, set(VARIABLES) - schemas.keys())
        if problem is not None:
            yield f"{kind.resource.api_version}, Kind={kind.resource.kind}: {problem}\n"


def _schema(kind: Kind) -> Obj:
    """The schema of a kind's objects with all of their metadata."""
    from kube.machinery.builtin import OBJECT_META, openapi_v3_schema

    if kind.definition:
        return openapi_v3_schema(kind.definition)
    schema = kind.strategy.openapi_schema()
    if not schema.get("properties") or schema.get("x-kubernetes-preserve-unknown-fields"):
        return {}
    text = {"type": "string"}
    root = {"apiVersion": text, "kind": text, "metadata": openapi_v3_schema(OBJECT_META)}
    return {**schema, "properties": {**schema["properties"], **root}}
