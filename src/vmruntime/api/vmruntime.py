"""VMRuntime: the one switch. Its definition, what it consents to, and what it says about its preflight check."""

from __future__ import annotations

from dataclasses import dataclass

from kube.machinery.resources import Resource
from vmruntime.api import names
from vmruntime.api.meta import (
    AGE,
    Column,
    Obj,
    annotation,
    boolean,
    conditions_schema,
    crd,
    dig,
    integer,
    root_schema,
    rule,
    string,
    struct,
)

RESOURCE = Resource(names.GROUP, names.VERSION, "vmruntimes", "VMRuntime", namespaced=False)

# The documents' prose and release notes; one comment in their samples says qcow2.
DEFAULT_IMAGE_FORMAT = "raw"
IMAGE_FORMATS = ("raw", "qcow2")


def definition() -> Obj:
    """The CustomResourceDefinition; present from installation to removal, whether VMs are switched on or not."""
    spec = struct(
        "What is wanted of VM Runtime.",
        {
            "enabled": boolean("Whether virtual machines can run in this cluster.", default=False),
            "useEmulation": boolean(
                "Run VMs in software emulation and leave /dev/kvm alone. For nodes without usable hardware "
                "virtualisation; hardware is much faster.",
                default=False,
            ),
            "vmImageFormat": string(
                "Format in which new disks are stored. Unset means raw; status.vmImageFormat shows what is in effect.",
                enum=list(IMAGE_FORMATS),
            ),
        },
        default={},
    )
    schema = root_schema(
        "VMRuntime switches virtual machines on and off in the cluster. There is exactly one, named vmruntime.",
        spec,
        _status(),
        **{
            "x-kubernetes-validations": [
                rule(
                    f"self.metadata.name == '{names.RUNTIME_NAME}'",
                    f"there is only one VMRuntime and its name is {names.RUNTIME_NAME}",
                )
            ]
        },
    )
    return crd(
        RESOURCE,
        singular="vmruntime",
        short_names=(),
        columns=(
            Column("Enabled", ".spec.enabled", "boolean"),
            Column("Ready", ".status.ready", "boolean"),
            Column(
                "PreflightCheck",
                ".status.preflightCheckSummary.preflightCheckPassed",
                "boolean",
                "Whether the newest preflight check passed.",
            ),
            AGE,
        ),
        schema=schema,
    )


def _status() -> Obj:
    summary = struct(
        "Name and result of the newest finished preflight check.",
        {
            "preflightCheckName": string("Name of the VMRuntimePreflightCheck in namespace vm-system."),
            "preflightCheckPassed": boolean("Whether it passed. VMs cannot be created while this is false."),
            "useEmulation": boolean("The useEmulation setting that was checked."),
            "message": string("Why it failed, in one sentence."),
            "featureStatuses": {
                "type": "object",
                "description": "Result by feature, over all nodes.",
                "additionalProperties": struct(
                    "One feature.", {"passed": boolean("Whether every node that was checked has it.")}
                ),
            },
        },
    )
    return struct(
        "What is true of VM Runtime.",
        {
            "ready": boolean("Every component of the running stack is up and answers."),
            "vmImageFormat": string("The disk format in effect."),
            "preflightCheckSummary": summary,
            "observedGeneration": integer("Generation of the spec that this status belongs to."),
            "conditions": conditions_schema(),
        },
    )


def initial_object() -> Obj:
    """The object that installation leaves: present and off."""
    return {
        "apiVersion": RESOURCE.api_version,
        "kind": RESOURCE.kind,
        "metadata": {"name": names.RUNTIME_NAME},
        "spec": {"enabled": False},
    }


def is_enabled(obj: Obj | None) -> bool:
    return dig(obj, "spec", "enabled", default=False) is True


def uses_emulation(obj: Obj | None) -> bool:
    return dig(obj, "spec", "useEmulation", default=False) is True


def image_format(obj: Obj | None) -> str:
    """The effective disk format."""
    return str(dig(obj, "spec", "vmImageFormat", default=DEFAULT_IMAGE_FORMAT))


def consents_to_loss(obj: Obj) -> bool:
    """Whether deleting VMs on disable was agreed to: for good, or for this one disable.

    "True" counts too: the documentation's table has it so, its text "true".
    """
    keys = (*names.FORCE_DISABLE_ANNOTATIONS, names.DELETE_VMS_ANNOTATION)
    return any(annotation(obj, key).lower() == "true" for key in keys)


def keeps_disks(obj: Obj) -> bool:
    return annotation(obj, names.KEEP_DISKS_ANNOTATION) == "true"


def one_time_annotations(obj: Obj) -> list[str]:
    """Keys of the annotations that hold for one disable only and are present."""
    present = dig(obj, "metadata", "annotations", default={})
    return [key for key in (names.DELETE_VMS_ANNOTATION, names.KEEP_DISKS_ANNOTATION) if key in present]


@dataclass(frozen=True, slots=True)
class Summary:
    """`status.preflightCheckSummary`, read."""

    name: str
    passed: bool
    use_emulation: bool
    message: str


def preflight_summary(obj: Obj | None) -> Summary | None:
    """The newest finished check's summary, None before the first one since enabling."""
    summary = dig(obj, "status", "preflightCheckSummary")
    if not summary or "preflightCheckPassed" not in summary:
        return None
    return Summary(
        str(summary.get("preflightCheckName", "")),
        summary["preflightCheckPassed"] is True,
        summary.get("useEmulation") is True,
        str(summary.get("message", "")),
    )
