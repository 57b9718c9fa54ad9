"""Which UEFI firmware is taken, by the descriptors of distributions, and whose the variables are."""

import json
import stat
from pathlib import Path

import pytest

from vmruntime.engines.qemu.firmware import Uefi, ensure_variables, find

PLAIN = ("acpi-s3", "verbose-dynamic")
ENROLLED = ("secure-boot", "enrolled-keys", "requires-smm")


def descriptor(directory: Path, name: str, features: tuple[str, ...], **changes: object) -> Uefi:
    """A descriptor as distributions write them, and the two images that it names."""
    directory.mkdir(exist_ok=True)
    code, variables = directory / f"{name}.code", directory / f"{name}.vars"
    code.write_bytes(b"code")
    variables.write_bytes(b"vars")
    content = {
        "interface-types": ["uefi"],
        "mapping": {
            "device": "flash",
            "executable": {"filename": str(code), "format": "raw"},
            "nvram-template": {"filename": str(variables), "format": "raw"},
        },
        "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}],
        "features": list(features),
    }
    (directory / f"{name}.json").write_text(json.dumps(content | changes))
    return Uefi(code, variables)


def test_secure_boot_needs_keys_and_without_it_none_are_taken(tmp_path):
    enrolled = descriptor(tmp_path, "40-enrolled", ENROLLED)
    descriptor(tmp_path, "50-no-keys", ("secure-boot", "requires-smm"))
    plain = descriptor(tmp_path, "60-plain", PLAIN)
    assert find(True, [tmp_path]) == enrolled
    assert find(False, [tmp_path]) == plain


def test_an_earlier_directory_overrides_and_an_empty_descriptor_switches_off(tmp_path):
    etc, usr = tmp_path / "etc", tmp_path / "usr"
    descriptor(usr, "50-a", PLAIN)
    later = descriptor(usr, "60-b", PLAIN)
    mine = descriptor(etc, "50-a", PLAIN)
    assert find(False, [etc, usr]) == mine
    (etc / "50-a.json").write_text("")
    assert find(False, [etc, usr]) == later


@pytest.mark.parametrize(
    "changes",
    [
        {"interface-types": ["bios"]},
        {"mapping": {"device": "memory", "filename": "x"}},
        {"targets": [{"architecture": "aarch64", "machines": ["virt-*"]}]},
        {"targets": [{"architecture": "x86_64", "machines": ["pc-i440fx-*"]}]},
        {"targets": 1},
    ],
)
def test_what_does_not_fit_is_passed_over(tmp_path, changes):
    descriptor(tmp_path, "50-a", PLAIN, **changes)
    assert find(False, [tmp_path, tmp_path / "absent"]) is None


def test_a_descriptor_of_a_removed_package_is_passed_over(tmp_path):
    descriptor(tmp_path, "50-a", PLAIN).code.unlink()
    assert find(False, [tmp_path]) is None


def test_variables_are_made_once_and_kept(tmp_path):
    template, mine = tmp_path / "template", tmp_path / "nvram.fd"
    template.write_bytes(b"new")
    ensure_variables(mine, template, None)
    assert stat.S_IMODE(mine.stat().st_mode) == 0o600
    mine.write_bytes(b"written by the guest")
    ensure_variables(mine, template, None)
    assert mine.read_bytes() == b"written by the guest"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nvram.fd", "template"]
