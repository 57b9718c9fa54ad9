"""The way out of a cluster's namespace: pasta (package passt), which turns packets into connections of the host's user.

What a machine connects to is connected to by the user who runs the cluster: that user's routes, VPNs and firewall rules
count. The host's own loopback cannot be reached by it: `--no-map-gw`, and the kernel drops packets for 127.0.0.0/8.
"""

from __future__ import annotations

from vmruntime.engines.qemu import host_tools, namespace

_DEVICE = "uplink"
# The last addresses of the pool that pod networks' subnets are taken from.
_ADDRESS, _MASK, _GATEWAY = "10.159.255.2", "255.255.255.252", "10.159.255.1"
_DNS = "10.159.255.253"
_NOTHING = ("-t", "none", "-u", "none", "-T", "none", "-U", "none")


def nameservers() -> tuple[str, ...]:
    """The host's, or, where guests cannot ask these, an address whose queries pasta takes to the host's."""
    return host_tools.nameservers() or (_DNS,)


def command(process: int) -> list[str]:
    """What connects the namespace that a process is in with the outside, for as long as it runs."""
    argv = [namespace.PASTA, "--quiet", "--foreground", "--ipv4-only", "--config-net", "--no-map-gw", *_NOTHING]
    argv += ["--netns", f"/proc/{process}/ns/net", "--userns", f"/proc/{process}/ns/user", "--ns-ifname", _DEVICE]
    argv += ["--address", _ADDRESS, "--netmask", _MASK, "--gateway", _GATEWAY]
    if not host_tools.nameservers():
        # Only then: pasta gives this sender to all answers of the host's server, also to those asked for directly.
        argv += ["--dns-forward", _DNS]
    return argv
