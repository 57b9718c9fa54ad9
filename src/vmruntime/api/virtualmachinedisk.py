"""VirtualMachineDisk: a disk with a life of its own, that VMs attach by name."""

from __future__ import annotations

from kube.machinery.quantity import quantity_to_int
from kube.machinery.resources import Resource
from vmruntime.api import names
from vmruntime.api.meta import (
    AGE,
    Column,
    Obj,
    array,
    bytes_wanted,
    conditions_schema,
    crd,
    dig,
    formed,
    integer,
    quantity,
    root_schema,
    rule,
    string,
    struct,
    timestamp,
)

RESOURCE = Resource(names.GROUP, names.VERSION, "virtualmachinedisks", "VirtualMachineDisk")

PENDING = "Pending"
IMPORTING = "ImportInProgress"
SUCCEEDED = "Succeeded"
FAILED = "Failed"
ERROR_CONFIGURATION = "ErrorConfiguration"
PHASES = (PENDING, IMPORTING, SUCCEEDED, FAILED, ERROR_CONFIGURATION)

_URL_LIMIT = 4096
_NAME_LIMIT = 253


def definition() -> Obj:
    """The CustomResourceDefinition; there while the runtime is enabled, or while disks exist."""
    schema = root_schema(
        "VirtualMachineDisk is a disk that virtual machines can attach.",
        _spec(),
        _status(),
        required=["spec"],
        **{
            "x-kubernetes-validations": [
                rule("self.metadata.name.size() <= 63", "metadata.name must be no longer than 63 characters"),
                rule(
                    "!has(self.spec.source) || !has(self.spec.source.virtualMachineDisk) || "
                    "self.spec.source.virtualMachineDisk.name != self.metadata.name",
                    "a disk cannot be a copy of itself",
                ),
                # One that asked for more than it can get can be asked for less again, down to what it has.
                rule(
                    f"!isQuantity(string(self.spec.size)) || {_at_least('oldSelf.spec.size')} || has(oldSelf.status) "
                    f"&& (has(oldSelf.status.virtualSize) ? {_at_least('oldSelf.status.virtualSize')} : "
                    f"has(oldSelf.status.phase) && oldSelf.status.phase in ['{FAILED}', '{ERROR_CONFIGURATION}'])",
                    "a disk can grow but not shrink",
                    fieldPath=".spec.size",
                ),
            ]
        },
    )
    return crd(
        RESOURCE,
        singular="virtualmachinedisk",
        short_names=("gvmdisk", "vmdisk"),
        columns=(
            Column("Phase", ".status.phase"),
            Column("Progress", ".status.progress"),
            Column("Size", ".spec.size"),
            Column("Format", ".status.format"),
            AGE,
            Column("Attached-To", ".status.attachedTo", wide=True),
            Column("Message", ".status.message", wide=True),
        ),
        schema=schema,
    )


def _at_least(size: str) -> str:
    """The condition, in CEL, that `spec.size` is no less than `size`."""
    return f"quantity(string(self.spec.size)).compareTo(quantity(string({size}))) >= 0"


def _web(description: str, address: str, secret: str) -> Obj:
    """A source that is reached by HTTP."""
    return struct(
        description,
        {
            "url": formed(
                f"{address} Credentials in it are refused: they would show in process lists.",
                r"^https?://[^/@\s]+(/\S*)?$",
                "must be an address that begins with http:// or https://, without user and password in it: these "
                "belong into the Secret that secretRef names",
                maxLength=_URL_LIMIT,
            ),
            "checksum": formed(
                "What the source has to be, as it is downloaded: sha256: and 64 hex digits, or sha512: and 128.",
                "^(sha256:[0-9a-fA-F]{64}|sha512:[0-9a-fA-F]{128})$",
                "must be sha256: and 64 hexadecimal digits, or sha512: and 128",
                maxLength=135,
            ),
            "secretRef": _secret(secret),
            "certConfigMap": _certificates(),
        },
        required=["url"],
    )


def _secret(what: str) -> Obj:
    return string(f"Name of a Secret of the disk's namespace {what}", minLength=1, maxLength=_NAME_LIMIT)


def _certificates() -> Obj:
    return string(
        "Name of a ConfigMap of the disk's namespace. Each of its keys holds certificates (PEM) of "
        "authorities that are trusted for this server besides the usual ones.",
        minLength=1,
        maxLength=_NAME_LIMIT,
    )


