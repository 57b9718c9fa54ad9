"""A container registry of one repository for tests, and images to be in it."""

import contextlib
import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from ssl import SSLContext

from vmruntime.engines.qemu.container_disk import INDEX_TYPES, MANIFEST_TYPES

REPOSITORY = "some-where/disk_1"


def sha(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = len(content), kind
    return entry, content


def layer(*members: tuple[tarfile.TarInfo, bytes], pack=gzip.compress, form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for entry, content in members:
            tar.addfile(entry, io.BytesIO(content))
    return pack(out.getvalue())


class Registry:
    """Blobs and manifests, and whether they are for everybody; it serves them, and writes them as a layout."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.scheme = ""  # Bearer or Basic
        self.password = "Basic bWU6c2VjcmV0"  # me:secret
        self.elsewhere = ""  # where blobs are really
        self.realm = ""
        self.asked: list[tuple[str, str]] = []
        self.tokens = 0
        self.expires = 300.0
        self.url = self.host = ""

    def add(self, content: bytes) -> dict:
        self.blobs[sha(content)] = content
        return {"digest": sha(content), "size": len(content), "mediaType": "application/octet-stream"}

    def image(self, *layers: bytes, tag: str = "latest", docker: bool = False) -> dict:
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPES[docker],
            "layers": [self.add(one) for one in layers],
        }
        return self.put(manifest, tag)

    def put(self, document: dict, tag: str) -> dict:
        content = json.dumps(document).encode()
        for reference in (tag, sha(content)):
            self.manifests[reference] = (document["mediaType"], content)
        return {"digest": sha(content), "size": len(content), "mediaType": document["mediaType"]}

    def index(self, *entries: tuple[str, dict], tag: str = "latest", docker: bool = False) -> dict:
        manifests = []
        for platform, entry in entries:
            system, _, architecture = platform.partition("/")
            manifests.append({**entry, "platform": {"os": system, "architecture": architecture}})
        return self.put({"schemaVersion": 2, "mediaType": INDEX_TYPES[docker], "manifests": manifests}, tag)

    def layout(self, directory: Path, tag: str) -> Path:
        """The image of `latest` under a tag, as an OCI layout."""
        blobs = directory / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        for digest, content in [*self.blobs.items(), *((sha(m), m) for _, m in self.manifests.values())]:
            (blobs / digest.removeprefix("sha256:")).write_bytes(content)
        kind, content = self.manifests["latest"]
        entry = {"digest": sha(content), "size": len(content), "mediaType": kind}
        entry["annotations"] = {"org.opencontainers.image.ref.name": tag}
        (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        return directory


class Handler(BaseHTTPRequestHandler):
    state: Registry

    def log_message(self, *_args):
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        state, given = self.state, self.headers.get("Authorization", "")
        state.asked.append((self.path, given))
        base = f"/v2/{REPOSITORY}/"
        if self.path.startswith("/token?"):
            if given != state.password:
                return self.answer(401)
            state.tokens += 1
            body = {"token": f"t{state.tokens}", "expires_in": state.expires}
            return self.answer(200, json.dumps(body).encode())
        if self.path.startswith("/elsewhere/"):
            return self.answer(200, state.blobs[self.path.rpartition("/")[2]])
        if not self.path.startswith(base):
            return self.answer(404)
        if state.scheme == "Basic" and given != state.password:
            return self.answer(401, WWW_Authenticate='Basic realm="all"')
        if state.scheme == "Bearer" and not (state.tokens and given == f"Bearer t{state.tokens}"):
            realm = state.realm or f"{state.url}/token"
            return self.answer(401, WWW_Authenticate=f'Bearer realm="{realm}",service="here",scope="repository:x:pull"')
        kind, _, reference = self.path.removeprefix(base).partition("/")
        if kind == "blobs" and reference in state.blobs:
            if state.elsewhere:
                return self.answer(307, Location=f"{state.elsewhere}/elsewhere/{reference}")
            return self.answer(200, state.blobs[reference], ETag=f'"{reference}"')
        if kind == "manifests" and reference in state.manifests:
            media_type, content = state.manifests[reference]
            assert media_type in self.headers["Accept"]
            return self.answer(200, content, Content_Type=media_type)
        return self.answer(404)


@contextlib.contextmanager
def serving(tls: SSLContext | None = None) -> Iterator[Registry]:
    """A registry on loopback."""
    state = Registry()
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("H", (Handler,), {"state": state}))
    http.daemon_threads = True
    state.host = f"127.0.0.1:{http.server_port}"
    state.url = f"{'https' if tls else 'http'}://{state.host}"
    if tls:
        http.socket = tls.wrap_socket(http.socket, server_side=True)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield state
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
