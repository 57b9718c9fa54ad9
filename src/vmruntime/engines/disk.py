"""Disks as an engine is asked for them, and as it sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from vmruntime.engines.common import Ref


class DiskPhase(StrEnum):
    ABSENT = "Absent"
    IMPORTING = "Importing"
    READY = "Ready"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class DiskSource:
    """Where a disk's first content comes from: a URL, or another disk, which nobody writes to meanwhile.

    `kind` is as under `spec.source`: http, s3, gcs, registry or file. `checksum` (`ALGORITHM:HEX`) is what the source
    has to have. `secret` and `certificates` name a Secret with credentials and a ConfigMap with certificates of
    authorities, in the disk's namespace; empty: none.
    """

    url: str = ""
    kind: str = "http"
    checksum: str = ""
    secret: str = ""
    certificates: str = ""
    clone_of: Ref | None = None


@dataclass(frozen=True, slots=True)
class DiskRequest:
    """A disk that should exist. `size` is in bytes; no `source` means blank."""

    ref: Ref
    size: int
    format: str
    source: DiskSource | None = None


@dataclass(frozen=True, slots=True)
class DiskOrigin:
    """What became known of a disk's source. `size` in bytes as it was transferred; `sha256` in hex."""

    format: str = ""
    size: int | None = None
    sha256: str = ""
    from_cache: bool = False


@dataclass(frozen=True, slots=True)
class DiskObservation:
    """A disk as it is. `progress` is in percent, `rate` in MB/s; `virtual_size` in bytes; `message`: why it failed.

    `temporary`: what made it fail may be over when it is tried again.
    """

    phase: DiskPhase
    progress: float | None = None
    format: str = ""
    virtual_size: int | None = None
    message: str = ""
    temporary: bool = False
    rate: float | None = None
    origin: DiskOrigin = field(default_factory=DiskOrigin)
