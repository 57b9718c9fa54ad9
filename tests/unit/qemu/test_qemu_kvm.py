"""The probe's judgement on scripted guests, and the guest's bytes against their source. KVM itself need not be here."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vmruntime.engines.qemu import kvm
from vmruntime.engines.qemu.hostcheck import check_cpu


def judge(script: list[tuple[float, bytes]], deadline: float = 0.6) -> kvm.KvmResult:
    """What the probe makes of a guest that writes these bytes after these pauses and then stays silent."""
    reader, writer = os.pipe()

    def write() -> None:
        for pause, data in script:
            time.sleep(pause)
            os.write(writer, data)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        return kvm._judge(reader, deadline)
    finally:
        thread.join()
        os.close(writer)
        os.close(reader)


def test_all_stages_in_time_are_usable():
    result = judge([(0, b">R"), (0.01, b"P"), (0.01, b"pLlMmUu"), (0.01, b"CZ")])
    assert (result.usable, result.marks) == (True, "RPpLlMmUuCZ")


def test_a_slow_first_loop_is_an_early_no():
    started = time.monotonic()
    result = judge([(0, b">RP")], deadline=10)
    assert not result.usable and result.marks == "RP"
    assert "too slow" in result.reason and "useEmulation: true" in result.reason
    assert time.monotonic() - started < 5


def test_a_guest_that_does_not_finish_is_a_no_at_the_deadline():
    result = judge([(0, b">RPpLl")], deadline=0.1)
    assert not result.usable
    assert "stage 5 of 11" in result.reason


def test_an_error_is_told():
    result = judge([(0, b">!KVM exit reason 17")])
    assert not result.usable and "KVM exit reason 17" in result.reason


def test_a_guest_that_goes_astray_is_a_no():
    assert "went astray" in judge([(0, b">RL")]).reason


def test_a_missing_device_names_the_remedy(tmp_path):
    result = kvm.probe(device=str(tmp_path / "kvm"))
    assert not result.usable
    assert "does not exist" in result.reason and "useEmulation: true" in result.reason
    assert kvm.device_group(str(tmp_path / "kvm")) is None


def test_a_device_that_is_none_is_not_usable():
    result = kvm.probe(device="/dev/null")
    assert not result.usable
    assert "failed" in result.reason


def test_the_program_prints_one_line_of_json():
    done = subprocess.run(
        [sys.executable, "-m", "vmruntime.engines.qemu.kvm"], capture_output=True, text=True, timeout=30
    )
    answer = json.loads(done.stdout)
    assert answer.keys() == {"usable", "reason", "marks", "seconds"}
    assert done.returncode == (0 if answer["usable"] else 1)
    assert answer["seconds"] <= kvm.DEADLINE + 0.5


@pytest.mark.skipif(not (shutil.which("as") and shutil.which("ld")), reason="no assembler here")
def test_the_guest_is_what_its_source_says(tmp_path):
    source = Path(kvm.__file__).with_name("kvm_guest.S")
    subprocess.run(["as", "--64", "-o", "guest.o", source], cwd=tmp_path, check=True)
    link = ["ld", "-Ttext", "0x1000", "--oformat", "binary", "-o", "guest.bin", "guest.o"]
    subprocess.run(link, cwd=tmp_path, check=True)
    assert (tmp_path / "guest.bin").read_bytes().rstrip(b"\0") == kvm._GUEST


def fake_tools(directory: Path, version: str) -> str:
    for name in ("qemu-system-x86_64", "qemu-img"):
        program = directory / name
        program.write_text(f"#!/bin/sh\necho '{version}'\n")
        program.chmod(0o755)
    return str(directory)


def test_cpu_check_names_what_is_missing(tmp_path):
    result = check_cpu(str(tmp_path))
    assert not result.passed
    assert "qemu-system-x86_64 is not installed" in result.message and "qemu-system-x86" in result.message


@pytest.mark.parametrize(
    ("version", "passed", "words"),
    [
        ("QEMU emulator version 9.1.0 (x)", True, "QEMU 9.1.0"),
        ("QEMU emulator version 5.2.0", False, "7.0 or later"),
        ("nothing", False, "does not run"),
    ],
)
def test_cpu_check_looks_at_the_version(tmp_path, version, passed, words):
    result = check_cpu(fake_tools(tmp_path, version))
    assert (result.name, result.passed) == ("CPU", passed)
    assert words in result.message
