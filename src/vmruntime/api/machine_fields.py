"""The fields of `VirtualMachine.spec`: their schemas, with the rules and the words of their refusals."""

from __future__ import annotations

from vmruntime.api import names, network
from vmruntime.api.meta import Obj, array, boolean, bytes_wanted, formed, integer, rule, string, struct

DEFAULT_VCPUS = 2
DEFAULT_MEMORY = "4Gi"
# Documented limit of start-up data written into the object itself.
INLINE_LIMIT = 2048
_TEXT_BOUND = 65536


def cpu(**more: object) -> Obj:
    """`cpu.vcpus`, of a machine and of a machine type."""
    return struct("Processors.", {"vcpus": integer("Number of virtual CPUs.", minimum=1, maximum=255)}, **more)


def memory(**more: object) -> Obj:
    """`memory.capacity`, of a machine and of a machine type."""
    return struct("Memory.", {"capacity": bytes_wanted("Memory of the guest.", "1Mi")}, **more)


def compute() -> Obj:
    """Numbers, or the name of a type that has them. No defaults of the schema: they would hide which was given."""
    return struct(
        f"Processors and memory; {DEFAULT_VCPUS} CPUs and {DEFAULT_MEMORY} where they are left out.",
        {
            "cpu": cpu(),
            "memory": memory(),
            "virtualMachineTypeName": string(
                "Name of a VirtualMachineType that says how many CPUs and how much memory.", minLength=1, maxLength=253
            ),
        },
        **{
            "x-kubernetes-validations": [
                rule(
                    "!has(self.virtualMachineTypeName) || !has(self.cpu) && !has(self.memory)",
                    "give either virtualMachineTypeName or cpu and memory: the type says both",
                )
            ]
        },
    )


def firmware() -> Obj:
    """BIOS or UEFI, and what the machine says of itself."""
    boot_loader = struct(
        "What starts the guest.",
        {
            "type": string("bios (default) or uefi.", enum=["bios", "uefi"]),
            "enableSecureBoot": boolean("Start only what is signed with keys that the firmware knows; needs uefi."),
        },
        **{
            "x-kubernetes-validations": [
                rule(
                    "!has(self.enableSecureBoot) || !self.enableSecureBoot || has(self.type) && self.type == 'uefi'",
                    "enableSecureBoot needs type uefi",
                )
            ]
        },
    )
    return struct(
        "Firmware.",
        {
            "bootloader": boot_loader,
            "uuid": formed(
                "The machine's UUID in its SMBIOS data; the object's own uid where it is left out.",
                "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
                "must be a UUID such as 01234567-89ab-cdef-0123-456789abcdef",
                maxLength=36,
            ),
            "serial": formed(
                "The machine's serial number in its SMBIOS data.",
                "^[!-~]([ -~]{0,62}[!-~])?$",
                "must be 1 to 64 printable ASCII characters, without a space at either end",
                maxLength=64,
            ),
        },
    )


def scheduling() -> Obj:
    """Fields of a Pod, as far as they are about nodes."""
    effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"]
    toleration = struct(
        "Taints that the machine does not mind.",
        {
            "key": string("Key of the taint; every key where it is left out.", maxLength=317),
            "operator": string(
                "Equal (default): key and value are equal. Exists: any value.", enum=["Equal", "Exists"]
            ),
            "value": string("Value of the taint.", maxLength=63),
            "effect": string("Effect of the taint; every effect where it is left out.", enum=effects),
            "tolerationSeconds": integer("For how long; of no effect here, as nodes do not drain machines."),
        },
    )
    preferred = struct(
        "A wish among nodes.",
        {"weight": integer("From 1 to 100.", minimum=1, maximum=100), "preference": _node_term()},
        required=["weight", "preference"],
    )
    required = struct(
        "One of these has to match.",
        {"nodeSelectorTerms": array("Alternatives.", _node_term(), minItems=1, maxItems=64)},
        required=["nodeSelectorTerms"],
    )
    node_affinity = struct(
        "Rules about labels of nodes.",
        {
            "requiredDuringSchedulingIgnoredDuringExecution": required,
            "preferredDuringSchedulingIgnoredDuringExecution": array("Wishes.", preferred, maxItems=64),
        },
    )
    return struct(
        "On which nodes the machine may start, as in a Pod. A change counts from the next start on.",
        {
            "nodeSelector": {
                "type": "object",
                "description": "Labels that the node must have.",
                "additionalProperties": {"type": "string"},
                "maxProperties": 64,
            },
            "tolerations": array("Taints that the machine does not mind.", toleration, maxItems=64),
            "affinity": struct(
                "Affinity.",
                {
                    "nodeAffinity": node_affinity,
                    "podAffinity": _neighbours("beside which it may start"),
                    "podAntiAffinity": _neighbours("beside which it must not start"),
                },
            ),
        },
    )


