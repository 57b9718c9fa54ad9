"""Every name that is part of a contract: groups, namespaces, annotations, labels, finalizers, reasons.

Names that Google's product documents are kept as documented, the misspelt annotation included; names of our own stay
in the group `vm.cluster.gke.io`.
"""

from __future__ import annotations

GROUP = "vm.cluster.gke.io"
NETWORK_GROUP = "networking.gke.io"
VERSION = "v1"
NAMESPACE = "vm-system"

# The Deployment, its service account and its role are all called so; the Deployment is what is left when disabled.
MANAGER = "vmruntime-controller-manager"
RUNTIME_NAME = "vmruntime"
# The pod, in the same namespace, that machines' network leads through where the cluster does not run as root.
NETWORK_GATEWAY = "pod-network-gateway"
MANAGER_USER = f"system:serviceaccount:{NAMESPACE}:{MANAGER}"

# Consent to losing VMs on disable. The first spelling is the documented one.
FORCE_DISABLE_ANNOTATIONS = (
    "baremetal.cluster.gke.io/vmrumtime-force-disable",
    "baremetal.cluster.gke.io/vmruntime-force-disable",
)
# Consent for one disable, written together with `enabled: false`; removed when that disable is done or cancelled.
DELETE_VMS_ANNOTATION = f"{GROUP}/delete-vms-on-disable"
KEEP_DISKS_ANNOTATION = f"{GROUP}/keep-disks-on-disable"

# On a VirtualMachine that is deleted by a disable: its disks go with it, as if each had `autoDelete`.
DELETE_DISKS_ANNOTATION = f"{GROUP}/delete-disks"
# On a VirtualMachine: a request to start or restart; any new value counts once.
RESTARTED_AT_ANNOTATION = f"{GROUP}/restarted-at"

# On a VirtualMachine: ports of the guest, with commas between them, that are forwarded beside the usual ones where the
# cluster has no rights to make all of them reachable. They count from the next start on.
FORWARD_PORTS_ANNOTATION = f"{GROUP}/forward-ports"

# On a VirtualMachine: what `kubectl virt start` puts back into `spec.runningState` after `kubectl virt stop`.
RUNNING_STATE_BEFORE_STOP_ANNOTATION = f"{GROUP}/running-state-before-stop"

# On a VirtualMachineAccessRequest that a command made for its own use: it is deleted when it has expired.
TEMPORARY_ANNOTATION = f"{GROUP}/temporary"

VM_FINALIZER = f"{GROUP}/vm-finalizer"
DISK_FINALIZER = f"{GROUP}/disk-finalizer"
ACCESS_FINALIZER = f"{GROUP}/vmar-finalizer"
NETWORK_FINALIZER = f"{NETWORK_GROUP}/network-finalizer"
# On a Network: a machine refers to it, so it cannot be deleted.
IN_USE_ANNOTATION = f"{NETWORK_GROUP}/in-use"

# On a Node: preflight passes it over and no VM is placed on it.
SKIP_NODE_LABEL = "kubevm.io/VM-SkipSchedule"
# On a VM's pod: what Services, logs and metrics select on.
VM_LABEL = "kubevirt/vm"
ROLE_LABEL = "kubevirt.io"

# On a VM's pod: the command, as a JSON list, that reaches the serial console from inside it.
CONSOLE_COMMAND_ANNOTATION = f"{GROUP}/console-command"
# The same for its screen, as a VNC connection.
VNC_COMMAND_ANNOTATION = f"{GROUP}/vnc-command"

# On a VM's pod and on the Node: a pod's address, and the subnets that such addresses are from (docs/solo.md). They are
# the embedded cluster's names, which knows no VMs.
POD_IP_ANNOTATION = "node.solo/pod-ip"
POD_CIDRS_ANNOTATION = "node.solo/pod-cidrs"

PREFLIGHT_PREFIX = "vmruntime-preflight-check-"
POD_NETWORK = "pod-network"
# A ConfigMap in the runtime's namespace, and the key of the subnet that machines on pod-network get in place of our own
# choice. That there is such a ConfigMap is documented, its fields are not.
VIRT_SPEC = "virtspec"
POD_NETWORK_CIDR = "podNetworkCIDR"
