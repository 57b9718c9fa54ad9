"""VirtualMachine: a machine, what it is made of and whether it should run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kube.machinery.quantity import quantity_to_int
from kube.machinery.resources import Resource
from vmruntime.api import machine_fields, names, network
from vmruntime.api.machine_fields import DEFAULT_MEMORY, DEFAULT_VCPUS
from vmruntime.api.meta import (
    AGE,
    Column,
    Obj,
    annotation,
    array,
    boolean,
    conditions_schema,
    crd,
    dig,
    integer,
    root_schema,
    rule,
    string,
    struct,
    timestamp,
)

RESOURCE = Resource(names.GROUP, names.VERSION, "virtualmachines", "VirtualMachine")

PROVISIONING = "Provisioning"
PENDING = "Pending"
STARTING = "Starting"
RUNNING = "Running"
STOPPING = "Stopping"
STOPPED = "Stopped"
ERROR_CONFIGURATION = "ErrorConfiguration"
CRASH_LOOP = "CrashLoopBackOff"
STATES = (PROVISIONING, PENDING, STARTING, RUNNING, STOPPING, STOPPED, ERROR_CONFIGURATION, CRASH_LOOP)

RUN_ALWAYS = "Running"
RUN_ON_FAILURE = "RerunOnFailure"
RUN_NEVER = "Stopped"

DEFAULT_GRACE_SECONDS = 30


def definition() -> Obj:
    """The CustomResourceDefinition; there while the runtime is enabled, or while VMs exist."""
    schema = root_schema(
        "VirtualMachine is a machine that runs in the cluster.",
        _spec(),
        _status(),
        **{
            "x-kubernetes-validations": [
                rule(
                    "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 63",
                    "metadata.name must consist of lowercase letters, digits or '-', start and end with a letter "
                    "or digit, and be no longer than 63 characters",
                )
            ]
        },
    )
    return crd(
        RESOURCE,
        singular="virtualmachine",
        short_names=("gvm",),
        columns=(
            Column("Status", ".status.state"),
            AGE,
            Column("IP", ".status.interfaces[0].ipAddresses[0]"),
            Column("Node", ".status.nodeName", wide=True),
            Column("Accelerator", ".status.accelerator", wide=True),
            Column("Message", ".status.message", wide=True),
        ),
        schema=schema,
    )


def _spec() -> Obj:
    return struct(
        "What is wanted of the machine.",
        {
            "compute": machine_fields.compute(),
            "disks": machine_fields.disks(),
            "interfaces": machine_fields.interfaces(),
            "cloudInit": struct("Start-up configuration for cloud-init.", {"noCloud": machine_fields.no_cloud()}),
            "firmware": machine_fields.firmware(),
            "scheduling": machine_fields.scheduling(),
            "startupScripts": machine_fields.startup_scripts(),
            "osType": string("Operating system of the guest.", enum=["Linux", "Windows"]),
            "guestEnvironment": struct(
                "Where osType is set the guest agent is used, unless this is an empty object. Its content is ignored.",
                {},
                **{"x-kubernetes-preserve-unknown-fields": True},
            ),
            "autoRestartOnConfigurationChange": boolean(
                "Restart a running machine when a change of its spec needs that. Without it such a change waits for "
                "the next start, and the condition RestartRequired says so."
            ),
            "runningState": string(
                "Running: kept running, and started again when the guest powers itself off. RerunOnFailure: a guest "
                "that powers itself off stays off, one that crashed is started again. Stopped: kept off.",
                enum=[RUN_ALWAYS, RUN_ON_FAILURE, RUN_NEVER],
                default=RUN_ALWAYS,
            ),
            "terminationGracePeriodSeconds": integer(
                "How long the guest has to shut down after the power button was pressed, before it is cut off.",
                minimum=0,
                maximum=3600,
                default=DEFAULT_GRACE_SECONDS,
            ),
        },
        default={},
        **{
            "x-kubernetes-validations": [
                rule(
                    "!has(self.startupScripts) || self.startupScripts.size() == 0 || !has(self.cloudInit)",
                    "give either cloudInit or startupScripts: one excludes the other",
                ),
                rule(
                    "!has(self.startupScripts) || self.startupScripts.size() == 0 || !has(self.osType) || "
                    "self.osType != 'Windows'",
                    "startupScripts need a Linux guest with cloud-init",
                ),
            ]
        },
    )


def _status() -> Obj:
    port = struct("A port of the guest.", {"guest": integer("In the guest."), "host": integer("On the address.")})
    interface = struct(
        "A network interface as it is.",
        {
            "name": string("Name of the interface."),
            "networkName": string("Its network."),
            "ipAddresses": array("Its addresses; none that a DHCP server of others gave it.", string("An address.")),
            "macAddress": string("Its hardware address."),
            "gateway4": string("Its gateway."),
            "routes": network.routes(),
            "dnsConfig": network.dns_config(),
            "resourceName": string("Its NetworkInterface object."),
            "ports": array("Ports of the guest that can be reached on the address; all where there is no list.", port),
        },
    )
    timings = struct(
        "How long stages took, in seconds.",
        {
            "disksReadySeconds": {"type": "number", "description": "From creation until every disk was usable."},
            "qemuStartedSeconds": {"type": "number", "description": "From the last request to start until it ran."},
        },
    )
    return struct(
        "What is true of the machine.",
        {
            "state": string("Where the machine stands.", enum=list(STATES)),
            "reason": string("Machine-readable cause of the state."),
            "message": string("The same for people."),
            "interfaces": array(
                "The network interfaces; address and MAC stay as long as the machine exists.", interface
            ),
            "compute": struct(
                "What the machine that runs was given.",
                {"vcpus": integer("Virtual CPUs."), "memory": string("Memory of the guest.")},
            ),
            "disks": array(
                "The disks that the machine that runs was given; it has them until it ends, whatever the spec says.",
                struct("A disk.", {"name": string("Its name."), "readOnly": boolean("Whether it cannot be written.")}),
            ),
            "guest": _guest(),
            "accelerator": string("kvm or tcg (software emulation)."),
            "podName": string("The pod in which the machine runs."),
            "nodeName": string("The node on which it runs."),
            "timings": timings,
            "launches": integer("How often the machine was started."),
            "restarts": integer("How often it was started again by itself."),
            "failures": integer("Failures in a row; they set how long the next restart waits."),
            "lastFailureTime": timestamp("When it last ended unasked."),
            "lastFailedPod": string("The pod that ended unasked last."),
            "restartedAt": string("The last request to start or restart that was carried out."),
            "stopRequestedAt": timestamp("Since when the guest is being asked to shut down."),
            "observedGeneration": integer("Generation of the spec that this status belongs to."),
            "conditions": conditions_schema(),
        },
    )


def _guest() -> Obj:
    card = struct(
        "A network card as the guest sees it.",
        {
            "name": string("Its name in the guest."),
            "macAddress": string("Its hardware address."),
            "ipAddresses": array("Its addresses with prefix lengths.", string("An address.")),
        },
    )
    return struct(
        "What the guest says of itself by its agent, while that answers; the guest can say what it likes.",
        {
            "hostName": string("Its host name."),
            "osName": string("Name and version of its operating system."),
            "kernelRelease": string("Release of its kernel."),
            "interfaces": array("Its network cards.", card),
        },
    )


@dataclass(frozen=True, slots=True)
class AttachedDisk:
    """One entry of `spec.disks`."""

    name: str
    boot: bool
    read_only: bool
    auto_delete: bool
    driver: str


def disks(obj: Obj) -> list[AttachedDisk]:
    """`spec.disks`, with the object's and the entries' wish to be deleted with the machine applied."""
    all_go = annotation(obj, names.DELETE_DISKS_ANNOTATION) == "true"
    return [
        AttachedDisk(
            str(entry.get("virtualMachineDiskName", "")),
            entry.get("boot") is True,
            entry.get("readOnly") is True,
            all_go or entry.get("autoDelete") is True,
            str(entry.get("driver") or "virtio"),
        )
        for entry in dig(obj, "spec", "disks", default=[])
    ]


def held(obj: Obj) -> dict[str, bool]:
    """The disks that the machine wants or has, and of each whether nothing is written to it."""
    result = {disk.name: disk.read_only for disk in disks(obj)}
    for entry in dig(obj, "status", "disks", default=[]):
        name = str(entry.get("name"))
        result[name] = result.get(name, True) and entry.get("readOnly") is True
    return result


def opened(obj: Obj) -> dict[str, bool]:
    """The disks that the machine has open, and of each whether it only reads; what it wants, while that isn't known."""
    if not dig(obj, "status", "podName"):
        return {}
    told = dig(obj, "status", "disks")
    if told is None:
        return held(obj)
    return {str(entry.get("name")): entry.get("readOnly") is True for entry in told}


