"""Whose name a change is recorded under."""

from __future__ import annotations

from kube.machinery.errors import Cause, StatusError, cause, invalid

MAX_NAME = 128  # bytes (metav1 validation.FieldManagerMaxLength)


def check_field_manager(name: str, options_kind: str, *, required: bool = False) -> None:
    """Raises 422 for a `fieldManager` that is too long or not printable, or missing where it is required (apply).

    `options_kind` is that of the request's options: PatchOptions, CreateOptions, UpdateOptions.
    """
    causes = list(_name_problems(name))
    if required and not name:
        causes.append(cause("FieldValueRequired", "fieldManager", "is required for apply patch"))
    if causes:
        raise _invalid_options(options_kind, causes)


def check_force(forced: bool, options_kind: str) -> None:
    """Raises 422 when a patch that is no apply wants to force conflicts."""
    if forced:
        raise _invalid_options(
            options_kind, [cause("FieldValueForbidden", "force", "may not be specified for non-apply patch")]
        )


def manager_name(field_manager: str, user_agent: str) -> str:
    """The manager of a create, update or patch: as asked for, else the program's name from its User-Agent."""
    if field_manager:
        return field_manager
    program = "".join(letter for letter in user_agent.partition("/")[0] if letter.isprintable())
    return program.encode()[:MAX_NAME].decode(errors="ignore")


def _name_problems(name: str) -> list[Cause]:
    found = []
    if len(name.encode(errors="replace")) > MAX_NAME:
        found.append(cause("FieldValueTooLong", "fieldManager", f"may not be more than {MAX_NAME} bytes"))
    place = next((index for index, letter in enumerate(name) if not letter.isprintable()), None)
    if place is not None:
        shown = '"' + name.encode("unicode_escape").decode("ascii") + '"'
        text = f"invalid character U+{ord(name[place]):04X} (at position {len(name[:place].encode())})"
        found.append(cause("FieldValueInvalid", "fieldManager", text, shown))
    return found


def _invalid_options(options_kind: str, causes: list[Cause]) -> StatusError:
    error = invalid("meta.k8s.io", options_kind, "", causes)
    if error.details is not None:
        error.details.pop("name", None)  # options have no name
    return error
