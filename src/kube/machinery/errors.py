"""API errors: Kubernetes `Status` objects as one exception type, raised by servers, received by clients.

Reasons, codes and wording follow apimachinery's `errors` package, because clients match on them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Cause:
    """One entry of `status.details.causes`: why a field was refused."""

    reason: str
    message: str
    field: str

    def to_dict(self) -> dict[str, str]:
        return {"reason": self.reason, "message": self.message, "field": self.field}


# The text that field.ErrorType prints before the value; the key is the cause's reason.
_CAUSE_TEXT = {
    "FieldValueRequired": "Required value",
    "FieldValueDuplicate": "Duplicate value",
    "FieldValueInvalid": "Invalid value",
    "FieldValueNotSupported": "Unsupported value",
    "FieldValueForbidden": "Forbidden",
    "FieldValueTooLong": "Too long",
    "FieldValueTooMany": "Too many",
    "FieldValueNotFound": "Not found",
    "FieldValueTypeInvalid": "Invalid value",
}


class StatusError(Exception):
    """An answer of a Kubernetes API that is not a success: HTTP code, machine-readable reason, message and details."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.list_continue = ""
        """The token in the metadata of a 410 with which an expired list goes on, inconsistently."""

    def to_status(self) -> dict[str, Any]:
        """The `Status` object that goes over the wire."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"continue": self.list_continue} if self.list_continue else {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details:
            status["details"] = self.details
        status["code"] = self.code
        return status

    @classmethod
    def from_status(cls, status: dict[str, Any], code: int) -> StatusError:
        """Read a `Status` object; a body that is none still gives an error with the HTTP code."""
        return cls(
            int(status.get("code") or code),
            str(status.get("reason") or ""),
            str(status.get("message") or f"the server answered with HTTP status {code}"),
            status.get("details"),
        )


def _details(group_resource: str, name: str) -> dict[str, Any]:
    plural, _, group = group_resource.partition(".")
    details: dict[str, Any] = {}
    if name:
        details["name"] = name
    if group:
        details["group"] = group
    if plural:
        details["kind"] = plural
    return details


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def unauthorized(message: str = "Unauthorized") -> StatusError:
    return StatusError(401, "Unauthorized", message)


def forbidden(group_resource: str, name: str, message: str) -> StatusError:
    """403. `message` is the tail after the resource: `pods "x" is forbidden: MESSAGE`."""
    subject = f'{group_resource} "{name}"' if name else group_resource
    text = f"{subject} is forbidden: {message}" if subject else message
    return StatusError(403, "Forbidden", text, _details(group_resource, name))


def not_found(group_resource: str, name: str) -> StatusError:
    return StatusError(404, "NotFound", f'{group_resource} "{name}" not found', _details(group_resource, name))


def path_not_found() -> StatusError:
    """404 for a URL that no resource serves."""
    return StatusError(404, "NotFound", "the server could not find the requested resource", {})


def method_not_allowed(action: str, group_resource: str) -> StatusError:
    return StatusError(
        405,
        "MethodNotAllowed",
        f"{action} is not supported on resources of kind {group_resource!r}".replace("'", '"'),
        _details(group_resource, ""),
    )


def not_acceptable(offered: Iterable[str]) -> StatusError:
    text = ", ".join(offered)
    return StatusError(406, "NotAcceptable", f"only the following media types are accepted: {text}")


def already_exists(group_resource: str, name: str) -> StatusError:
    return StatusError(
        409, "AlreadyExists", f'{group_resource} "{name}" already exists', _details(group_resource, name)
    )


def conflict(group_resource: str, name: str, message: str) -> StatusError:
    return StatusError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {group_resource} "{name}": {message}',
        _details(group_resource, name),
    )


OPTIMISTIC_LOCK = "the object has been modified; please apply your changes to the latest version and try again"


def expired(message: str) -> StatusError:
    """410: the resource version asked for is no longer in the history."""
    return StatusError(410, "Expired", message)


def too_large(message: str = "Request entity too large: limit is 3145728") -> StatusError:
    return StatusError(413, "RequestEntityTooLarge", message)


def unsupported_media_type(accepted: Iterable[str]) -> StatusError:
    text = ", ".join(accepted)
    return StatusError(
        415,
        "UnsupportedMediaType",
        f"the body of the request was in an unknown format - accepted media types include: {text}",
    )


def invalid(group: str, kind: str, name: str, causes: Iterable[Cause]) -> StatusError:
    """422 with one cause per field, worded as `field.ErrorList` is."""
    listed = list(causes)
    texts = [f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in listed]
    text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    details: dict[str, Any] = {"name": name, "kind": kind, "causes": [cause.to_dict() for cause in listed]}
    if group:
        details["group"] = group
    subject = f"{kind}.{group}" if group else kind
    return StatusError(422, "Invalid", f'{subject} "{name}" is invalid: {text}', details)


def cause(reason: str, field: str, detail: str = "", value: str | None = None) -> Cause:
    """A cause with the wording of apimachinery's `field.Error`.

    `value` is the already printed bad value (quoted if it is a string), left out for Required, Forbidden and the like.
    """
    text = _CAUSE_TEXT[reason]
    if value is not None:
        text += f": {value}"
    if detail:
        text += f": {detail}"
    return Cause(reason, text, field)


def internal(message: str) -> StatusError:
    return StatusError(500, "InternalError", f"Internal error occurred: {message}")


def service_unavailable(message: str) -> StatusError:
    return StatusError(503, "ServiceUnavailable", message)


def insufficient_storage(message: str) -> StatusError:
    """507: nothing was changed, because the server's disk is full."""
    return StatusError(507, "InsufficientStorage", message)
