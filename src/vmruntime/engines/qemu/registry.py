"""Container registries: manifests and blobs of a repository, with the tokens that registries hand out.

Sources: OCI Distribution Specification 1.1 ("Pull"); Docker Registry documentation, "Token Authentication".
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from dataclasses import dataclass
from http import HTTPStatus
from ssl import SSLContext
from urllib.parse import SplitResult, urlencode, urljoin

from vmruntime.engines.qemu.container_disk import INDEX_TYPES, MANIFEST_BYTES, MANIFEST_TYPES, Layer
from vmruntime.engines.qemu.hashing import Hasher
from vmruntime.engines.qemu.http_dial import is_loopback_name
from vmruntime.engines.qemu.http_request import Access, Limits, Requester, refused
from vmruntime.engines.qemu.http_source import HttpSource
from vmruntime.engines.qemu.sources import Source, SourceError, check_url

DOCKER_HUB = "registry-1.docker.io"
_REFERENCE = re.compile(
    r"docker://(?P<host>[^/@]+)/(?P<repository>[a-z0-9]+(?:(?:[._/]|__|-+)[a-z0-9]+)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_TOKEN_BYTES = 1 << 20
_TOKEN_SECONDS = 60.0
"""How long a token is good where its registry doesn't say."""
_EARLY = 0.8
"""The share of that time after which another is fetched."""


@dataclass(frozen=True, slots=True)
class Name:
    """A container image: registry, repository in it, and tag or digest."""

    host: str
    repository: str
    reference: str


def parse(url: str) -> Name:
    """The parts of `docker://HOST/REPOSITORY[:TAG][@DIGEST]`. Raises SourceError (InvalidURL)."""
    found = _REFERENCE.fullmatch(url)
    if not found:
        raise SourceError(
            "InvalidURL", "a container image's URL has the form docker://HOST/REPOSITORY[:TAG][@sha256:HEX]"
        )
    host, repository = found["host"], found["repository"]
    if host in ("docker.io", "index.docker.io"):
        host, repository = DOCKER_HUB, repository if "/" in repository else f"library/{repository}"
    elif "." not in host and ":" not in host and host != "localhost":
        host, repository = DOCKER_HUB, f"{host}/{repository}"
    return Name(host, repository, found["digest"] or found["tag"] or "latest")


class RegistryAccess:
    """What a registry wants in each request: nothing, a password, or a token for which it says where to get it."""

    def __init__(self, access: Access, limits: Limits, repository: str) -> None:
        self._access = access
        self._limits = limits
        self._repository = repository
        self._issuer: Requester | None = None
        self._challenge: dict[str, str] = {}
        self._header = ""
        self._until = 0.0

    def tls(self) -> SSLContext | None:
        return self._access.tls()

    def headers(self, _parts: SplitResult) -> dict[str, str]:
        """What is known to be wanted; a token that runs out is renewed. Raises SourceError."""
        if self._challenge and time.monotonic() > self._until:
            self._renew()
        return {"Authorization": self._header} if self._header else {}

    def answer(self, challenge: str, url: str, requester: Requester) -> bool:
        """Prepares for what a registry demands (WWW-Authenticate); False if there is nothing that could help."""
        scheme, _, parameters = challenge.partition(" ")
        if scheme.lower() == "basic":
            self._header = self._access.headers(check_url(url)).get("Authorization", "")
            return bool(self._header)
        self._challenge = {key.lower(): value for key, value in _PARAMETER.findall(parameters)}
        realm = urljoin(url, self._challenge.get("realm", ""))
        if scheme.lower() != "bearer" or "realm" not in self._challenge:
            return False
        if check_url(url).scheme == "https" and check_url(realm).scheme != "https":
            raise SourceError("NotAllowed", "the registry wants its tokens to be fetched without TLS: refused")
        self._challenge["realm"] = realm
        # With its dialer: a registry out there must not lead to this host.
        self._issuer = Requester(self._limits, self._access, requester.dialer)
        self._renew()
        return True

    def close(self) -> None:
        if self._issuer is not None:
            self._issuer.close()

    def _renew(self) -> None:
        assert self._issuer is not None
        query = {"service": self._challenge.get("service", ""), "scope": f"repository:{self._repository}:pull"}
        realm = self._challenge["realm"]
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"
        response = self._issuer.get(url, {})
        try:
            answer = json.loads(self._issuer.body(response, _TOKEN_BYTES))
            token = answer.get("token") or answer["access_token"]
            seconds = float(answer.get("expires_in") or _TOKEN_SECONDS)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SourceError("ServerError", "the registry's token cannot be read") from error
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise SourceError("ServerError", "the registry's token cannot be read")
        self._header, self._until = f"Bearer {token}", time.monotonic() + _EARLY * seconds


class Registry:
    """A `Store` of one repository."""

    def __init__(self, name: Name, limits: Limits, access: Access) -> None:
        """Registries on this host, as in Docker, do without TLS unless certificates are given."""
        plain = is_loopback_name(check_url(f"https://{name.host}").hostname or "") and not access.certificates
        self._base = f"{'http' if plain else 'https'}://{name.host}/v2/{name.repository}"
        self._limits = limits
        self._access = RegistryAccess(access, limits, name.repository)
        self._requester = Requester(limits, self._access)

    def manifest(self, reference: str) -> bytes:
        url = f"{self._base}/manifests/{reference}"
        accept = {"Accept": ", ".join((*INDEX_TYPES, *MANIFEST_TYPES))}
        response = self._requester.get(url, accept, [HTTPStatus.UNAUTHORIZED])
        if response.status == HTTPStatus.UNAUTHORIZED:
            challenge = response.getheader("WWW-Authenticate", "")
            if not self._access.answer(challenge, url, self._requester):
                raise refused(response.status, url)
            response = self._requester.get(url, accept)
        return self._requester.body(response, MANIFEST_BYTES)

    def blob(self, layer: Layer, hasher: Hasher) -> Source:
        source = HttpSource(f"{self._base}/blobs/{layer.digest}", self._limits, self._requester, hasher)
        source.open()
        return source

    def close(self) -> None:
        with contextlib.closing(self._requester):
            self._access.close()
