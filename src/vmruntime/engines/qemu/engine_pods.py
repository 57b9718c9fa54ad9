"""The engine's pods: what they look like, what they say, and a watched list of them.

A machine is a pod whose only container *is* QEMU; an import is a pod of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence

from kube.client.aio import AsyncClient
from kube.client.informer import Informer
from kube.machinery.errors import StatusError, conflict
from kube.machinery.resources import PODS
from vmruntime.api import names, virtualmachine, virtualmachinedisk
from vmruntime.api.meta import Obj, dig, is_deleting, name_of, namespace_of, owner_reference, uid_of
from vmruntime.engines.common import NotAdmitted, Ref
from vmruntime.engines.machine import MachineRequest
from vmruntime.engines.network import Interface
from vmruntime.engines.qemu.config import SERIAL_SOCKET, VNC_SOCKET
from vmruntime.engines.qemu.engine_launch import LAUNCH_ANNOTATION, Launch
from vmruntime.engines.qemu.engine_layout import Layout
from vmruntime.engines.qemu.machine_users import READERS

ENGINE_LABEL = f"{names.GROUP}/engine"
ENGINE = "qemu"
# On a machine's pod: the keys of the labels that it has from the machine, as a JSON list.
LABELS_ANNOTATION = f"{names.GROUP}/labels-of-machine"
CONTAINER = "compute"
IMPORTER = "importer"
GATEWAY = "network-gateway"

_OWN_LABELS = frozenset({names.VM_LABEL, names.ROLE_LABEL, ENGINE_LABEL})
_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
# QEMU ends at once when it is told to, but first flushes what its guest has written.
_GRACE_SECONDS = 30
_SYNC_SECONDS = 10.0
_WORDS_LIMIT = 300
# A pod of ours that the watch hasn't shown after this long may have come and gone between two lists.
_UNSEEN_SECONDS = 5.0


def suffix(seed: str) -> str:
    """Five characters as Kubernetes appends them, but following from `seed`."""
    digest = hashlib.sha256(seed.encode()).digest()
    return "".join(_SUFFIX_ALPHABET[byte % len(_SUFFIX_ALPHABET)] for byte in digest[:5])


def machine_pod(request: MachineRequest, launch: Launch, argv: list[str], layout: Layout, groups: list[int]) -> Obj:
    """The pod of a machine. Its name follows from machine and launch: the same launch cannot be there twice."""
    ref, user = request.ref, layout.user(request.ref)
    directory = str(layout.instance(ref))
    container = _container(CONTAINER, argv, directory)
    container["terminationMessagePolicy"] = "FallbackToLogsOnError"
    spec: Obj = _pod_spec(container)
    address, ports = _reached_at(launch.interfaces)
    if ports:
        container["ports"] = ports
    if user is not None:
        spec["securityContext"] = {"runAsUser": user, "runAsGroup": user, "supplementalGroups": [READERS, *groups]}
        if any(entry.ports for entry in launch.interfaces):
            # Ports of the guest below 1024 are forwarded under their own number.
            container["securityContext"] = {"capabilities": {"add": ["NET_BIND_SERVICE"]}}
    pod: Obj = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"virt-launcher-{ref.name}-{suffix(f'{ref.uid}/{request.launch}')}",
            "namespace": ref.namespace,
            "labels": {names.VM_LABEL: ref.name, names.ROLE_LABEL: "virt-launcher", ENGINE_LABEL: ENGINE},
            "annotations": {
                names.POD_IP_ANNOTATION: address,
                LAUNCH_ANNOTATION: launch.to_json(),
                names.CONSOLE_COMMAND_ANNOTATION: json.dumps(layout.connect_command(SERIAL_SOCKET)),
                names.VNC_COMMAND_ANNOTATION: json.dumps(layout.connect_command(VNC_SOCKET)),
            },
            "ownerReferences": [owner_reference(virtualmachine.RESOURCE, ref.name, ref.uid)],
        },
        "spec": spec,
    }
    for part, values in label_patch(pod, request.labels).items():
        pod["metadata"][part].update(values)
    return pod


def _reached_at(interfaces: Sequence[Interface]) -> tuple[str, list[Obj]]:
    """The address at which a machine's pod is reached, that of its card on the pod network, and the ports there.

    The address is empty where there is no such card; no ports: all are there, under their own numbers.
    """
    cards = sorted((card for card in interfaces if card.segment is None), key=lambda card: not card.default)
    if not cards or not cards[0].addresses:
        return "", []
    address = cards[0].addresses[0]
    return address, [{"containerPort": port.guest, "hostPort": port.host, "hostIP": address} for port in cards[0].ports]


def label_patch(pod: Obj, wanted: Mapping[str, str]) -> Obj:
    """The patch of a pod's metadata that gives it a machine's labels and takes former ones away; empty if none is due.

    Labels that the engine sets itself, or that somebody gave to the pod by hand, stay.
    """
    wanted = {key: value for key, value in wanted.items() if key not in _OWN_LABELS}
    noted = dig(pod, "metadata", "annotations", LABELS_ANNOTATION, default="[]")
    try:
        former = {str(key) for key in json.loads(noted)} - _OWN_LABELS
    except (ValueError, TypeError):
        former = set()
    present = dig(pod, "metadata", "labels", default={})
    labels: Obj = {key: value for key, value in wanted.items() if present.get(key) != value}
    labels.update({key: None for key in sorted(former - wanted.keys()) if key in present})
    if not labels and former == wanted.keys():
        return {}
    return {"labels": labels, "annotations": {LABELS_ANNOTATION: json.dumps(sorted(wanted))}}


def import_pod(ref: Ref, argv: list[str], env: list[Obj], directory: str, attempt: str) -> Obj:
    """The pod of an import. It runs as the manager does: what touches foreign bytes drops its rights by itself."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"importer-{ref.name}-{suffix(f'{ref.uid}/{attempt}')}",
            "namespace": ref.namespace,
            "labels": {names.ROLE_LABEL: IMPORTER, ENGINE_LABEL: ENGINE},
            "ownerReferences": [owner_reference(virtualmachinedisk.RESOURCE, ref.name, ref.uid)],
        },
        "spec": _pod_spec({**_container(IMPORTER, argv, directory), "env": env}),
    }


