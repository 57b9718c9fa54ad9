"""Disks in container images: from a registry that wants tokens, and from OCI layouts in files."""

import base64
import gzip
import json
import os
import tarfile
from pathlib import Path

import pytest

import tls_server
from registry_server import REPOSITORY, Registry, layer, member, serving, sha
from vmruntime.engines.qemu import import_job, registry
from vmruntime.engines.qemu.config import QEMU_UID
from vmruntime.engines.qemu.container_disk import MANIFEST_TYPES
from vmruntime.engines.qemu.decompress import zstd
from vmruntime.engines.qemu.docker_config import credentials
from vmruntime.engines.qemu.http_request import Access, Limits
from vmruntime.engines.qemu.image_cache import ImageCache
from vmruntime.engines.qemu.images import ImageError
from vmruntime.engines.qemu.import_job import Job
from vmruntime.engines.qemu.progress import Progress
from vmruntime.engines.qemu.source_kinds import Origin, check_address
from vmruntime.engines.qemu.sources import SourceError

MIB = 1 << 20
DISK = bytes([0xEB, 0x63, 0x90]) + os.urandom(MIB - 3) + bytes(MIB)
OTHER = bytes([0xEB, 0x63, 0x90]) + os.urandom(MIB - 4) + b"."
OWNER = QEMU_UID if os.geteuid() == 0 else None


@pytest.fixture
def hub():
    with serving() as state:
        yield state


def bring_in(directory: Path, url: str, cache=None, size: int = 8 * MIB, **more) -> Progress:
    dest = directory / "disk.raw"
    progress = Progress(directory / "progress", lambda _line: None)
    import_job.run(Job(Origin(url, **more), "raw", size, dest, OWNER, cache=cache), progress)
    return progress


def of(hub: Registry, reference: str = "") -> str:
    return f"docker://{hub.host}/{REPOSITORY}{reference}"


def content(directory: Path, length: int = len(DISK)) -> bytes:
    return (directory / "disk.raw").read_bytes()[:length]


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress, bytes], ids=["gzip", "zstd", "tar"])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_the_disk_of_a_container_image(hub, tmp_path, pack, form):
    names = [f"{'deep/' * 15}readme", "disk", "./disk/a.img", "disk-notes/b.img"]
    if form != tarfile.USTAR_FORMAT:
        names[0] = f"{'deep/' * 60}{'long' * 30}é"
    members = [member(names[0], b"x" * 700), member(names[1], kind=tarfile.DIRTYPE), member(names[2], DISK)]
    hub.image(layer(*members, member(names[3], b"y"), pack=pack, form=form))
    progress = bring_in(tmp_path, of(hub))
    assert content(tmp_path) == DISK
    assert list(hub.blobs) == ["sha256:" + progress.sha256]
    assert progress.total == len(DISK) and progress.source_format == "raw"


@pytest.mark.parametrize("docker", [False, True])
def test_an_index_leads_to_this_platform(hub, tmp_path, docker):
    ours = hub.image(layer(member("disk/d.img", DISK)), tag="ours", docker=docker)
    theirs = hub.image(layer(member("disk/d.img", OTHER)), tag="theirs", docker=docker)
    hub.index(("linux/arm64", theirs), ("windows/amd64", theirs), ("linux/amd64", ours), tag="v1.0", docker=docker)
    bring_in(tmp_path, of(hub, ":v1.0"))
    assert content(tmp_path) == DISK
    hub.index(("linux/arm64", theirs), tag="v2")
    with pytest.raises(SourceError, match="not there for linux/amd64, but for: linux/arm64"):
        bring_in(tmp_path, of(hub, ":v2"))


def test_upper_layers_hide_and_replace(hub, tmp_path):
    lower = layer(member("disk/old.img", OTHER), member("disk/new.img", OTHER))
    hub.image(lower, layer(member("etc/x", b"x")), layer(member("disk/.wh.old.img"), member("disk/new.img", DISK)))
    bring_in(tmp_path, of(hub))
    assert content(tmp_path) == DISK
    for marker in ("disk/.wh..wh..opq", ".wh.disk"):
        hub.image(layer(member("disk/old.img", OTHER)), layer(member(marker)))
        with pytest.raises(SourceError, match="no file in its directory /disk"):
            bring_in(tmp_path, of(hub))
    hub.image(layer(member("disk/kept.img", DISK)), layer(member("disk/.wh.gone.img")))
    bring_in(tmp_path, of(hub))
    assert content(tmp_path) == DISK


