"""VirtualMachineAccessRequest: somebody wants into a machine, with an SSH key for a while or with a new password."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime, timedelta

from kube.machinery.durations import parse_rfc3339
from kube.machinery.resources import Resource
from vmruntime.api import names
from vmruntime.api.meta import (
    AGE,
    Column,
    Obj,
    annotation,
    conditions_schema,
    crd,
    dig,
    integer,
    root_schema,
    rule,
    string,
    struct,
    timestamp,
    uid_of,
)

RESOURCE = Resource(names.GROUP, names.VERSION, "virtualmachineaccessrequests", "VirtualMachineAccessRequest")

PENDING = "pending"
CONFIGURED = "configured"
EXPIRED = "expired"
FAILED = "failed"
STATES = (PENDING, CONFIGURED, EXPIRED, FAILED)

PASSWORD_SECRET_TYPE = f"{names.GROUP}/password"
"""Only Secrets of this type are read: whoever may ask for access must not get at any other Secret by it."""
PASSWORD_KEY = "password"
PASSWORD_SECONDS = 600
"""A password that could not be set this long after it was asked for is not set any more."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_KEY_TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
_KEY_LIMIT = 8192


def definition() -> Obj:
    """The CustomResourceDefinition; there while the runtime is enabled."""
    schema = root_schema(
        "VirtualMachineAccessRequest lets somebody into a virtual machine, by way of the guest agent in it.",
        _spec(),
        _status(),
        required=["spec"],
    )
    return crd(
        RESOURCE,
        singular="virtualmachineaccessrequest",
        short_names=("vmar",),
        columns=(
            Column("VM", ".spec.vm"),
            Column("User", ".spec.user"),
            Column("State", ".status.state"),
            Column("Expires", ".status.expiryTime"),
            AGE,
            Column("Message", ".status.message", wide=True),
        ),
        schema=schema,
    )


def _spec() -> Obj:
    types = "|".join(kind.replace(".", "[.]") for kind in _KEY_TYPES)
    ssh = struct(
        "A key to log in with over SSH.",
        {
            "key": string(
                "The public key, one line as in a .pub file.",
                maxLength=_KEY_LIMIT,
                **{
                    "x-kubernetes-validations": [
                        rule(
                            f"self.matches('^({types}) [A-Za-z0-9+/]+={{0,2}}( [ -~]*)?$')",
                            "key must be one line as in a .pub file: the type, the key in base64 and at most a comment",
                        )
                    ]
                },
            ),
            "ttl": string(
                "For how long the key is let in, from the creation of this object on: a number and s, m, h or d.",
                maxLength=6,
                **{
                    "x-kubernetes-validations": [
                        rule(
                            "self.matches('^[1-9][0-9]{0,4}[smhd]$')",
                            "ttl must be a whole number and one of the units s, m, h and d, such as 10m",
                        )
                    ]
                },
            ),
        },
        required=["key", "ttl"],
    )
    secret = struct(
        f"A Secret in the same namespace, of type {PASSWORD_SECRET_TYPE}, with the data key {PASSWORD_KEY}.",
        {"name": string("Name of the Secret.", minLength=1, maxLength=253)},
        required=["name"],
    )
    return struct(
        "Who wants to get where, and how.",
        {
            "vm": string("Name of a VirtualMachine in the same namespace.", minLength=1, maxLength=63),
            "user": string(
                "Account in the guest; it is made if it is missing.",
                maxLength=32,
                **{
                    "x-kubernetes-validations": [
                        rule(
                            "self.matches('^[a-zA-Z_][a-zA-Z0-9_.-]*$')",
                            "user must begin with a letter or '_' and go on with letters, digits, '_', '.' and '-'",
                        )
                    ]
                },
            ),
            "ssh": ssh,
            "password": struct("A password to set once.", {"secretRef": secret}, required=["secretRef"]),
        },
        required=["vm", "user"],
        **{
            "x-kubernetes-validations": [
                rule("has(self.ssh) != has(self.password)", "exactly one of ssh and password must be given"),
                rule("self == oldSelf", "an access request cannot be changed; create another"),
            ]
        },
    )


def _status() -> Obj:
    return struct(
        "What has become of it.",
        {
            "state": string("Where the request stands.", enum=list(STATES)),
            "reason": string("Machine-readable cause of the state."),
            "message": string("The same for people."),
            "expiryTime": timestamp("From when on the key is not let in, or the password not set, any more."),
            "configuredTime": timestamp("When it was first done."),
            "guestToldTime": timestamp("When the guest was first told of it; it may have the key since."),
            "observedGeneration": integer("Generation of the spec that this status belongs to."),
            "conditions": conditions_schema(),
        },
    )


def machine_name(obj: Obj) -> str:
    return str(dig(obj, "spec", "vm", default=""))


def user(obj: Obj) -> str:
    return str(dig(obj, "spec", "user", default=""))


def state(obj: Obj) -> str:
    return str(dig(obj, "status", "state", default=PENDING))


def password_secret(obj: Obj) -> str:
    """Name of the Secret with the password to set; empty for a request with a key."""
    return str(dig(obj, "spec", "password", "secretRef", "name", default=""))


def is_temporary(obj: Obj) -> bool:
    """Whether nobody wants to see the object any more once it has expired."""
    return annotation(obj, names.TEMPORARY_ANNOTATION) == "true"


def expires(obj: Obj) -> datetime:
    """When the request ends."""
    created = parse_rfc3339(str(dig(obj, "metadata", "creationTimestamp")))
    ttl = str(dig(obj, "spec", "ssh", "ttl", default=f"{PASSWORD_SECONDS}s"))
    return created + timedelta(seconds=int(ttl[:-1]) * _UNITS[ttl[-1]])


def ssh_key(obj: Obj) -> str:
    """Type and base64 of the key, without its comment. ValueError, with words for people, if it is no key."""
    kind, encoded = str(dig(obj, "spec", "ssh", "key", default="")).split(" ")[:2]
    try:
        content = base64.b64decode(encoded, validate=True)
    except binascii.Error as exc:
        raise ValueError("spec.ssh.key is not base64 after its type") from exc
    # RFC 4253, section 6.6: a key begins with its type, preceded by its length.
    if not content.startswith(len(kind).to_bytes(4, "big") + kind.encode()) or len(content) <= len(kind) + 8:
        raise ValueError(f"spec.ssh.key is no public key of type {kind}")
    return f"{kind} {encoded}"


def mark(obj: Obj) -> str:
    """What stands behind the key in the guest, so that it can be found again."""
    return f"{names.GROUP}/vmar={uid_of(obj)}"
