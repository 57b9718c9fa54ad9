"""The command line of machines, against reviewed files, and QEMU's own opinion of it."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from vmruntime.engines.qemu.argv import build_argv, translation_cache_mib
from vmruntime.engines.qemu.config import DiskConfig, MachineConfig, NicConfig, UefiConfig, disk_serials

GOLDEN = Path(__file__).parent / "golden"
UUID = "6f1d2c3b-0000-4000-8000-74696e790001"

LINUX = MachineConfig(
    name="default/web-1",
    uuid=UUID,
    vcpus=2,
    memory_mib=4096,
    disks=(
        DiskConfig("../../disks/default/boot_u1/disk.raw", serial="boot", boot_index=1),
        DiskConfig("../../disks/default/data_u2/disk.qcow2", "qcow2", serial="data"),
        DiskConfig("../../disks/default/ro_u3/disk.raw", read_only=True, bus="scsi"),
    ),
    nics=(
        NicConfig(
            "eth0", "52:54:00:12:34:56", host_address="127.64.1.2", forwards=((22, 22), (10080, 80)), hostname="web-1"
        ),
    ),
    seed="seed.iso",
    accelerator="kvm",
    guest_agent=True,
)
WINDOWS = MachineConfig(
    name="w,in",
    uuid=UUID,
    vcpus=4,
    memory_mib=8192,
    disks=(
        DiskConfig("disk,1.qcow2", "qcow2", bus="sata", boot_index=2),
        DiskConfig("install.iso", cdrom=True, bus="sata", boot_index=1),
    ),
    nics=(NicConfig("eth0", "52:54:00:00:00:01"), NicConfig("eth1", "52:54:00:00:00:02", model="e1000e")),
    seed="seed.iso",
    seed_bus="sata",
    guest_agent=True,
    rtc_local_time=True,
)
TINY = MachineConfig(name="tiny", uuid=UUID, vcpus=1, memory_mib=96, video=False)


@pytest.mark.parametrize(("name", "config"), [("linux-kvm", LINUX), ("windows-tcg", WINDOWS), ("nothing", TINY)])
def test_command_line_is_the_reviewed_one(name, config):
    assert build_argv(config) == (GOLDEN / f"{name}.txt").read_text().splitlines()


def test_commas_do_not_start_new_options():
    argv = build_argv(replace(TINY, name="a,debug-threads=off"))
    assert argv[argv.index("-name") + 1] == "guest=a,,debug-threads=off,debug-threads=on"


def test_a_backing_file_in_a_header_is_never_followed():
    argv = build_argv(LINUX)
    nodes = [json.loads(argv[i + 1]) for i, word in enumerate(argv) if word == "-blockdev"]
    assert [node.get("backing", "absent") for node in nodes] == ["absent", None, "absent", "absent"]
    assert [node["read-only"] for node in nodes] == [False, False, True, True]
    assert all(node["file"]["cache"] == {"direct": False, "no-flush": False} for node in nodes)


def test_another_disk_moves_no_other_device():
    def addresses(config):
        return {
            part.split(",id=")[1].split(",")[0]: part.split("addr=")[1].split(",")[0]
            for part in build_argv(config)
            if ",id=" in part and "addr=" in part
        }

    before = addresses(replace(LINUX, seed=None))
    after = addresses(replace(LINUX, seed=None, disks=(*LINUX.disks, DiskConfig("new.raw"))))
    assert before.items() <= after.items()
    assert len(set(after.values())) == len(after)


def test_secure_boot_guards_the_variables():
    plain = build_argv(replace(LINUX, uefi=UefiConfig("/fw/code.fd", "nvram.fd")))
    secure = build_argv(replace(LINUX, uefi=UefiConfig("/fw/code.fd", "nvram-secure.fd", secure_boot=True)))
    flash = [json.loads(word) for word in secure if '"flash-' in word and word.startswith("{")]
    assert [(node["file"]["filename"], node["read-only"]) for node in flash] == [
        ("/fw/code.fd", True),
        ("nvram-secure.fd", False),
    ]
    assert "smm=on" in secure[secure.index("-machine") + 1]
    assert "driver=cfi.pflash01,property=secure,value=on" in secure
    assert "smm" not in plain[plain.index("-machine") + 1]
    assert not any("cfi.pflash01" in word for word in plain)


def test_the_serial_number_is_one_value_whatever_it_holds():
    argv = build_argv(replace(TINY, serial="A,uuid=1"))
    assert argv[argv.index("-smbios") + 1].endswith(",serial=A,,uuid=1")


def test_cards_on_taps_and_on_groups():
    mac = "52:54:00:00:00:01"
    nics = (
        NicConfig("net0", mac, tap="vmtab1230000001"),
        NicConfig("net1", mac, descriptor=4),
        NicConfig("net2", mac, group="239.1.2.3:20001"),
    )
    argv = build_argv(replace(TINY, nics=nics))
    assert [argv[i + 1] for i, word in enumerate(argv) if word == "-netdev"] == [
        "tap,id=net0,ifname=vmtab1230000001,script=no,downscript=no",
        "tap,id=net1,fd=4",
        "socket,id=net2,mcast=239.1.2.3:20001,localaddr=127.0.0.1",
    ]


def test_translation_cache_grows_with_the_guest():
    assert [translation_cache_mib(m) for m in (96, 256, 257, 1024, 4096)] == [32, 32, 64, 128, 256]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"name": "a\nb"}, "control"),
        ({"uuid": "x"}, "UUID"),
        ({"vcpus": 0}, "virtual CPUs"),
        ({"memory_mib": 0}, "memory"),
        ({"accelerator": "xen"}, "accelerator"),
        ({"nics": tuple(NicConfig(f"e{i}", "52:54:00:00:00:01") for i in range(5))}, "network cards"),
        ({"disks": tuple(DiskConfig(f"{i}") for i in range(16)), "seed": "s"}, "at most 16"),
        ({"disks": tuple(DiskConfig(f"{i}", bus="sata") for i in range(7))}, "SATA"),
        ({"disks": tuple(DiskConfig(f"{i}", bus="sata") for i in range(6)), "spare_tray": True}, "SATA"),
        ({"serial": "x" * 65}, "serial"),
        ({"uefi": UefiConfig("/code", "vars")}, "UEFI firmware needs at least 128"),
        ({"disks": (DiskConfig("a", boot_index=1), DiskConfig("b", boot_index=1))}, "same boot index"),
    ],
)
def test_machines_that_cannot_be_are_refused(change, word):
    with pytest.raises(ValueError, match=word):
        replace(TINY, **change)


@pytest.mark.parametrize(
    ("kind", "fields", "word"),
    [
        (DiskConfig, {"path": "/etc/shadow"}, "relative"),
        (DiskConfig, {"path": ""}, "relative"),
        (DiskConfig, {"path": "a", "format": "vmdk"}, "raw or qcow2"),
        (DiskConfig, {"path": "a", "serial": "x" * 21}, "20 bytes"),
        (DiskConfig, {"path": "a", "cdrom": True}, "scsi or sata"),
        (DiskConfig, {"path": "a", "read_only": True, "bus": "sata"}, "always writable"),
        (UefiConfig, {"code": "/code", "variables": "/vars"}, "relative"),
        (NicConfig, {"id": "0,x", "mac": "52:54:00:00:00:01"}, "identifier"),
        (NicConfig, {"id": "a", "mac": "52:54:00:00:00:0G"}, "hex pairs"),
        (NicConfig, {"id": "a", "mac": "53:54:00:00:00:01"}, "multicast"),
        (NicConfig, {"id": "a", "mac": "52:54:00:00:00:01", "hostname": "a,b"}, "DNS"),
        (NicConfig, {"id": "a", "mac": "52:54:00:00:00:01\n"}, "MAC"),
        (NicConfig, {"id": "a", "mac": "52:54:00:00:00:01", "forwards": ((1, 1),)}, "host address"),
        (NicConfig, {"id": "a", "mac": "52:54:00:00:00:01", "tap": "a,script=/x"}, "no name of a network interface"),
        (NicConfig, {"id": "a", "mac": "52:54:00:00:00:01", "group": "10.0.0.1:1"}, "no multicast group"),
        (NicConfig, {"id": "a", "mac": "52:54:00:00:00:01", "tap": "t", "forwards": ((1, 1),)}, "no port forwards"),
        (
            NicConfig,
            {"id": "a", "mac": "52:54:00:00:00:01", "host_address": "127.64.0.1", "forwards": ((0, 1),)},
            "1-65535",
        ),
    ],
)
def test_devices_that_cannot_be_are_refused(kind, fields, word):
    with pytest.raises(ValueError, match=word):
        kind(**fields)


def test_only_the_first_of_disks_with_the_same_twenty_bytes_gets_a_serial():
    names = ("a-very-long-disk-name-1", "a-very-long-disk-name-2", "short", "short")
    assert disk_serials(names) == ("a-very-long-disk-nam", "", "short", "")
    assert disk_serials(("x" * 19 + "ä",)) == ("x" * 19,)


DRIVERS = replace(
    TINY,
    disks=(
        DiskConfig("a", serial="a", boot_index=1),
        DiskConfig("b", serial="b", boot_index=2, bus="scsi"),
        DiskConfig("c", serial="c", boot_index=3, bus="sata"),
        DiskConfig("d", serial="d", boot_index=4, bus="scsi", cdrom=True),
        DiskConfig("e", serial="e", boot_index=0, bus="sata", cdrom=True),
        DiskConfig("f", read_only=True),
    ),
    seed="seed.iso",
    serial="SN, 1",
    spare_tray=True,
)


@pytest.mark.parametrize(
    "config", [replace(LINUX, accelerator="tcg", memory_mib=64), replace(WINDOWS, memory_mib=64), DRIVERS]
)
def test_qemu_accepts_every_option(config, tmp_path):
    """Started up to the point where the guest would run, then told to quit by the end of its monitor's input."""
    disks = config.all_disks()
    moved = {disk.path: f"d{number}" for number, disk in enumerate(disks)}
    for disk in disks:
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", disk.format, moved[disk.path], "1M"], cwd=tmp_path, check=True
        )
    config = replace(
        config,
        disks=tuple(replace(disk, path=moved[disk.path]) for disk in config.disks),
        seed=moved["seed.iso"],
        nics=tuple(replace(nic, forwards=()) for nic in config.nics),
    )
    done = subprocess.run(
        [*build_argv(config), "-S", "-monitor", "stdio"],
        cwd=tmp_path,
        input="info block\nquit\n",
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"disk{number}" in done.stdout for number in range(len(disks)))