def test_what_layers_hide_is_bounded(hub, tmp_path):
    """All of it is in memory at once, and a few compressed bytes are as many names as one likes."""
    disk = layer(member("disk/kept.img", DISK))
    hub.image(disk, layer(*(member(f"etc/.wh.{number}") for number in range(1500))))
    bring_in(tmp_path, of(hub))
    assert content(tmp_path) == DISK
    for markers in ([f"disk/.wh.{number}" for number in range(1500)], [f"disk/.wh.{'long' * 2000}"]):
        hub.image(disk, layer(*map(member, markers)))
        with pytest.raises(SourceError, match="hides too many files"):
            bring_in(tmp_path, of(hub))


@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
def test_credentials_go_where_they_belong(hub, tmp_path, scheme):
    """Blobs are often elsewhere, where neither password nor token has any business."""
    hub.scheme = scheme
    with serving() as storage:
        storage.blobs = hub.blobs
        hub.elsewhere = storage.url
        hub.image(layer(member("disk/d.img", DISK)))
        bring_in(tmp_path, of(hub), access=Access("me", "secret"))
        assert content(tmp_path) == DISK
        assert storage.asked and all(given == "" for _, given in storage.asked)
    if scheme == "Bearer":
        assert any("service=here" in path and "scope=repository%3A" in path for path, _ in hub.asked)
        assert [given for path, given in hub.asked if "/blobs/" in path] == ["Bearer t1"]
    with pytest.raises(SourceError, match="401") as caught:
        bring_in(tmp_path, of(hub), access=Access("me", "guess"))
    assert caught.value.reason == "Forbidden" and "guess" not in str(caught.value)


def docker_config(*entries: tuple[str, dict]) -> str:
    return json.dumps({"auths": dict(entries)})


AS_AUTH = {"auth": base64.b64encode(b"me:secret").decode()}
WRONG_AUTH = {"username": "me", "password": "guess"}


@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
def test_a_secret_for_pulling_images_over_tls(tmp_path, scheme):
    """The entry of this registry, which only a certificate of ones own authority tells from another."""
    context, pem = tls_server.make(tmp_path)
    with serving(context) as hub:
        hub.scheme = scheme
        hub.image(layer(member("disk/d.img", DISK), pack=zstd.compress))
        config = docker_config(("other.example", WRONG_AUTH), (f"https://{hub.host}/v1/", AS_AUTH))
        bring_in(tmp_path, of(hub), access=Access(certificates=pem), docker=config)
        assert content(tmp_path) == DISK
        with pytest.raises(SourceError, match="no user name and password") as caught:
            bring_in(tmp_path, of(hub), access=Access(certificates=pem), docker=docker_config(("other", AS_AUTH)))
        assert caught.value.reason == "Forbidden"
        # It is on loopback, but where certificates are given there is TLS, and only by those.
        _, strange = tls_server.make(tmp_path)
        with pytest.raises(SourceError, match="its certificate is not trusted"):
            bring_in(tmp_path, of(hub), access=Access(certificates=strange), docker=config)


ME = ("me", "secret")


