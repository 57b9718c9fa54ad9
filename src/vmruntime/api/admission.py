"""What the API server itself sees to while the runtime is on, by policies: no webhook server of ours can be orphaned.

The door is a ValidatingAdmissionPolicy that lets VMs be created only while they could run. The API server evaluates it
with the VMRuntime object as parameter, so that it closes in the same moment in which `enabled: false` is stored.
"""

from __future__ import annotations

from vmruntime.api import names, network, virtualmachine, vmruntime
from vmruntime.api.meta import Obj

POLICY_NAME = f"vmruntime-gate.{names.GROUP}"
FINALIZER_POLICY_NAME = f"vmruntime-finalizer.{names.GROUP}"
NETWORK_POLICY_NAME = f"vmruntime-networks.{names.NETWORK_GROUP}"

_API_VERSION = "admissionregistration.k8s.io/v1"
_ENABLED = "has(params.spec.enabled) && params.spec.enabled"
_SUMMARY = "params.status.preflightCheckSummary"
_PASSED = f"{_SUMMARY}.preflightCheckPassed"
_FAILED = f"has(params.status) && has({_SUMMARY}) && has({_PASSED}) && !{_PASSED}"

_CREATION_OF_MACHINES = {
    "apiGroups": [names.GROUP],
    "apiVersions": [names.VERSION],
    "operations": ["CREATE"],
    "resources": [virtualmachine.RESOURCE.plural],
}

DISABLED_MESSAGE = (
    "VM Runtime is disabled, or is being disabled; "
    "to create virtual machines set spec.enabled of vmruntime/vmruntime to true (bmctl enable vmruntime)"
)


def policy() -> Obj:
    """The policy: enabled, and the newest preflight check has not failed."""
    return {
        "apiVersion": _API_VERSION,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": POLICY_NAME},
        "spec": {
            "failurePolicy": "Fail",
            "paramKind": {"apiVersion": vmruntime.RESOURCE.api_version, "kind": vmruntime.RESOURCE.kind},
            "matchConstraints": {"resourceRules": [_CREATION_OF_MACHINES]},
            "validations": [
                {"expression": _ENABLED, "message": DISABLED_MESSAGE, "reason": "Forbidden"},
                {
                    # A closed switch is the first thing to say; preflight matters only behind it.
                    "expression": f"!({_ENABLED}) || !({_FAILED})",
                    "message": "the newest preflight check of VM Runtime failed",
                    "messageExpression": (
                        f"'the newest preflight check (' + {_SUMMARY}.preflightCheckName + ') failed: ' + "
                        f"(has({_SUMMARY}.message) ? {_SUMMARY}.message : 'see its status') + "
                        "'; virtual machines can be created once a check passes (bmctl check vmruntimepfc)'"
                    ),
                    "reason": "Forbidden",
                },
            ],
        },
    }


def finalizer_policy() -> Obj:
    """VMs have our finalizer from their creation on: a write less for each, and no moment without it.

    One that comes without, as where the policy could not be evaluated, is given it by its controller before it starts.
    """
    listed = "has(object.metadata.finalizers)"
    own = f"['{names.VM_FINALIZER}']"
    value = f"{listed} ? object.metadata.finalizers + {own} : {own}"
    return {
        "apiVersion": _API_VERSION,
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": FINALIZER_POLICY_NAME},
        "spec": {
            "failurePolicy": "Ignore",
            "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [_CREATION_OF_MACHINES]},
            "matchConditions": [
                {
                    "name": "without-it",
                    "expression": f"!{listed} || !('{names.VM_FINALIZER}' in object.metadata.finalizers)",
                }
            ],
            "mutations": [
                {
                    "patchType": "JSONPatch",
                    "jsonPatch": {
                        "expression": f'[JSONPatch{{op: "add", path: "/metadata/finalizers", value: {value}}}]'
                    },
                }
            ],
        },
    }


def finalizer_binding() -> Obj:
    """Puts `finalizer_policy` into force."""
    return {
        "apiVersion": _API_VERSION,
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": FINALIZER_POLICY_NAME},
        "spec": {"policyName": FINALIZER_POLICY_NAME},
    }


def network_policy() -> Obj:
    """Networks that machines are on, and the predefined one, cannot be deleted."""
    in_use = f"has(oldObject.metadata.annotations) && '{names.IN_USE_ANNOTATION}' in oldObject.metadata.annotations"
    in_use += f" && oldObject.metadata.annotations['{names.IN_USE_ANNOTATION}'] == 'true'"
    own = f"request.userInfo.username == '{names.MANAGER_USER}'"
    return {
        "apiVersion": _API_VERSION,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": NETWORK_POLICY_NAME},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": [names.NETWORK_GROUP],
                        "apiVersions": [names.VERSION],
                        "operations": ["DELETE"],
                        "resources": [network.RESOURCE.plural],
                    }
                ]
            },
            "validations": [
                {
                    "expression": f"oldObject.metadata.name != '{names.POD_NETWORK}' || {own}",
                    "message": f"{names.POD_NETWORK} is predefined and cannot be deleted",
                    "reason": "Forbidden",
                },
                {
                    "expression": f"!({in_use}) || {own}",
                    "message": "the network is in use; delete the virtual machines that are on it, or take their "
                    "interfaces off it, first",
                    "reason": "Forbidden",
                },
            ],
        },
    }


def network_binding() -> Obj:
    """Puts `network_policy` into force."""
    return {
        "apiVersion": _API_VERSION,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": NETWORK_POLICY_NAME},
        "spec": {"policyName": NETWORK_POLICY_NAME, "validationActions": ["Deny"]},
    }


def binding() -> Obj:
    """Binds the policy to the one VMRuntime; without that object nothing is let in."""
    return {
        "apiVersion": _API_VERSION,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": POLICY_NAME},
        "spec": {
            "policyName": POLICY_NAME,
            "paramRef": {"name": names.RUNTIME_NAME, "parameterNotFoundAction": "Deny"},
            "validationActions": ["Deny"],
        },
    }
