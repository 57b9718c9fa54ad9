"""Volumes: what is in them, how it is replaced, and mounts that only one process sees."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import pytest

from kube.machinery.resources import CONFIGMAPS, SECRETS
from solo.node import payload
from solo.node.addresses import Addresses
from solo.node.environment import ConfigError
from solo.node.host import Host
from solo.node.launch import Launch, LaunchError, fork_gated
from solo.node.libc import is_system_administrator
from solo.node.mounts import Mount
from solo.node.payload import File
from solo.node.reaper import exit_code

needs_mounts = pytest.mark.skipif(not is_system_administrator(), reason="needs CAP_SYS_ADMIN")

POD = {
    "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"b": "2", "a": 'say "hi"'}},
    "spec": {"containers": [{"name": "c", "resources": {"limits": {"memory": "64Mi"}}}]},
}

HOST = Host(Addresses(), {"cpu": "3", "memory": "4096Ki"})


async def read(resource, namespace, name):
    stored = {
        (SECRETS, "s"): {"data": {"key": base64.b64encode(b"\xff\0").decode(), "other": ""}},
        (CONFIGMAPS, "m"): {"data": {"text": "ü"}, "binaryData": {"bin": base64.b64encode(b"\x01").decode()}},
        (CONFIGMAPS, "bad"): {"data": {"..x": "1"}},
    }
    assert namespace == "ns"
    return stored.get((resource, name))


async def token(audience, seconds):
    return f"token for {audience or 'the API'}, {seconds} s"


async def files(**source) -> dict[str, tuple[bytes, int]]:
    return dict(await payload.collect(POD, {"name": "v", **source}, HOST, read, token))


async def test_secrets_and_config_maps():
    assert await files(secret={"secretName": "s", "defaultMode": 0o400}) == {
        "key": (b"\xff\0", 0o400),
        "other": (b"", 0o400),
    }
    assert await files(configMap={"name": "m"}) == {"text": ("ü".encode(), 0o644), "bin": (b"\x01", 0o644)}
    items = [{"key": "text", "path": "deep/down", "mode": 0o600}]
    assert await files(configMap={"name": "m", "items": items}) == {"deep/down": ("ü".encode(), 0o600)}
    items = [{"key": "text", "path": "shut", "mode": 0}]
    assert await files(configMap={"name": "m", "items": items}) == {"shut": ("ü".encode(), 0)}
    assert {mode for _, mode in (await files(secret={"secretName": "s", "defaultMode": 0})).values()} == {0}
    assert await files(configMap={"name": "none", "optional": True}) == {}


async def test_projected_sources_are_one_volume():
    wanted = [
        {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 600}},
        {"secret": {"name": "s", "items": [{"key": "key", "path": "key"}]}},
        {
            "downwardAPI": {
                "items": [
                    {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                    {"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}},
                    {"path": "memory", "resourceFieldRef": {"containerName": "c", "resource": "limits.memory"}},
                ]
            }
        },
    ]
    found = await files(projected={"sources": wanted, "defaultMode": 0o440})
    assert {name: data.decode("latin-1") for name, (data, _) in found.items()} == {
        "token": "token for vault, 600 s",
        "key": "\xff\0",
        "labels": 'a="say \\"hi\\""\nb="2"',
        "ns": "ns",
        "memory": "67108864",
    }
    assert {mode for _, mode in found.values()} == {0o440}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ({"secret": {"secretName": "none"}}, 'secret "none" not found'),
        ({"configMap": {"name": "m", "items": [{"key": "no", "path": "x"}]}}, "non-existent configmap key: no"),
        ({"configMap": {"name": "m", "items": [{"key": "text", "path": "../x"}]}}, "no path in a volume"),
        ({"configMap": {"name": "bad"}}, "no path in a volume"),
    ],
)
async def test_what_is_missing_or_leads_out_is_named(source, text):
    with pytest.raises(ConfigError, match=text):
        await files(**source)


def tree(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): path.read_text()
        for path in directory.rglob("*")
        if path.is_file() and not path.relative_to(directory).parts[0].startswith("..")
    }


def test_a_volume_is_replaced_as_a_whole(tmp_path):
    volume = tmp_path / "v"
    payload.write(volume, {"a": File(b"1", 0o400), "deep/b": File(b"2", 0o644)}, None)
    assert (volume / "a").read_text() == "1" and (volume / "deep" / "b").read_text() == "2"
    assert stat.S_IMODE((volume / "a").stat().st_mode) == 0o400
    held = os.open(volume / "..data", os.O_PATH)
    before = (volume / "..data").readlink()
    payload.write(volume, {"a": File(b"1", 0o400), "deep/b": File(b"2", 0o644)}, None)
    assert (volume / "..data").readlink() == before, "the same again changes nothing"
    payload.write(volume, {"a": File(b"3", 0o400), "c": File(b"4", 0o644)}, None)
    assert tree(volume) == {"a": "3", "c": "4"}
    assert sorted(os.listdir(volume)) == sorted(["..data", (volume / "..data").readlink().name, "a", "c"])
    os.close(held)


def test_a_kill_between_two_states_is_made_good(tmp_path):
    volume = tmp_path / "v"
    payload.write(volume, {"a": File(b"1", 0o644)}, None)
    wanted = {"a": File(b"2", 0o644)}
    half = volume / (".." + payload._digest(wanted, None))
    half.mkdir()
    (half / "a").write_text("hal")
    (volume / "..data.new").symlink_to("nowhere")
    payload.write(volume, wanted, None)
    assert tree(volume) == {"a": "2"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_files_of_a_group(tmp_path):
    payload.write(tmp_path / "v", {"d/a": File(b"1", 0o400)}, 60800)
    found = (tmp_path / "v" / "d" / "a").stat()
    assert (found.st_gid, stat.S_IMODE(found.st_mode)) == (60800, 0o440)


async def run(tmp_path, script: str, *mounts: Mount, **fields) -> tuple[int, str]:
    with open(tmp_path / "out", "w+b") as out, open(os.devnull, "rb") as nothing:
        env = {"PATH": "/usr/bin:/bin"}
        fds = {"stdin": nothing.fileno(), "stdout": out.fileno(), "stderr": out.fileno()}
        process = fork_gated(Launch(["sh", "-c", script], env, "/", **fds, mounts=mounts, **fields))
        await process.release()
        status = await process.watch.wait()
        out.seek(0)
        return exit_code(status)[0], out.read().decode()


@pytest.fixture
def source(tmp_path):
    made = tmp_path / "source"
    (made / "sub").mkdir(parents=True)
    (made / "file").write_text("content\n")
    (made / "sub" / "inner").write_text("inner\n")
    return made


@needs_mounts
async def test_mounts_are_seen_by_the_process_alone(tmp_path, source):
    target = tmp_path / "made" / "on the way"
    mount = Mount(str(source), str(target))
    script = f"cat '{target}/file' && echo new > '{target}/new' && umask"
    assert await run(tmp_path, script, mount) == (0, "content\n0077\n")
    assert list(target.iterdir()) == [] and (source / "new").read_text() == "new\n"
    assert str(target) not in Path("/proc/self/mounts").read_text()


@needs_mounts
async def test_read_only_sub_path_and_nested_mounts(tmp_path, source):
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "sub"
    mounts = [Mount(str(source), str(inner), sub_path="sub"), Mount(str(source), str(outer), read_only=True)]
    script = f"cat {inner}/inner; echo x > {inner}/more; echo x > {outer}/more"
    code, output = await run(tmp_path, script, *mounts)
    assert code != 0 and "inner" in output and "Read-only file system" in output
    assert (source / "sub" / "more").exists() and not (source / "more").exists()


@needs_mounts
async def test_a_sub_path_is_made_and_never_leads_out_of_its_volume(tmp_path, source):
    source.chmod(0o770)
    code, _ = await run(tmp_path, "true", Mount(str(source), str(tmp_path / "t"), sub_path="x/y"))
    assert code == 0 and stat.S_IMODE((source / "x" / "y").stat().st_mode) == 0o770
    (source / "link").symlink_to("/etc")
    (source / "x" / "up").symlink_to("../../..")
    (source / "within").symlink_to("sub")
    assert await run(tmp_path, f"ls {tmp_path}/t", Mount(str(source), str(tmp_path / "t"), sub_path="within")) == (
        0,
        "inner\n",
    )
    for path in ("link", "link/new", "x/up", "x/up/new", "../source"):
        with pytest.raises(LaunchError, match="mount volumes"):
            await run(tmp_path, "true", Mount(str(source), str(tmp_path / "t"), sub_path=path))
    assert not (tmp_path / "new").exists()


@needs_mounts
async def test_what_cannot_be_mounted_is_named(tmp_path, source):
    with pytest.raises(LaunchError, match="mount volumes '/etc/hostname': File exists"):
        await run(tmp_path, "true", Mount(str(source), "/etc/hostname"))
    with pytest.raises(LaunchError, match="no-such-source"):
        await run(tmp_path, "true", Mount(str(tmp_path / "no-such-source"), str(tmp_path / "t")))


@needs_mounts
async def test_a_process_beside_sees_the_same_mounts(tmp_path, source):
    target = tmp_path / "t"
    with open(os.devnull, "r+b") as nothing:
        fd = nothing.fileno()
        env = {"PATH": "/usr/bin:/bin"}
        first = fork_gated(Launch(["sleep", "600"], env, "/", fd, fd, fd, mounts=(Mount(str(source), str(target)),)))
        await first.release()
    assert await run(tmp_path, f"cat {target}/file", beside=(first.pid, first.start_ticks)) == (0, "content\n")
    with pytest.raises(LaunchError, match="join the mounts"):
        await run(tmp_path, "true", beside=(first.pid, first.start_ticks + 1))
    first.kill()
    await first.watch.wait()