@pytest.mark.parametrize(
    ("url", "config", "expected"),
    [
        ("docker://quay.io/a/b", docker_config(("quay.io", AS_AUTH)), ME),
        ("docker://quay.io/a/b", docker_config(("quay.io", WRONG_AUTH), ("quay.io/a", AS_AUTH)), ME),
        ("docker://quay.io/a/b", docker_config(("quay.io/c", WRONG_AUTH), ("https://quay.io/v2/", AS_AUTH)), ME),
        ("docker://eu.gcr.io/a/b", docker_config(("gcr.io", WRONG_AUTH), ("*.gcr.io", AS_AUTH)), ME),
        ("docker://quay.io:5000/a", docker_config(("quay.io", WRONG_AUTH), ("quay.io:5000", AS_AUTH)), ME),
        ("docker://fedora/a", docker_config(("https://index.docker.io/v1/", AS_AUTH)), ME),
        ("docker://quay.io/a", json.dumps({"quay.io": {**WRONG_AUTH, **AS_AUTH}}), ME),
        ("docker://quay.io/a", docker_config(("quay.io", {"auth": AS_AUTH["auth"].rstrip("=")})), ME),
        ("docker://quay.io/a", docker_config(("quay.io", {"username": "me", "password": "a:b"})), ("me", "a:b")),
        ("docker://quay.io/a", docker_config(("quay.io", {"identitytoken": "x"})), "Forbidden"),
        ("docker://b.a.gcr.io/a", docker_config(("*.gcr.io", AS_AUTH)), "Forbidden"),
        ("docker://quay.io/a", docker_config(("quay.io", {"auth": "!!"})), "Forbidden"),
        ("docker://quay.io/a", "{", "InvalidSecret"),
        ("docker://quay.io/a", '{"auths": []}', "InvalidSecret"),
        ("docker://quay.io/a", "[]", "InvalidSecret"),
    ],
)
def test_which_entry_of_a_secret_is_for_an_image(url, config, expected):
    try:
        found = credentials(config, registry.parse(url))
    except SourceError as error:
        found = error.reason
    assert found == expected


def test_a_token_that_runs_out_is_renewed(hub, tmp_path):
    hub.scheme, hub.expires = "Bearer", 0.001
    hub.image(layer(member("disk/d.img", DISK)))
    bring_in(tmp_path, of(hub), access=Access("me", "secret"))
    assert content(tmp_path) == DISK and hub.tokens > 1


def test_the_second_disk_takes_the_layer_from_the_cache_until_the_tag_moves(hub, tmp_path):
    cache = ImageCache(tmp_path / "cache", "default", 100 * MIB)
    hub.image(layer(member("disk/d.img", DISK)))
    assert not bring_in(tmp_path, of(hub), cache).from_cache
    assert bring_in(tmp_path, of(hub), cache).from_cache
    assert len([path for path, _ in hub.asked if "/blobs/" in path]) == 1
    hub.image(layer(member("disk/d.img", OTHER)))
    assert not bring_in(tmp_path, of(hub), cache).from_cache
    assert content(tmp_path, len(OTHER)) == OTHER


def broken_layer(hub):
    hub.image(layer(member("disk/d.img", OTHER), pack=bytes))
    hub.blobs[next(iter(hub.blobs))] = layer(member("disk/d.img", OTHER[:-1] + b"!"), pack=bytes)
    return "has the digest"


def larger_layer(hub):
    one = layer(member("disk/d.img", DISK), pack=bytes)
    hub.image(one)
    hub.blobs[sha(one)] = one + bytes(4096)
    return "larger than the"


def other_manifest(hub):
    entry = hub.image(layer(member("disk/d.img", DISK)), tag="other")
    hub.index(("linux/amd64", {**entry, "digest": sha(b"else")}))
    hub.manifests[sha(b"else")] = hub.manifests["other"]
    return "the manifest has the digest"


def two_disks(hub):
    hub.image(layer(member("disk/a.img", DISK), member("disk/b.img", DISK)))
    return "more than one disk: /disk/a.img and /disk/b.img"


def linked(hub):
    hub.image(layer(member("disk/a.img", kind=tarfile.SYMTYPE)))
    return "no regular file"


def none_at_all(hub):
    hub.image(layer(member("disk/deeper/a.img", DISK), member("../disk2/x", DISK)))
    return "no file in its directory /disk"


def no_archive(hub):
    hub.image(gzip.compress(b"plain text" * 200))
    return "damaged, or is none"