def users_of(disk_name: str, machines: Iterable[Obj]) -> list[Obj]:
    """The machines that list the disk or have it, by name. `machines` must be of the disk's namespace."""
    users = [vm for vm in machines if disk_name in held(vm)]
    return sorted(users, key=lambda vm: str(dig(vm, "metadata", "name")))


@dataclass(frozen=True, slots=True)
class Compute:
    """Processors, and memory of the guest in bytes."""

    vcpus: int
    memory: int


def type_name(obj: Obj) -> str:
    """The VirtualMachineType that the machine refers to; empty if it has numbers of its own."""
    return str(dig(obj, "spec", "compute", "virtualMachineTypeName", default=""))


def compute(obj: Obj, machine_type: Obj | None) -> Compute:
    """Processors and memory: the type's where there is one, else the machine's own. ValueError for a bad quantity."""
    given = dig(machine_type, "spec") if machine_type is not None else dig(obj, "spec", "compute")
    return Compute(
        int(dig(given, "cpu", "vcpus", default=DEFAULT_VCPUS)),
        quantity_to_int(dig(given, "memory", "capacity", default=DEFAULT_MEMORY)),
    )


def interfaces(obj: Obj) -> list[Obj]:
    """`spec.interfaces`, or the one interface that a machine has by default; each with its `networkName`."""
    listed = dig(obj, "spec", "interfaces", default=[{"name": "eth0", "default": True}])
    return [{**entry, "networkName": entry.get("networkName") or names.POD_NETWORK} for entry in listed]


def os_type(obj: Obj) -> str:
    """`Linux`, `Windows`, or empty where it is not said."""
    return str(dig(obj, "spec", "osType", default=""))


def uses_guest_agent(obj: Obj) -> bool:
    """Whether the machine is to have a channel for a guest agent (documentation, "Connect to VMs")."""
    return bool(os_type(obj)) and dig(obj, "spec", "guestEnvironment") != {}


def network_names(obj: Obj) -> set[str]:
    """The networks that the machine wants, and those that the running one has."""
    entries = [*interfaces(obj), *dig(obj, "status", "interfaces", default=[])]
    return {str(entry.get("networkName") or names.POD_NETWORK) for entry in entries}


def running_state(obj: Obj) -> str:
    return str(dig(obj, "spec", "runningState", default=RUN_ALWAYS))


def restarts_on_change(obj: Obj) -> bool:
    return dig(obj, "spec", "autoRestartOnConfigurationChange") is True


def grace_seconds(obj: Obj) -> int:
    return int(dig(obj, "spec", "terminationGracePeriodSeconds", default=DEFAULT_GRACE_SECONDS))