def gateway_pod(argv: list[str], directory: str, version: str) -> Obj:
    """The pod of the pod network's gateway. It has no owner: the engine removes it with the network."""
    labels = {names.ROLE_LABEL: GATEWAY, ENGINE_LABEL: ENGINE, "app.kubernetes.io/version": version}
    spec = _pod_spec(_container("gateway", argv, directory))
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": names.NETWORK_GATEWAY, "namespace": names.NAMESPACE, "labels": labels},
        "spec": {**spec, "restartPolicy": "Always"},
    }


def _container(name: str, argv: list[str], directory: str) -> Obj:
    # Some of it is somebody's text, such as a URL: `$(NAME)` in it refers to no variable, which may hold a password.
    command = [word.replace("$", "$$") for word in argv]
    return {"name": name, "image": "host", "command": command, "workingDir": directory}


def _pod_spec(container: Obj) -> Obj:
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "containers": [container],
    }


def owner_ref(pod: Obj) -> Ref | None:
    """The machine or disk that a pod is of."""
    for reference in dig(pod, "metadata", "ownerReferences", default=[]):
        if reference.get("controller"):
            return Ref(namespace_of(pod), str(reference.get("name")), str(reference.get("uid")))
    return None


def is_machine(pod: Obj) -> bool:
    return _role(pod) not in (IMPORTER, GATEWAY)


def is_gateway(pod: Obj) -> bool:
    return _role(pod) == GATEWAY


def _role(pod: Obj) -> str:
    return str(dig(pod, "metadata", "labels", names.ROLE_LABEL))


def has_ended(pod: Obj) -> bool:
    return dig(pod, "status", "phase") in ("Succeeded", "Failed")


def _container_state(pod: Obj) -> Obj:
    statuses = dig(pod, "status", "containerStatuses", default=[])
    state: Obj = statuses[0].get("state", {}) if statuses else {}
    return state


def exit_code(pod: Obj) -> int | None:
    code = dig(_container_state(pod), "terminated", "exitCode")
    return int(code) if code is not None else None


def trouble(pod: Obj) -> str:
    """Why the pod's process isn't there, in words: waiting for something, or how it ended."""
    state = _container_state(pod)
    if waiting := state.get("waiting"):
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        ordinary = reason in ("", "ContainerCreating", "PodInitializing") and not message
        return "" if ordinary else f"{reason}: {message}" if message else reason
    if ended := state.get("terminated"):
        if signal := ended.get("signal"):
            how = f"was ended by signal {signal}"
        else:
            how = f"exited with code {ended.get('exitCode')}"
        message = str(ended.get("message") or "")
        detail = _own_words(message) if is_machine(pod) else message
        detail = detail or (ended.get("reason") if ended.get("reason") not in ("Error", None) else "")
        return f"its process {how}" + (f" ({detail})" if detail else "")
    return str(dig(pod, "status", "message", default=""))


def _own_words(log: str) -> str:
    """What QEMU said last, out of the end of a log in which its guest's words are as well.

    A guest could write such a line too: it gets no more than that, one line of printable characters.
    """
    lines = [line for line in log.splitlines() if line.startswith("qemu-system-")]
    said = lines[-1].partition(": ")[2] if lines else ""
    return "".join(char if char.isprintable() else "?" for char in said)[:_WORDS_LIMIT]


