"""What may be a name, a label or a path segment, and the suffix of generated names.

Each check returns the error texts of k8s.io/apimachinery `util/validation` (an empty list: valid), because they end up
in Status messages that people search for. Lengths are in bytes, as they
are there, even where the text calls them characters.
"""

from __future__ import annotations

import ipaddress
import os
import re

LABEL_MAX = 63
SUBDOMAIN_MAX = 253

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_WILDCARD = rf"\*\.{_SUBDOMAIN}"
_DNS1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = f"({_QUALIFIED})?"

_LABEL_RE = re.compile(_LABEL)
_SUBDOMAIN_RE = re.compile(_SUBDOMAIN)
_WILDCARD_RE = re.compile(_WILDCARD)
_DNS1035_RE = re.compile(_DNS1035)
_QUALIFIED_RE = re.compile(_QUALIFIED)
_LABEL_VALUE_RE = re.compile(_LABEL_VALUE)

_QUALIFIED_TEXT = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)

# No vowels and no 0, 1, 3: generated names spell no words (k8s.io/apimachinery util/rand).
_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def dns1123_label(value: str) -> list[str]:
    """Namespaces, container names, label-like names (RFC 1123 label)."""
    errors = _too_long(value, LABEL_MAX)
    if not _LABEL_RE.fullmatch(value):
        if _SUBDOMAIN_RE.fullmatch(value):
            errors.append("must not contain dots")
        else:
            text = (
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
                "and must start and end with an alphanumeric character"
            )
            errors.append(_regex_error(text, _LABEL, "my-name", "123-abc"))
    return errors


def dns1123_subdomain(value: str) -> list[str]:
    """The names of most objects, and API groups (RFC 1123 subdomain)."""
    errors = _too_long(value, SUBDOMAIN_MAX)
    if not _SUBDOMAIN_RE.fullmatch(value):
        text = (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
            "and must start and end with an alphanumeric character"
        )
        errors.append(_regex_error(text, _SUBDOMAIN, "example.com"))
    return errors


def wildcard_subdomain(value: str) -> list[str]:
    """A host that stands for all that are one level below a domain: `*.` and a subdomain."""
    errors = _too_long(value, SUBDOMAIN_MAX)
    if not _WILDCARD_RE.fullmatch(value):
        text = (
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist "
            "of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character"
        )
        errors.append(_regex_error(text, _WILDCARD, "*.example.com"))
    return errors


def dns1035_label(value: str) -> list[str]:
    """Names that must begin with a letter: Services, the plural of a custom resource (RFC 1035 label)."""
    errors = _too_long(value, LABEL_MAX)
    if not _DNS1035_RE.fullmatch(value):
        text = (
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
            "start with an alphabetic character, and end with an alphanumeric character"
        )
        errors.append(_regex_error(text, _DNS1035, "my-name", "abc-123"))
    return errors


def qualified_name(value: str) -> list[str]:
    """Keys of labels and annotations, finalizers: `[DNS subdomain/]name`."""
    errors: list[str] = []
    prefix, slash, name = value.rpartition("/")
    if value.count("/") > 1:
        text = _regex_error(f"a valid label key {_QUALIFIED_TEXT}", _QUALIFIED, "MyName", "my.name", "123-abc")
        return [f"{text} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
    if slash:
        if not prefix:
            errors.append("prefix part must be non-empty")
        else:
            errors += [f"prefix part {error}" for error in dns1123_subdomain(prefix)]
    if not name:
        errors.append("name part must be non-empty")
    else:
        errors += [f"name part {error}" for error in _too_long(name, LABEL_MAX, "bytes")]
    if not _QUALIFIED_RE.fullmatch(name):
        errors.append(_regex_error(f"name part {_QUALIFIED_TEXT}", _QUALIFIED, "MyName", "my.name", "123-abc"))
    return errors


def label_value(value: str) -> list[str]:
    """The value of a label; the empty string is one."""
    errors = _too_long(value, LABEL_MAX, "bytes")
    if not _LABEL_VALUE_RE.fullmatch(value):
        text = f"a valid label must be an empty string or {_QUALIFIED_TEXT.removeprefix('must ')}"
        errors.append(_regex_error(text, _LABEL_VALUE, "MyValue", "my_value", "12345"))
    return errors


def ip_address(value: str) -> list[str]:
    """What is wrong with an address of either family."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    return []


def path_segment(value: str) -> list[str]:
    """Names that need only be safe in a URL path: Roles, ClusterRoleBindings."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{part}'" for part in ("/", "%") if part in value]


def generate_suffix() -> str:
    """Five random characters that follow `metadata.generateName` or a controller's prefix."""
    # Not the module secrets: it loads OpenSSL, which every command would wait for. Bytes from the last, incomplete
    # round of the alphabet are dropped, so that its letters stay equally likely.
    size = len(_SUFFIX_ALPHABET)
    letters = ""
    while len(letters) < 5:
        letters += "".join(_SUFFIX_ALPHABET[byte % size] for byte in os.urandom(8) if byte < 256 // size * size)
    return letters[:5]


def _too_long(value: str, limit: int, unit: str = "characters") -> list[str]:
    # A lone surrogate may come out of a JSON escape; it must not turn a refusal into a crash.
    size = len(value.encode("utf-8", "surrogatepass"))
    return [f"must be no more than {limit} {unit}"] if size > limit else []


def _regex_error(text: str, pattern: str, *examples: str) -> str:
    listed = " or ".join(f"'{example}', " for example in examples)
    return f"{text} (e.g. {listed}regex used for validation is '{pattern}')"
