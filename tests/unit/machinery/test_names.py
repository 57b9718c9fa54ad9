"""Name and label checks with the texts of apimachinery."""

from __future__ import annotations

import pytest

from kube.machinery import names

LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
NAME_PART_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
LABEL_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


@pytest.mark.parametrize(
    ("check", "value", "errors"),
    [
        (names.dns1123_label, "my-vm1", []),
        (names.dns1123_label, "1", []),
        (names.dns1123_label, "a" * 63, []),
        (names.dns1123_label, "a" * 64, ["must be no more than 63 characters"]),
        (names.dns1123_label, "a.b", ["must not contain dots"]),
        (names.dns1123_label, "", [LABEL_TEXT]),
        (names.dns1123_label, "-a", [LABEL_TEXT]),
        (names.dns1123_label, "a\n", [LABEL_TEXT]),
        (names.dns1123_label, "ä", [LABEL_TEXT]),
        (names.dns1123_subdomain, "a.b-c.d", []),
        (names.dns1123_subdomain, "a..b", [SUBDOMAIN_TEXT]),
        (names.dns1123_subdomain, "A", [SUBDOMAIN_TEXT]),
        (names.dns1123_subdomain, "\ud800", [SUBDOMAIN_TEXT]),
        (names.dns1123_subdomain, "ä" * 127, ["must be no more than 253 characters", SUBDOMAIN_TEXT]),
        (names.dns1035_label, "abc", []),
        (names.qualified_name, "MyName", []),
        (names.qualified_name, "example.com/My_Name.1", []),
        (names.qualified_name, "", ["name part must be non-empty", NAME_PART_TEXT]),
        (names.qualified_name, "/x", ["prefix part must be non-empty"]),
        (names.qualified_name, "EXAMPLE/x", [f"prefix part {SUBDOMAIN_TEXT}"]),
        (names.qualified_name, "a" * 64, ["name part must be no more than 63 bytes"]),
        (names.qualified_name, "a b", [NAME_PART_TEXT]),
        (names.label_value, "", []),
        (names.label_value, "A_b.c", []),
        (names.label_value, "a b", [LABEL_VALUE_TEXT]),
        (names.label_value, "-", [LABEL_VALUE_TEXT]),
        (names.path_segment, "system:node:x", []),
        (names.path_segment, "..", ["may not be '..'"]),
        (names.path_segment, "a/b%", ["may not contain '/'", "may not contain '%'"]),
    ],
)
def test_checks(check, value, errors):
    assert check(value) == errors


def test_a_second_slash_is_refused_as_a_whole():
    (error,) = names.qualified_name("a/b/c")
    assert error.startswith("a valid label key must consist of")
    assert error.endswith("with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')")


def test_a_service_name_begins_with_a_letter():
    (error,) = names.dns1035_label("1a")
    assert error.startswith("a DNS-1035 label must consist of")


def test_suffixes_are_random_and_spell_no_words():
    suffixes = {names.generate_suffix() for _ in range(100)}
    assert len(suffixes) > 90
    assert all(len(suffix) == 5 for suffix in suffixes)
    assert set("".join(suffixes)) <= set("bcdfghjklmnpqrstvwxz2456789")
