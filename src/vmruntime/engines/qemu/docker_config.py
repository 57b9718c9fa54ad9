"""Credentials for registries as `docker login` and Secrets for pulling images keep them.

Sources: Kubernetes documentation, "Pull an Image from a Private Registry" and "Images" ("Interpretation of
config.json"); pkg/credentialprovider in Kubernetes (which entry is used for which image).
"""

from __future__ import annotations

import base64
import contextlib
import fnmatch
import json
from typing import Any

from vmruntime.engines.qemu.registry import DOCKER_HUB, Name
from vmruntime.engines.qemu.sources import SourceError

_ALSO_DOCKER_HUB = ("index.docker.io", "docker.io")


def credentials(config: str, name: Name) -> tuple[str, str]:
    """User and password for an image, from the content of a `.dockerconfigjson` or `.dockercfg`.

    Raises SourceError (InvalidSecret) where it cannot be read, (Forbidden) where it has nothing for the image.
    """
    entries = _entries(config)
    # Of several that fit, the one with the longest path, as the kubelet has it.
    for key in sorted(entries, reverse=True):
        if _fits(key, name) and (found := _pair(entries[key])) is not None:
            return found
    where = f"{name.host}/{name.repository}"
    raise SourceError("Forbidden", f"the Secret has no user name and password for the container image {where}")


def _entries(config: str) -> dict[str, dict[str, Any]]:
    """By registry or repository, without scheme and API version, which older programs wrote there."""
    with contextlib.suppress(ValueError, RecursionError, AttributeError):
        document = json.loads(config)
        auths = document.get("auths", document)
        return {_place(key): entry for key, entry in auths.items() if isinstance(entry, dict)}
    raise SourceError("InvalidSecret", "the Secret's credentials for registries are no JSON of Docker's config.json")


def _place(key: str) -> str:
    host, slash, path = key.removeprefix("https://").removeprefix("http://").partition("/")
    for version in ("v1", "v2"):
        if path == version or path.startswith(version + "/"):
            path = path.removeprefix(version).lstrip("/")
    if host in _ALSO_DOCKER_HUB:
        host = DOCKER_HUB
    return (host + slash + path).rstrip("/")


def _fits(key: str, name: Name) -> bool:
    """Whether an entry is for the image: each part of a host's name may be a pattern, a path is one to begin with."""
    place, _, path = key.partition("/")
    (pattern, _, wanted_port), (host, _, port) = place.partition(":"), name.host.partition(":")
    patterns, parts = pattern.split("."), host.split(".")
    same_host = len(patterns) == len(parts) and all(map(fnmatch.fnmatchcase, parts, patterns))
    return same_host and wanted_port == port and name.repository.startswith(path)


def _pair(entry: dict[str, Any]) -> tuple[str, str] | None:
    """`auth` (base64 of USER:PASSWORD) counts more than the two in plain, as in Kubernetes."""
    user, password = entry.get("username"), entry.get("password")
    if isinstance(auth := entry.get("auth"), str) and auth:
        with contextlib.suppress(ValueError):
            text = base64.b64decode(auth + "=" * (-len(auth) % 4)).decode()
            user, _, password = text.partition(":")
            password = password.rstrip("\0")
    return (user, password) if isinstance(user, str) and isinstance(password, str) and user else None