def _neighbours(which: str) -> Obj:
    """`podAffinity` or `podAntiAffinity`; `namespaceSelector` and what Kubernetes added later are not there."""
    selector = struct(
        "Labels of the VirtualMachines; an empty one selects all, none where it is left out.",
        {
            "matchLabels": {
                "type": "object",
                "description": "Labels that they have.",
                "additionalProperties": {"type": "string"},
                "maxProperties": 64,
            },
            "matchExpressions": array(
                "Requirements.", _requirement("Key of a label.", ["In", "NotIn", "Exists", "DoesNotExist"]), maxItems=16
            ),
        },
    )
    term = struct(
        "Machines, and what counts as beside.",
        {
            "labelSelector": selector,
            "namespaces": array(
                "Their namespaces; the machine's own where it is left out.", string("A name."), maxItems=64
            ),
            "topologyKey": string("Label of nodes that makes those with equal values one place.", minLength=1),
        },
        required=["topologyKey"],
    )
    weighted = struct(
        "A wish; of no effect on one node.",
        {"weight": integer("From 1 to 100.", minimum=1, maximum=100), "podAffinityTerm": term},
        required=["weight", "podAffinityTerm"],
    )
    return struct(
        f"Rules about the machines {which}.",
        {
            "requiredDuringSchedulingIgnoredDuringExecution": array("All of these count.", term, maxItems=16),
            "preferredDuringSchedulingIgnoredDuringExecution": array("Wishes.", weighted, maxItems=16),
        },
    )


def _requirement(key: str, operators: list[str]) -> Obj:
    return struct(
        "A requirement.",
        {
            "key": string(key, minLength=1, maxLength=317),
            "operator": string("How key and values relate.", enum=operators),
            "values": array(
                "Values; one whole number for Gt and Lt, none for Exists and DoesNotExist.",
                string("A value.", maxLength=253),
                maxItems=64,
            ),
        },
        required=["key", "operator"],
        **{
            "x-kubernetes-validations": [
                rule(
                    "!(self.operator in ['In', 'NotIn']) || has(self.values) && self.values.size() > 0",
                    "In and NotIn need values",
                ),
                rule(
                    "!(self.operator in ['Gt', 'Lt']) || has(self.values) && self.values.size() == 1 && "
                    "self.values[0].matches('^-?[0-9]{1,18}$')",
                    "Gt and Lt need one whole number",
                ),
            ]
        },
    )


def _node_term() -> Obj:
    operators = ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    requirement = _requirement("Key of a label, or metadata.name as a field.", operators)
    return struct(
        "Requirements that hold together.",
        {
            "matchExpressions": array("About labels.", requirement, maxItems=64),
            "matchFields": array("About fields; metadata.name is the only one.", requirement, maxItems=8),
        },
    )


def disks() -> Obj:
    disk = struct(
        "A disk of the machine.",
        {
            "virtualMachineDiskName": string(
                "Name of a VirtualMachineDisk in the same namespace. Its first 20 characters are the disk's serial "
                "number in the guest.",
                minLength=1,
                maxLength=63,
            ),
            "boot": boolean("Boot from this disk. Without any such mark the first disk is tried first."),
            "readOnly": boolean("The guest cannot write to it; other machines may attach it read-only as well."),
            "autoDelete": boolean("Delete the VirtualMachineDisk together with the machine."),
            "driver": string("How the disk is presented to the guest.", enum=["virtio", "scsi", "sata"]),
        },
        required=["virtualMachineDiskName"],
    )
    return array(
        "The disks, in the order in which the guest sees them.",
        disk,
        maxItems=32,
        **{
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["virtualMachineDiskName"],
            "x-kubernetes-validations": [
                rule("self.filter(d, has(d.boot) && d.boot).size() <= 1", "at most one disk can be the boot disk")
            ],
        },
    )