def started_at(pod: Obj) -> str:
    return str(dig(_container_state(pod), "running", "startedAt", default=""))


class Pods:
    """The engine's pods in all namespaces, by the uid of what they are of; one just created counts at once."""

    def __init__(self, client: AsyncClient, changed: Callable[[Obj, Ref | None], None]) -> None:
        """`changed` is called with every pod that came, changed or went, and with what it is of, if it is of one."""
        self._client = client
        self._changed = changed
        self._books: dict[str, dict[str, Obj]] = {}
        self._unseen: dict[str, tuple[Obj, float]] = {}
        self._informer = Informer(client, PODS, label_selector=f"{ENGINE_LABEL}={ENGINE}")
        self._informer.add_handler(self._handle)

    async def run(self) -> None:
        await self._informer.run()

    async def synced(self) -> None:
        """Raises TimeoutError while the pods aren't known."""
        await self._informer.wait_synced(_SYNC_SECONDS)

    def all(self) -> list[Obj]:
        return self._informer.items()

    def _handle(self, event: str, pod: Obj, old: Obj | None) -> None:
        ref = owner_ref(pod)
        if ref is not None:
            self._keep_book(event, pod, ref)
        self._changed(pod, ref)

    def _keep_book(self, event: str, pod: Obj, ref: Ref) -> None:
        unseen = self._unseen.get(ref.uid)
        if unseen is not None and name_of(unseen[0]) == name_of(pod):
            del self._unseen[ref.uid]
        book = self._books.setdefault(ref.uid, {})
        if event == "DELETED":
            book.pop(name_of(pod), None)
            if not book:
                del self._books[ref.uid]
        else:
            book[name_of(pod)] = pod

    async def of(self, ref: Ref) -> list[Obj]:
        """The pods of a machine or disk: those that live first, then those that are ending, then those that ended.

        Raises TimeoutError while they aren't known.
        """
        await self.synced()
        unseen = self._unseen.get(ref.uid)
        if unseen is not None and asyncio.get_running_loop().time() - unseen[1] > _UNSEEN_SECONDS:
            await self._look_for(ref, unseen[0])
            unseen = self._unseen.get(ref.uid)
        pods = list(self._books.get(ref.uid, {}).values())
        if unseen is not None:
            pods.append(unseen[0])
        return sorted(pods, key=_rank)

    async def _look_for(self, ref: Ref, pod: Obj) -> None:
        try:
            await self._client.get(PODS, name_of(pod), ref.namespace)
        except StatusError as exc:
            if exc.code != 404:
                raise
            self._unseen.pop(ref.uid, None)

    async def create(self, ref: Ref, pod: Obj) -> None:
        """Create it; it may be there already.

        Raises:
            NotAdmitted: a quota, or another rule of the cluster, forbids it.
            StatusError: (409) another has its name.
        """
        try:
            created = await self._client.create(PODS, pod, ref.namespace)
        except StatusError as exc:
            if exc.code in (403, 422):
                raise NotAdmitted("PodForbidden", f"the cluster refuses its pod: {exc}") from exc
            if exc.reason != "AlreadyExists":
                raise
            created = await self._client.get(PODS, name_of(pod), ref.namespace)
            if owner_ref(created) != ref or is_deleting(created):
                raise conflict("pods", name_of(pod), "another pod has this name") from exc
        if name_of(pod) not in self._books.get(ref.uid, {}):
            self._unseen[ref.uid] = (created, asyncio.get_running_loop().time())

    async def label(self, pod: Obj, wanted: Mapping[str, str]) -> None:
        """Give it the labels; one that has gone needs none."""
        metadata = label_patch(pod, wanted)
        if not metadata:
            return
        try:
            patch = {"metadata": {**metadata, "uid": uid_of(pod)}}
            await self._client.patch(PODS, name_of(pod), patch, namespace_of(pod))
        except StatusError as exc:
            if exc.code not in (404, 409):
                raise

    async def delete(self, pod: Obj) -> None:
        """End its process, if there is one, and remove it."""
        if is_deleting(pod):
            return
        try:
            grace = 0 if has_ended(pod) else _GRACE_SECONDS
            await self._client.delete(PODS, name_of(pod), namespace_of(pod), grace=grace, uid=uid_of(pod))
        except StatusError as exc:
            if exc.code not in (404, 409):
                raise


def _rank(pod: Obj) -> tuple[int, str]:
    place = 2 if has_ended(pod) else 1 if is_deleting(pod) else 0
    return place, name_of(pod)
