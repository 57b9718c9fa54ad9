"""VirtualMachineType: processors and memory under a name, for machines of all namespaces."""

from __future__ import annotations

from kube.machinery.resources import Resource
from vmruntime.api import machine_fields, names
from vmruntime.api.meta import AGE, Column, Obj, crd, name_of, root_schema, rule, struct

RESOURCE = Resource(names.GROUP, names.VERSION, "virtualmachinetypes", "VirtualMachineType", namespaced=False)

PREDEFINED_LABEL = f"{names.GROUP}/predefined-machinetype"
_EXAMPLE, _EXAMPLE_VCPUS, _EXAMPLE_MEMORY = "example-machinetype", 2, "4G"


def definition() -> Obj:
    """The CustomResourceDefinition; there while the runtime is enabled, or while types exist that somebody made."""
    spec = struct(
        "What machines of this type get.",
        {"cpu": machine_fields.cpu(required=["vcpus"]), "memory": machine_fields.memory(required=["capacity"])},
        required=["cpu", "memory"],
    )
    as_predefined = (
        f"self.metadata.name != '{_EXAMPLE}' || self.spec.cpu.vcpus == {_EXAMPLE_VCPUS} && "
        f"string(self.spec.memory.capacity) == '{_EXAMPLE_MEMORY}'"
    )
    schema = root_schema(
        "VirtualMachineType is a size of virtual machines.",
        spec,
        struct("Nothing is reported of a type.", {}),
        required=["spec"],
        **{
            "x-kubernetes-validations": [
                rule(as_predefined, f"{_EXAMPLE} is predefined and cannot be changed; create a type of another name")
            ]
        },
    )
    return crd(
        RESOURCE,
        singular="virtualmachinetype",
        short_names=("gvmtype",),
        columns=(Column("vCPUs", ".spec.cpu.vcpus", "integer"), Column("Memory", ".spec.memory.capacity"), AGE),
        schema=schema,
    )


def predefined() -> Obj:
    """The one type that comes with the runtime."""
    return {
        "apiVersion": RESOURCE.api_version,
        "kind": RESOURCE.kind,
        "metadata": {"name": _EXAMPLE, "labels": {PREDEFINED_LABEL: "true"}},
        "spec": {"cpu": {"vcpus": _EXAMPLE_VCPUS}, "memory": {"capacity": _EXAMPLE_MEMORY}},
    }


def is_predefined(obj: Obj) -> bool:
    return name_of(obj) == _EXAMPLE
