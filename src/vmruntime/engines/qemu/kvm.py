"""Finding out whether KVM is usable here, by running and timing a guest on it.

That `/dev/kvm` exists and creates virtual machines proves little: under some hypervisors it does, and then emulates
every instruction in the kernel, hundreds of times slower than QEMU's own emulation. So a small guest (`kvm_guest.S`)
goes from real mode to long mode, computes, touches memory, takes an exception, and reports each stage. Usable means:
all stages, in time. It runs in a process of its own, which is killed when time is up.

    python -m vmruntime.engines.qemu.kvm      prints one line of JSON; exit code 0 usable, 1 not

Source of the numbers: Linux, Documentation/virt/kvm/api.rst and include/uapi/linux/kvm.h.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import mmap
import os
import select
import struct
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

DEVICE = "/dev/kvm"
STAGES = "RPpLlMmUuCZ"
DEADLINE = 1.0
"""Seconds for the whole guest. KVM on an emulated CPU (the slowest that is still of use) needs 0.3 to 0.5."""
FIRST_LOOP_DEADLINE = 0.25
"""Seconds for the first loop, stage P to p: 5 to 12 ms on an emulated CPU, 4 s where KVM emulates."""
START_DEADLINE = 10.0
"""Seconds until the guest starts, most of which is the start of a Python interpreter."""

REMEDY = "set spec.useEmulation: true on the VMRuntime to run virtual machines in software"

_GUEST = bytes.fromhex(
    "fa31c08ed8b052e6f4660f011690110f20c06683c8010f22c066ea21100000080066b810008ed88ec08ed0bc00900000b050"
    "e6f4b980841e004975fdb070e6f4bf0000010031c0b9000c0000f3abc7050000010003100100c7050010010003200100bf00"
    "200100b883000000890783c70805000020003d8300800075efb8000001000f22d80f20e083c8200f22e0b9800000c00f320d"
    "000100000f300f20c00d000000800f22c0eaae1000001800b04ce6f4b9002d3101ffc975fcb06ce6f4bf00002000b9000040"
    "00b05af3aab04de6f4b900000100bf0000200048890f48390f757c4883c708e2f2b06de6f4b8621100006689042560800000"
    "66c7042562800000180066c7042564800000008ec1e810668904256680000048c7042568800000000000000f011c25961100"
    "000f0bb075e6f4b9d00700000f20da0f22da0f013c2500002000e2f3b043e6f4bec800000031c031c90fa2ffce75f6b05ae6"
    "f4f4ebfdb055e6f4488304240248cf0f1f000000000000000000ffff0000009bcf00ffff00000093cf00ffff0000009baf00"
    "1f00701100007f000080"
)
_LOAD_ADDRESS = 0x1000
_MEMORY = 8 << 20
_STACK = 0x9000
_TSS_ADDRESS = 0x7FFBD000  # below 2^31, which is as far as fcntl.ioctl's integer argument goes

_GET_API_VERSION = 0xAE00
_CREATE_VM = 0xAE01
_GET_VCPU_MMAP_SIZE = 0xAE04
_CREATE_VCPU = 0xAE41
_SET_TSS_ADDR = 0xAE47
_RUN = 0xAE80
_SET_USER_MEMORY_REGION = 0x4020AE46
_SET_REGS = 0x4090AE82
_GET_SREGS = 0x8138AE83
_SET_SREGS = 0x4138AE84
_SET_CPUID2 = 0x4008AE90
_GET_SUPPORTED_CPUID = 0xC008AE05

_EXIT_IO = 2
_EXIT_HLT = 5


@dataclass(frozen=True, slots=True)
class KvmResult:
    """`reason` is one sentence for people, `marks` the stages that the guest reached, `seconds` what it took."""

    usable: bool
    reason: str
    marks: str
    seconds: float


def probe(deadline: float = DEADLINE, device: str = DEVICE) -> KvmResult:
    """Runs the guest. Blocks for at most START_DEADLINE + `deadline` seconds, usually far less."""
    if (reason := device_problem(device)) is not None:
        return KvmResult(False, reason, "", 0.0)
    child = subprocess.Popen(
        [sys.executable, "-m", __spec__.name if __spec__ else __name__, "--guest", device],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdout is not None
    try:
        return _judge(child.stdout.fileno(), deadline)
    finally:
        child.kill()
        child.stdout.close()
        child.wait()


def device_problem(device: str = DEVICE) -> str | None:
    """Why the device cannot even be opened, as one sentence with a remedy; None where it can."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return f"{device} does not exist: this host offers no hardware virtualization; {REMEDY}"
    except PermissionError:
        return f"{device} may not be opened by user {os.geteuid()}: add it to the device's group, or {REMEDY}"
    except OSError as error:
        return f"{device} cannot be opened ({error.strerror}); {REMEDY}"
    return None


def device_group(device: str = DEVICE) -> int | None:
    """The group that may use the device: QEMU, which runs unprivileged, needs it. None where there is no device."""
    try:
        return os.stat(device).st_gid
    except OSError:
        return None