def cut_archive(hub):
    hub.image(layer(member("disk/a.img", DISK), pack=lambda tar: gzip.compress(tar[: MIB // 2])))
    return "cut short"


def long_header(hub):
    huge = tarfile.TarInfo("././@PaxHeader")
    huge.type, huge.size = tarfile.XHDTYPE, 1 << 40
    hub.image(gzip.compress(huge.tobuf(tarfile.GNU_FORMAT)))
    return "a header of 1099511627776 bytes"


def old_schema(hub):
    hub.put({"schemaVersion": 1, "mediaType": MANIFEST_TYPES[0], "fsLayers": []}, "latest")
    return "with layers"


def too_large(hub):
    hub.image(layer(member("disk/a.img", bytes(9 * MIB))))
    return "more than the requested size"


def a_page(hub):
    hub.image(layer(member("disk/a.img", b"<html>sorry</html>")))
    return "web page"


WRONG = [broken_layer, larger_layer, other_manifest, two_disks, linked, none_at_all, no_archive, cut_archive]
WRONG += [long_header, old_schema, too_large, a_page]


@pytest.mark.parametrize("make", WRONG)
def test_what_is_wrong_with_an_image_is_told_and_leaves_nothing(hub, tmp_path, make):
    words = make(hub)
    with pytest.raises((SourceError, ImageError), match=words):
        bring_in(tmp_path, of(hub))
    assert os.listdir(tmp_path) == ["progress"]


def test_a_token_server_without_tls_is_not_believed_of_a_registry_with_it():
    access = registry.RegistryAccess(Access("me", "secret"), Limits(), "r")
    with pytest.raises(SourceError, match="without TLS"):
        access.answer('Bearer realm="http://x.example/token"', "https://hub.example/v2/r/manifests/1", None)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("docker://quay.io/kubevirt/fedora:40", ("quay.io", "kubevirt/fedora", "40")),
        ("docker://localhost:5000/a", ("localhost:5000", "a", "latest")),
        ("docker://docker.io/fedora", ("registry-1.docker.io", "library/fedora", "latest")),
        ("docker://kubevirt/fedora", ("registry-1.docker.io", "kubevirt/fedora", "latest")),
        (f"docker://h.example/a/b:1@{sha(b'')}", ("h.example", "a/b", sha(b""))),
    ],
)
def test_names_of_container_images(url, expected):
    name = registry.parse(url)
    assert (name.host, name.repository, name.reference) == expected


@pytest.mark.parametrize(
    "url", ["docker://h.example/a/../b", "docker://h.example/A", "docker://me:pw@h.example/a", "docker://h.example/"]
)
def test_what_names_no_container_image(url):
    with pytest.raises(SourceError) as caught:
        check_address(url)
    assert caught.value.reason == "InvalidURL"


@pytest.mark.parametrize("as_archive", [False, True])
def test_an_image_in_files(hub, tmp_path, as_archive):
    inside = tmp_path / "images"
    ours = hub.image(layer(member("disk/d.img", DISK)), tag="ours")
    hub.index(("linux/amd64", ours))
    path, url = hub.layout(inside / "layout", "v1"), f"oci://{inside}/layout"
    if as_archive:
        path, url = inside / "image.tar", f"oci-archive://{inside}/image.tar"
        with tarfile.open(path, "w") as tar:
            tar.add(inside / "layout", ".")
    for tag in ("", ":v1"):
        bring_in(tmp_path, url + tag, allowed=(inside,))
        assert content(tmp_path) == DISK
    with pytest.raises(SourceError, match="no image of the tag v2"):
        bring_in(tmp_path, url + ":v2", allowed=(inside,))
    with pytest.raises(SourceError) as caught:
        bring_in(tmp_path, url, allowed=(tmp_path / "elsewhere",))
    assert caught.value.reason == "NotAllowed"


def test_a_layout_does_not_lead_out_of_its_directory(hub, tmp_path):
    inside = tmp_path / "images"
    hub.image(layer(member("disk/d.img", DISK)))
    hub.layout(inside / "layout", "v1")
    for blob in (inside / "layout" / "blobs" / "sha256").iterdir():
        blob.rename(tmp_path / blob.name)
        blob.symlink_to(tmp_path / blob.name)
    with pytest.raises(SourceError) as caught:
        bring_in(tmp_path, f"oci://{inside}/layout", allowed=(inside,))
    assert caught.value.reason == "NotAllowed"


def test_a_compressed_archive_is_told(tmp_path):
    (tmp_path / "i.tar").write_bytes(gzip.compress(b"x" * 2000))
    with pytest.raises(SourceError, match="must not be compressed"):
        bring_in(tmp_path, f"oci-archive://{tmp_path}/i.tar", allowed=(tmp_path,))
