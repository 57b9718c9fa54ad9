"""Taps of a bridge, made and removed by system calls: one is made for every start of a machine, which should be quick.

Source: kernel documentation, "Universal TUN/TAP device driver"; netdevice(7). Blocking, about a millisecond.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct

_DEVICE = "/dev/net/tun"
_TUNSETIFF, _TUNSETPERSIST, _TUNSETOWNER = 0x400454CA, 0x400454CB, 0x400454CC
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCBRADDIF = 0x8913, 0x8914, 0x89A2
_IFF_UP = 0x1
# With a virtio header, so that guest and host leave checksums and segmentation to each other; QEMU asks for the same.
_IFF_TAP_NO_PI_VNET_HDR = 0x0002 | 0x1000 | 0x4000


def make(name: str, user: int, bridge: str) -> None:
    """A tap that `user` may open, up and in the bridge; it may be there already. Raises OSError."""
    _persist(name, user)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            fcntl.ioctl(control, _SIOCBRADDIF, struct.pack("16si20x", bridge.encode(), socket.if_nametoindex(name)))
        except OSError as error:
            if error.errno != errno.EBUSY:  # it is in a bridge
                raise
        answer = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sH22x", name.encode(), 0))
        (flags,) = struct.unpack_from("H", answer, 16)
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), flags | _IFF_UP))


def _persist(name: str, user: int) -> None:
    descriptor = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP_NO_PI_VNET_HDR))
        fcntl.ioctl(descriptor, _TUNSETOWNER, user)
        fcntl.ioctl(descriptor, _TUNSETPERSIST, 1)
    except OSError as error:
        if error.errno != errno.EBUSY:  # QEMU has it open
            raise
    finally:
        os.close(descriptor)


def remove(name: str) -> None:
    """Remove a tap that no process has open; it need not be there. Raises OSError."""
    descriptor = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP_NO_PI_VNET_HDR))
        fcntl.ioctl(descriptor, _TUNSETPERSIST, 0)
    finally:
        os.close(descriptor)