def _spec() -> Obj:
    http = _web(
        "An HTTP or HTTPS server.",
        "Address of the image.",
        "for basic authentication, with the keys accessKeyId and secretKey, or username and password.",
    )
    s3 = _web(
        "An object of Amazon S3 or what is compatible with it.",
        "Address of the object: https://HOST/BUCKET/KEY or https://BUCKET.HOST/KEY.",
        "with the keys accessKeyId and secretKey. Left out: a public object.",
    )
    gcs = struct(
        "An object of Google Cloud Storage.",
        {
            "url": formed(
                "gs://BUCKET/OBJECT", r"^gs://[a-z0-9._-]+/\S", "must be gs://BUCKET/OBJECT", maxLength=_URL_LIMIT
            ),
            "secretRef": _secret("with the key creds-gcp.json. Left out: a public object."),
        },
        required=["url"],
    )
    registry = struct(
        "A container image with one disk in its directory /disk.",
        {
            "url": formed(
                "docker://HOST/REPOSITORY[:TAG][@DIGEST] of a registry; oci:///DIRECTORY[:TAG] or "
                "oci-archive:///FILE[:TAG] on the node, in one of the directories that the cluster's owner allowed.",
                r"^(docker://[^/@\s]+/[^\s?#]+|oci(-archive)?:///[^\s?#]+)$",
                "must be docker://HOST/REPOSITORY[:TAG][@DIGEST], oci:///DIRECTORY[:TAG] or oci-archive:///FILE[:TAG]",
                maxLength=_URL_LIMIT,
            ),
            "secretRef": _secret(
                "with the keys accessKeyId and secretKey, or username and password, or of type "
                "kubernetes.io/dockerconfigjson (or dockercfg) with an entry for the registry."
            ),
            "certConfigMap": _certificates(),
        },
        required=["url"],
    )
    clone = struct(
        "Another disk of the namespace; it is copied as soon as no machine writes to it.",
        {"name": string("Its name.", minLength=1, maxLength=_NAME_LIMIT)},
        required=["name"],
    )
    file = struct(
        "A file on the node, in one of the directories that the cluster's owner allowed.",
        {"url": formed("file:///ABSOLUTE/PATH", r"^file:///\S", "must be file:///ABSOLUTE/PATH", maxLength=_URL_LIMIT)},
        required=["url"],
    )
    source = struct(
        "Where the disk's first content comes from. Left out: a blank disk.",
        {
            "http": http,
            "s3": s3,
            "gcs": gcs,
            "registry": registry,
            "file": file,
            "virtualMachineDisk": clone,
        },
        **{
            "x-kubernetes-validations": [
                rule(
                    "[has(self.http), has(self.s3), has(self.gcs), has(self.registry), has(self.file), "
                    "has(self.virtualMachineDisk)].filter(given, given).size() == 1",
                    "exactly one of http, s3, gcs, registry, file and virtualMachineDisk must be given",
                )
            ]
        },
    )
    return struct(
        "What is wanted of the disk.",
        {
            "size": bytes_wanted(
                "Size that the guest sees. It can grow, and must not be smaller than the image of the source.", "1"
            ),
            "source": source,
            "storageClassName": string("Storage class of the disk, where the cluster has storage classes."),
            "diskType": string("cdrom for a CD-ROM; left out for a disk.", enum=["cdrom"]),
        },
        required=["size"],
        **{
            "x-kubernetes-validations": [
                rule(
                    "has(self.source) == has(oldSelf.source) && (!has(self.source) || self.source == oldSelf.source)",
                    "the source of a disk cannot be changed; create another disk",
                    fieldPath=".source",
                )
            ]
        },
    )


def _status() -> Obj:
    return struct(
        "What is true of the disk.",
        {
            "phase": string("Where the disk stands.", enum=list(PHASES)),
            "progress": string("How much of the source is in, in percent, such as 45.3%."),
            "rate": string("How fast the source comes in, such as 93.1 MB/s; while it does."),
            "format": string("Format in which the disk is stored."),
            "virtualSize": quantity("Size in effect, which a guest sees."),
            "sourceFormat": string("Format that the source turned out to have, such as qcow2.xz."),
            "sourceSize": quantity("Size of the source as it was transferred."),
            "sourceChecksum": string("SHA-256 of the source as it was transferred, where all of it was read."),
            "reason": string("Machine-readable cause of the phase."),
            "message": string("The same for people."),
            "attachedTo": array("Names of the virtual machines that list this disk.", string("A name.")),
            "failures": integer(
                "Imports in a row that failed for what may pass; they set how long the next one waits."
            ),
            "lastFailureTime": timestamp("When the last one of these failed."),
            "readyTime": timestamp("When the disk became usable."),
            "observedGeneration": integer("Generation of the spec that this status belongs to."),
            "conditions": conditions_schema(),
        },
    )


def size_bytes(obj: Obj) -> int:
    """The size asked for, in bytes. ValueError if it isn't a quantity."""
    return quantity_to_int(dig(obj, "spec", "size", default=0))


def addressed_source(obj: Obj) -> tuple[str, Obj] | None:
    """Which kind of source with a URL it has, and what `spec.source` has under it; None: a blank disk or a copy."""
    for kind in ("http", "s3", "gcs", "registry", "file"):
        if source := dig(obj, "spec", "source", kind):
            return kind, source
    return None


def clone_name(obj: Obj) -> str:
    """The name of the disk that this one is a copy of, empty if it is none."""
    return str(dig(obj, "spec", "source", "virtualMachineDisk", "name", default=""))


def is_cdrom(obj: Obj | None) -> bool:
    return bool(dig(obj, "spec", "diskType") == "cdrom")


def is_ready(obj: Obj) -> bool:
    return str(dig(obj, "status", "phase", default="")) == SUCCEEDED


def is_tried_again(obj: Obj) -> bool:
    """Whether its import failed for what may pass."""
    return bool(dig(obj, "status", "lastFailureTime"))