def interfaces() -> Obj:
    interface = struct(
        "A network interface of the machine.",
        {
            "name": string(
                "Name of the interface, such as eth0.", pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$", minLength=1, maxLength=15
            ),
            # No default of the schema: `kubectl apply` of a list that leaves it out would find it changed each time.
            "networkName": string(
                f"Network that it is connected to; {names.POD_NETWORK} where it is left out.", maxLength=253
            ),
            "ipAddresses": array(
                "Static addresses, each with the mask of its subnet; the guest makes no DHCP query then.",
                formed(
                    "An IPv4 address such as 10.0.0.5/24.",
                    network.ADDRESS4_PATTERN,
                    "must be an IPv4 address with the mask of its subnet, such as 10.0.0.5/24",
                    maxLength=18,
                ),
                maxItems=16,
                **{"x-kubernetes-list-type": "set"},
            ),
            "default": boolean("Whether the default route goes here; one of several interfaces has to be it."),
        },
        required=["name"],
        **{
            "x-kubernetes-validations": [
                rule(
                    f"!has(self.ipAddresses) || self.ipAddresses.size() == 0 || has(self.networkName) && "
                    f"self.networkName != '{names.POD_NETWORK}'",
                    f"addresses on {names.POD_NETWORK} are given by the cluster; leave ipAddresses out",
                )
            ]
        },
    )
    return array(
        "The network interfaces; one on pod-network when left out.",
        interface,
        maxItems=4,
        default=[{"name": "eth0", "networkName": names.POD_NETWORK, "default": True}],
        **{
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "x-kubernetes-validations": [
                rule(
                    "self.filter(i, has(i.default) && i.default).size() <= 1",
                    "at most one interface can be the default",
                ),
                rule(
                    "self.size() < 2 || self.exists(i, has(i.default) && i.default)",
                    "one of several interfaces must be the default",
                ),
            ],
        },
    )


def _one_of(*fields: str) -> Obj:
    listed = ", ".join(f"has(self.{field})" for field in fields)
    return rule(f"[{listed}].filter(given, given).size() <= 1", f"at most one of {', '.join(fields)} can be given")


def _within_limit(field: str, secret: str) -> Obj:
    return rule(
        f"!has(self.{field}) || bytes(self.{field}).size() <= {INLINE_LIMIT}",
        f"{field} must be no longer than {INLINE_LIMIT} bytes; put longer data into a Secret and name it in {secret}",
        fieldPath=f".{field}",
    )


def _secret(key: str) -> Obj:
    return struct(
        f"A Secret in the same namespace with the data key {key}"
        + (f" (or {key.lower()})." if key != key.lower() else "."),
        {"name": string("Name of the Secret.", minLength=1, maxLength=253)},
        required=["name"],
    )


def startup_scripts() -> Obj:
    """Programs that run in the guest at every start."""
    script = struct(
        "A start-up script.",
        {
            "name": formed(
                "Its name in the guest, in /var/lib/google/startup-scripts.",
                "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
                "must be a file name: at most 63 letters, digits, '.', '_' and '-', a letter or digit first",
                maxLength=63,
            ),
            "script": formed(
                "The script as clear text; it begins with #!.",
                "^#!",
                "must begin with #! and the program that runs it, such as #!/bin/sh",
                maxLength=_TEXT_BOUND,
            ),
            "scriptBase64": string("The script in base64.", maxLength=_TEXT_BOUND),
            "scriptSecretRef": _secret("script"),
        },
        required=["name"],
        **{
            "x-kubernetes-validations": [
                rule(
                    "[has(self.script), has(self.scriptBase64), has(self.scriptSecretRef)].filter(g, g).size() == 1",
                    "exactly one of script, scriptBase64, scriptSecretRef must be given",
                ),
                _within_limit("script", "scriptSecretRef"),
                _within_limit("scriptBase64", "scriptSecretRef"),
            ]
        },
    )
    return array(
        "Scripts that cloud-init in the guest runs at every start, in this order. Not for Windows.",
        script,
        maxItems=16,
        **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


def no_cloud() -> Obj:
    text = {"maxLength": _TEXT_BOUND}
    return struct(
        "Data for cloud-init's NoCloud source, given to the guest on a CD-ROM labelled CIDATA.",
        {
            "userData": string("User data as clear text; it begins with #cloud-config.", **text),
            "userDataBase64": string("User data in base64.", **text),
            "secretRef": _secret("userData"),
            "networkData": string("Network configuration (version 2) as clear text.", **text),
            "networkDataBase64": string("Network configuration in base64.", **text),
            "networkDataSecretRef": _secret("networkData"),
        },
        **{
            "x-kubernetes-validations": [
                _one_of("userData", "userDataBase64", "secretRef"),
                _one_of("networkData", "networkDataBase64", "networkDataSecretRef"),
                rule(
                    "!has(self.userData) || self.userData.startsWith('#cloud-config')",
                    "userData must start with #cloud-config; other forms can be given in userDataBase64 or a Secret",
                    fieldPath=".userData",
                ),
                _within_limit("userData", "secretRef"),
                _within_limit("userDataBase64", "secretRef"),
                _within_limit("networkData", "networkDataSecretRef"),
                _within_limit("networkDataBase64", "networkDataSecretRef"),
            ]
        },
    )
