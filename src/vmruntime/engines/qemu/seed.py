"""NoCloud images: the small read-only disk through which a guest learns its name, user data and network.

Source: cloud-init documentation, "NoCloud": an ISO 9660 (or vfat) file system with the label CIDATA and the files
meta-data, user-data and, where wanted, network-config.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping

LABEL = "CIDATA"

MAX_CONTENT = 1 << 20
"""Bytes of one file: what a Secret can hold."""

_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_INSTANCE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def instance_id(uid: str, *content: bytes) -> str:
    """The id of a machine with this uid and start-up data.

    cloud-init applies most directives once for each instance id. So changed data have to come with a new one, or they
    would never be applied; and unchanged data must not: at each start cloud-init would set passwords back, make new
    SSH host keys and repeat commands that may only run once, such as making a file system. What has to be done at
    every start are start-up scripts, `bootcmd` and mounts, which cloud-init repeats under the same id too.
    """
    digest = hashlib.sha256()
    for part in content:
        digest.update(len(part).to_bytes(8, "big") + part)
    return f"{uid}-{digest.hexdigest()[:12]}"


def build_seed(*, instance_id: str, hostname: str, user_data: bytes = b"", network_config: bytes = b"") -> bytes:
    """The image's bytes. A new `instance_id` makes cloud-init apply everything again.

    Without `network_config` there is no such file, and cloud-init itself gives DHCP to the interface that is connected.
    One that matches interfaces by name would do harm: cloud-init's writers for systemd-networkd and ifupdown do not
    know such matches (those of 22.4, in Debian 12, take the entry's own name for the interface's).

    Raises ValueError for names that could not stand in the YAML of meta-data and for content over 1 MiB.
    """
    if not _INSTANCE_ID.fullmatch(instance_id):
        raise ValueError(f"instance id {instance_id!r} holds other characters than letters, digits, '.', '_' and '-'")
    if not _HOST_NAME.fullmatch(hostname):
        raise ValueError(f"host name {hostname!r} is not a DNS name")
    files = {
        "meta-data": f"instance-id: {instance_id}\nlocal-hostname: {hostname}\n".encode(),
        "user-data": user_data,
    }
    if network_config:
        files["network-config"] = network_config
    for name, content in files.items():
        if len(content) > MAX_CONTENT:
            raise ValueError(f"{name} has {len(content)} bytes, more than {MAX_CONTENT}")
    return _iso9660(files)


def _iso9660(files: Mapping[str, bytes]) -> bytes:
    """An image with these files, in the two ways that write their names as they are: Rock Ridge and Joliet."""
    # Only machines with start-up data need it, and it takes a while to import.
    from pycdlib import PyCdlib

    iso, image = PyCdlib(), io.BytesIO()
    iso.new(interchange_level=3, vol_ident=LABEL, rock_ridge="1.09", joliet=3)
    for name, content in files.items():
        plain = f"/{name.upper().replace('-', '_')}.;1"
        iso.add_fp(io.BytesIO(content), len(content), plain, rr_name=name, joliet_path=f"/{name}", file_mode=0o100444)
    iso.write_fp(image)
    iso.close()
    return image.getvalue()
