"""The addresses of pods. Pure.

A pod's processes are the machine's, so that its address is the machine's loopback address, and that of the node. What
runs in a pod may have a network of its own nevertheless, with an address that its maker knows: then the pod names it in
an annotation. It has to be in the pod network of the node, which an annotation of the Node says and only who may write
Nodes can change; so a pod cannot have Services and port-forwards lead elsewhere. Nobody is kept from naming an address
of that network that is another pod's: who makes such pods hands the addresses out.
"""

from __future__ import annotations

import ipaddress
import logging
from typing import Any, NamedTuple

from solo.node.podspec import Refusal

log = logging.getLogger(__name__)

Obj = dict[str, Any]

NODE_IP = "127.0.0.1"
"""The node's address."""

POD_IP = "node.solo/pod-ip"
"""On a Pod: its address; empty: it has none, and is in no Service. It counts from the pod's first process on."""

POD_CIDRS = "node.solo/pod-cidrs"
"""On a Node: the subnets of its pod network, with commas between them."""

PodNetwork = tuple[ipaddress.IPv4Network, ...]


class Addresses(NamedTuple):
    """The node's address and that of one pod on it, which may be empty."""

    node: str = NODE_IP
    pod: str = NODE_IP


def pod_network(node: Obj) -> PodNetwork:
    """The subnets that a Node names; one that is none is left out."""
    found = []
    for text in _annotation(node, POD_CIDRS).split(","):
        try:
            found += [ipaddress.IPv4Network(text.strip())] if text.strip() else []
        except ValueError as error:
            log.warning("annotation %s of node %s: %s", POD_CIDRS, node["metadata"]["name"], error)
    return tuple(found)


def of(pod: Obj, settled: str | None) -> Addresses:
    """A pod's addresses. Before its own is settled, one that is to have another than the node's has none."""
    if settled is None:
        settled = NODE_IP if _named(pod) == NODE_IP else ""
    return Addresses(pod=settled)


def settle(pod: Obj, network: PodNetwork) -> str:
    """The address that the pod names, if it can have it, else the node's."""
    return NODE_IP if refusals(pod, network) else _named(pod)


def _named(pod: Obj) -> str:
    return _annotation(pod, POD_IP, NODE_IP).strip()


def refusals(pod: Obj, network: PodNetwork) -> list[Refusal]:
    """Why the pod cannot have the address that it names; empty if it can."""
    address = _named(pod)
    if address in (NODE_IP, ""):
        return []
    try:
        parsed = ipaddress.IPv4Address(address)
    except ValueError:
        return [_refusal(f'"{address}" is no IPv4 address')]
    if not any(parsed in subnet for subnet in network):
        subnets = ", ".join(map(str, network)) or "it has none"
        return [_refusal(f"{address} is not in the pod network of this node ({subnets})")]
    return []


def _refusal(why: str) -> Refusal:
    return Refusal("", "CreateContainerConfigError", "Failed", f"annotation {POD_IP}: {why}")


def _annotation(obj: Obj, name: str, default: str = "") -> str:
    return str((obj["metadata"].get("annotations") or {}).get(name, default))
