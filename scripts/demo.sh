#!/usr/bin/env bash
# The main job, end to end: a cluster, the VM runtime switched on, a guest that booted. A second run finds it done.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH
workspace=$PWD/bmctl-workspace
cluster=$workspace/demo
export KUBECONFIG=$cluster/demo-kubeconfig

step() { printf '\n== %s\n' "$*"; }
show() { printf '$ %s\n' "$*"; "$@"; }
field() { kubectl get "$1" "$2" -o "jsonpath={.$3}" 2>/dev/null || true; }

step "Cluster demo"
if [ ! -e "$cluster/cluster.json" ]; then
  show bmctl create cluster -c demo
else
  show bmctl start cluster -c demo
fi

step "VM runtime"
if [ "$(field vmruntime vmruntime spec.enabled)" = true ]; then
  echo "It is enabled already."
else
  if ! python -P -m vmruntime.engines.qemu.kvm >/dev/null; then
    echo "This machine has no usable KVM, so VMs run in software emulation (slower):"
    printf '$ %s\n' "kubectl patch vmruntime vmruntime --type merge -p '{\"spec\":{\"useEmulation\":true}}'"
    kubectl patch vmruntime vmruntime --type merge -p '{"spec":{"useEmulation":true}}'
  fi
  show bmctl enable vmruntime --kubeconfig "$KUBECONFIG"
fi

step "A small guest image, built from Debian packages"
scripts/build_guest.sh .cache/guest
install -m 644 .cache/guest/tiny.qcow2 "$cluster/images/tiny.qcow2"

step "A disk and a virtual machine"
kubectl apply -f - <<YAML
apiVersion: vm.cluster.gke.io/v1
kind: VirtualMachineDisk
metadata:
  name: hello-disk
spec:
  size: 64Mi
  source:
    file:
      url: file://$cluster/images/tiny.qcow2
---
apiVersion: vm.cluster.gke.io/v1
kind: VirtualMachine
metadata:
  name: hello
spec:
  compute:
    cpu:
      vcpus: 1
    memory:
      capacity: 128Mi
  disks:
  - virtualMachineDiskName: hello-disk
    boot: true
  cloudInit:
    noCloud:
      userData: |
        #cloud-config
        http: true
YAML

# Waits on the guest's own words, and shows every change of state meanwhile.
deadline=$((SECONDS + 180)) last=
while :; do
  now="disk $(field virtualmachinedisk hello-disk status.phase) $(field virtualmachinedisk hello-disk status.progress), VM $(field gvm hello status.state)"
  [ "$now" = "$last" ] || { echo "$now"; last=$now; }
  pod=$(field gvm hello status.podName)
  if [ -n "$pod" ] && line=$(kubectl logs "$pod" 2>/dev/null | grep -m1 TINY-READY); then break; fi
  if [ $SECONDS -gt $deadline ]; then
    kubectl describe gvm hello >&2
    echo "error: the guest said nothing within three minutes" >&2
    exit 1
  fi
  sleep 0.5
done
echo "The guest says: $line"

step "What runs"
show kubectl get vmruntime
show kubectl get gvm,virtualmachinedisks
show kubectl get pods -A
ip=$(field gvm hello 'status.interfaces[0].ipAddresses[0]')
port=$(field gvm hello 'status.interfaces[0].ports[?(@.guest==80)].host')
# On a pod network with a bridge all ports are the guest's own. Its web server may start a moment after its line.
show curl -s --max-time 10 --retry 5 --retry-all-errors "http://$ip:${port:-80}/"

step "Look around"
cat <<TEXT
export KUBECONFIG=$KUBECONFIG PATH=$PWD/.venv/bin:\$PATH
kubectl describe gvm hello             # what the cluster knows of the machine; kubectl logs $pod is its console's log
kubectl virt console hello             # its serial console; leave with Ctrl+]
bmctl disable vmruntime                # refuses while the machine exists, and says so
make demo-clean                        # removes the machine, its disk and the cluster
TEXT