def _judge(pipe: int, deadline: float) -> KvmResult:
    """Reads the guest's letters until they are complete, wrong or late."""
    marks = ""
    until = time.monotonic() + START_DEADLINE
    started = 0.0
    while True:
        left = until - time.monotonic()
        data = os.read(pipe, 64).decode("latin-1") if left > 0 and select.select([pipe], [], [], left)[0] else None
        now = time.monotonic()
        seconds = round(now - started, 3) if started else 0.0
        if data is None:
            return KvmResult(False, _too_slow(marks, seconds), marks, seconds)
        if data == "" or "!" in data:
            detail = data.partition("!")[2].strip() or "it ended without a word"
            return KvmResult(False, f"a test guest failed on {DEVICE}: {detail}; {REMEDY}", marks, seconds)
        for mark in data:
            if mark == ">":
                started = now
                until = now + deadline
                continue
            marks += mark
            if mark == "P":
                until = min(started + deadline, now + FIRST_LOOP_DEADLINE)
            elif mark == "p":
                until = started + deadline
        if marks == STAGES:
            return KvmResult(True, f"a test guest ran on {DEVICE} in {seconds:.3f} s", marks, seconds)
        if not STAGES.startswith(marks):
            return KvmResult(False, f"a test guest went astray on {DEVICE} after {marks!r}; {REMEDY}", marks, seconds)


def _too_slow(marks: str, seconds: float) -> str:
    return (
        f"{DEVICE} exists, but is too slow to be used: a test guest that needs some milliseconds reached stage "
        f"{len(marks)} of {len(STAGES)} in {seconds:.2f} s; {REMEDY}"
    )


def _create_vcpu(device: str) -> tuple[int, mmap.mmap, mmap.mmap]:
    """A virtual CPU that is about to run the guest: its descriptor, its run structure, and the guest's memory."""
    kvm = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    version = fcntl.ioctl(kvm, _GET_API_VERSION, 0)
    if version != 12:
        raise OSError(f"API version {version}, expected 12")
    machine = fcntl.ioctl(kvm, _CREATE_VM, 0)
    memory = mmap.mmap(-1, _MEMORY)
    memory[_LOAD_ADDRESS : _LOAD_ADDRESS + len(_GUEST)] = _GUEST
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fcntl.ioctl(machine, _SET_TSS_ADDR, _TSS_ADDRESS)
    fcntl.ioctl(machine, _SET_USER_MEMORY_REGION, struct.pack("<IIQQQ", 0, 0, 0, _MEMORY, address))
    vcpu = fcntl.ioctl(machine, _CREATE_VCPU, 0)
    run = mmap.mmap(vcpu, fcntl.ioctl(kvm, _GET_VCPU_MMAP_SIZE, 0))
    # The CPU features that KVM offers, handed to the guest as they are: struct kvm_cpuid2 with 40-byte entries.
    features = bytearray(struct.pack("<II", 256, 0) + bytes(40 * 256))
    fcntl.ioctl(kvm, _GET_SUPPORTED_CPUID, features, True)
    count = struct.unpack_from("<I", features)[0]
    fcntl.ioctl(vcpu, _SET_CPUID2, bytearray(features[: 8 + 40 * count]), True)
    # All segments start at 0 (struct kvm_sregs: six of 24 bytes, base first, selector at 12).
    segments = bytearray(312)
    fcntl.ioctl(vcpu, _GET_SREGS, segments, True)
    for number in range(6):
        struct.pack_into("<Q", segments, 24 * number, 0)
        struct.pack_into("<H", segments, 24 * number + 12, 0)
    fcntl.ioctl(vcpu, _SET_SREGS, bytes(segments))
    registers = [0] * 18
    registers[6] = _STACK
    registers[16] = _LOAD_ADDRESS
    registers[17] = 2  # RFLAGS: the bit that is always set
    fcntl.ioctl(vcpu, _SET_REGS, struct.pack("<18Q", *registers))
    return vcpu, run, memory


def _run_guest(device: str, out: int) -> None:
    """The child process: `>` when the guest starts, then its letters as they come, `!` and a text on failure."""
    try:
        vcpu, run, _memory = _create_vcpu(device)
        os.write(out, b">")
        while True:
            fcntl.ioctl(vcpu, _RUN, 0)
            reason = struct.unpack_from("<I", run, 8)[0]
            if reason == _EXIT_HLT:
                return
            if reason != _EXIT_IO:
                os.write(out, f"!KVM exit reason {reason}".encode())
                return
            offset = struct.unpack_from("<Q", run, 40)[0]
            os.write(out, run[offset : offset + 1])
    except OSError as error:
        os.write(out, f"!{error}".encode())


def main(argv: list[str]) -> int:
    """`--guest DEVICE` is the child's part, see `probe`."""
    if len(argv) == 2 and argv[0] == "--guest":
        _run_guest(argv[1], 1)
        return 0
    if argv:
        sys.stderr.write("usage: python -m vmruntime.engines.qemu.kvm\n")
        return 2
    result = probe()
    sys.stdout.write(json.dumps(asdict(result)) + "\n")
    return 0 if result.usable else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
