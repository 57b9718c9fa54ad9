"""Which kind of source a URL stands for, opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from vmruntime.engines.qemu.hashing import Hasher
from vmruntime.engines.qemu.http_request import Access, Authorization, Limits, Requester
from vmruntime.engines.qemu.http_source import HttpSource
from vmruntime.engines.qemu.sources import FileSource, Source, check_url

if TYPE_CHECKING:
    from vmruntime.engines.qemu.container_disk import ContainerDisk
    from vmruntime.engines.qemu.registry import Name

GCS = "https://storage.googleapis.com"
"""Where objects of Cloud Storage are (its XML API, path-style requests)."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What is to be brought in, and how. `allowed`: directories for URLs of files.

    `google`: credentials for Cloud Storage, the content of a `creds-gcp.json`; empty: a public object. `docker`:
    credentials for registries, the content of a `.dockerconfigjson` or `.dockercfg`; empty: those of `access`, if any.
    """

    url: str
    allowed: Sequence[Path] = ()
    access: Access = field(default_factory=Access)
    google: str = field(default="", repr=False)
    docker: str = field(default="", repr=False)
    gcs: str = GCS


def check_address(url: str) -> None:
    """Raises SourceError for a URL that cannot be one of a source, before anything is asked for it."""
    if check_url(url).scheme == "docker":
        from vmruntime.engines.qemu import registry

        registry.parse(url)


def open_source(origin: Origin, algorithm: str = "", limits: Limits | None = None) -> Source:
    """Opens it; `algorithm` of hashing.ALGORITHMS is worked out beside SHA-256.

    Raises SourceError with a reason that can be shown to the user.
    """
    limits = limits or Limits()
    parts = check_url(origin.url)
    hasher = Hasher(algorithm)
    if parts.scheme == "file":
        return FileSource(Path(unquote(parts.path)), origin.allowed, hasher)
    if parts.scheme in ("docker", "oci", "oci-archive"):
        return _container_image(origin, parts.scheme, limits, hasher)
    url, access = origin.url, _authorization(origin, parts.scheme, limits)
    if parts.scheme == "gs":
        # An object's name may hold any character, and stands in a gs URL as it is (as in gsutil).
        url = f"{origin.gcs}/{quote(origin.url.removeprefix('gs://'))}"
    return _opened(HttpSource(url, limits, Requester(limits, access), hasher))


def _authorization(origin: Origin, scheme: str, limits: Limits) -> Authorization:
    if scheme != "gs" or not origin.google:
        return origin.access
    from vmruntime.engines.qemu.google_access import GoogleAccess

    return GoogleAccess(origin.google, limits)


def _container_image(origin: Origin, scheme: str, limits: Limits, hasher: Hasher) -> Source:
    # Imported where it is needed, as few disks come this way and every import starts a program.
    from vmruntime.engines.qemu.container_disk import ContainerDisk

    if scheme == "docker":
        from vmruntime.engines.qemu import registry

        name = registry.parse(origin.url)
        store = registry.Registry(name, limits, _registry_access(origin, name))
        return _opened(ContainerDisk(store, name.reference, hasher))
    from vmruntime.engines.qemu.oci_layout import Layout

    layout = Layout(origin.url, origin.allowed)
    return _opened(ContainerDisk(layout, layout.tag, hasher))


def _registry_access(origin: Origin, name: Name) -> Access:
    if not origin.docker:
        return origin.access
    from vmruntime.engines.qemu import docker_config

    user, password = docker_config.credentials(origin.docker, name)
    return Access(user, password, origin.access.certificates)


def _opened(source: HttpSource | ContainerDisk) -> Source:
    try:
        source.open()
    except BaseException:
        source.close()
        raise
    return source
