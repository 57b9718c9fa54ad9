"""What the kinds share: reading nested fields, conditions, status patches, owner references and the shape of a CRD."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kube.machinery.durations import now_rfc3339
from kube.machinery.resources import Resource

Obj = dict[str, Any]

# The text form of resource.Quantity, so that `20GiB` is refused where it is written and not where it is used.
QUANTITY_PATTERN = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
    r"(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)


def dig(obj: Obj | None, *path: str, default: Any = None) -> Any:
    """The value below nested mappings, or `default` where a step is missing or null."""
    value: Any = obj
    for step in path:
        if not isinstance(value, dict):
            return default
        value = value.get(step)
    return default if value is None else value


def name_of(obj: Obj) -> str:
    return str(dig(obj, "metadata", "name", default=""))


def namespace_of(obj: Obj) -> str:
    return str(dig(obj, "metadata", "namespace", default=""))


def uid_of(obj: Obj) -> str:
    return str(dig(obj, "metadata", "uid", default=""))


def annotation(obj: Obj, key: str) -> str:
    return str(dig(obj, "metadata", "annotations", key, default=""))


def is_deleting(obj: Obj) -> bool:
    return bool(dig(obj, "metadata", "deletionTimestamp"))


def has_finalizer(obj: Obj, finalizer: str) -> bool:
    return finalizer in dig(obj, "metadata", "finalizers", default=[])


def owner_reference(resource: Resource, name: str, uid: str) -> Obj:
    """A controller reference. It doesn't block the owner's deletion: our finalizers order that."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


@dataclass(frozen=True, slots=True)
class Condition:
    """One entry of `status.conditions` before it has a time."""

    type: str
    status: bool
    reason: str
    message: str = ""


def merge_conditions(existing: Sequence[Obj], wanted: Iterable[Condition], generation: int) -> list[Obj]:
    """The new list of conditions; `lastTransitionTime` moves only when the status does (API conventions)."""
    before = {str(entry.get("type")): entry for entry in existing}
    result: list[Obj] = []
    for condition in wanted:
        status = "True" if condition.status else "False"
        old = before.get(condition.type, {})
        since = old.get("lastTransitionTime") if old.get("status") == status else None
        result.append(
            {
                "type": condition.type,
                "status": status,
                "reason": condition.reason,
                "message": condition.message,
                "observedGeneration": generation,
                "lastTransitionTime": since or now_rfc3339(),
            }
        )
    return result


def condition_of(obj: Obj, type_: str) -> Obj:
    """The condition of that type, empty if there is none."""
    conditions = dig(obj, "status", "conditions", default=[])
    return next((entry for entry in conditions if entry.get("type") == type_), {})


def merge_diff(old: Obj, new: Obj) -> Obj:
    """The JSON merge patch (RFC 7386) that turns `old` into `new`; empty when they are equal."""
    patch: Obj = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if before == value and key in old:
            continue
        if isinstance(before, dict) and isinstance(value, dict):
            patch[key] = merge_diff(before, value)
        else:
            patch[key] = value
    return patch


def quantity_text(count: int) -> str:
    """A number of bytes as people would write it: with the first of these units that keeps it whole."""
    units = (("Gi", 1 << 30), ("Mi", 1 << 20), ("G", 10**9), ("M", 10**6), ("Ki", 1 << 10))
    return next((f"{count // size}{unit}" for unit, size in units if count and count % size == 0), str(count))


def names_text(names: Sequence[str], limit: int = 10) -> str:
    """`a, b and 3 more`: at most `limit` names."""
    listed = ", ".join(names[:limit])
    rest = len(names) - limit
    return f"{listed} and {rest} more" if rest > 0 else listed


@dataclass(frozen=True, slots=True)
class Column:
    """One additional printer column of a CRD; `wide` ones show with `-o wide` only."""

    name: str
    path: str
    type: str = "string"
    description: str = ""
    wide: bool = False

    def to_dict(self) -> Obj:
        column: Obj = {"name": self.name, "type": self.type, "jsonPath": self.path}
        if self.description:
            column["description"] = self.description
        if self.wide:
            column["priority"] = 1
        return column


AGE = Column("Age", ".metadata.creationTimestamp", "date")


def crd(
    resource: Resource,
    *,
    singular: str,
    short_names: Sequence[str],
    columns: Sequence[Column],
    schema: Obj,
    categories: Sequence[str] = (),
) -> Obj:
    """A CustomResourceDefinition with one version and a status subresource."""
    names: Obj = {
        "plural": resource.plural,
        "singular": singular,
        "kind": resource.kind,
        "listKind": f"{resource.kind}List",
        "shortNames": list(short_names),
    }
    if categories:
        names["categories"] = list(categories)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{resource.plural}.{resource.group}",
            "labels": {"app.kubernetes.io/part-of": "vmruntime"},
        },
        "spec": {
            "group": resource.group,
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "names": names,
            "versions": [
                {
                    "name": resource.version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [column.to_dict() for column in columns],
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def string(description: str, **more: Any) -> Obj:
    return {"type": "string", "description": description, **more}


def integer(description: str, **more: Any) -> Obj:
    return {"type": "integer", "format": "int64", "description": description, **more}


def boolean(description: str, **more: Any) -> Obj:
    return {"type": "boolean", "description": description, **more}


def timestamp(description: str) -> Obj:
    return {"type": "string", "format": "date-time", "description": description}


def quantity(description: str, **more: Any) -> Obj:
    """A resource.Quantity such as `20Gi`, or a plain number of bytes."""
    return {
        "x-kubernetes-int-or-string": True,
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "pattern": QUANTITY_PATTERN,
        "description": description,
        **more,
    }


def bytes_wanted(description: str, least: str) -> Obj:
    """A quantity of at least `least` bytes, as a spec has it: with rules, as a pattern cannot say what helps."""
    written = "isQuantity(string(self))"
    compared = "!isQuantity(string(self)) || quantity(string(self)).compareTo(quantity('{}')) {}"
    rules = [
        rule(written, "must be a quantity such as 512Mi or 20Gi (GiB and GB are none)"),
        rule(compared.format(least, ">= 0"), f"must be at least {least}"),
        rule(compared.format("8Ei", "< 0"), "must be less than 8Ei"),
    ]
    return {
        "x-kubernetes-int-or-string": True,
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "maxLength": 64,
        "description": description,
        "x-kubernetes-validations": rules,
    }


def formed(description: str, pattern: str, message: str, **more: Any) -> Obj:
    """A string of a form that `message` puts into words, which an error of a `pattern` would not."""
    return string(description, **{"x-kubernetes-validations": [rule(f"self.matches(r'{pattern}')", message)]}, **more)


def struct(description: str, properties: Obj, **more: Any) -> Obj:
    return {"type": "object", "description": description, "properties": properties, **more}


def array(description: str, items: Obj, **more: Any) -> Obj:
    return {"type": "array", "description": description, "items": items, **more}


def rule(expression: str, message: str, **more: Any) -> Obj:
    """One entry of `x-kubernetes-validations`."""
    return {"rule": expression, "message": message, **more}


def conditions_schema() -> Obj:
    """metav1.Condition, keyed by type."""
    entry = struct(
        "One aspect of the object's state.",
        {
            "type": string("Which aspect."),
            "status": string("True, False or Unknown.", enum=["True", "False", "Unknown"]),
            "reason": string("Machine-readable cause of the last transition."),
            "message": string("The same for people."),
            "observedGeneration": integer("Generation of the spec that this was set for."),
            "lastTransitionTime": timestamp("When `status` last changed."),
        },
        required=["type", "status"],
    )
    return array(
        "Standard conditions.", entry, **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    )


def root_schema(description: str, spec: Obj, status: Obj, **more: Any) -> Obj:
    """The schema of a whole object; apiVersion, kind and metadata are checked by the server itself."""
    return struct(
        description,
        {
            "apiVersion": string("Version of this representation of the object."),
            "kind": string("The kind of the object."),
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
        **more,
    )
