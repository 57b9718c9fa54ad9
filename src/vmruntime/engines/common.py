"""What everything that is asked of an engine has in common: what it is about, settings, and what can be wrong."""

from __future__ import annotations

from dataclasses import dataclass


class ConfigurationError(Exception):
    """What was asked cannot be done until somebody changes the spec, or something that it names."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class NotAdmitted(ConfigurationError):
    """The cluster refuses what the engine has to make, as where a namespace has used up its quota. It may pass."""


class GuestUnavailable(Exception):
    """Nobody in the guest answers now; it may do so later."""


class GuestRefused(Exception):
    """The guest could not, or would not, do what it was asked. The text is short and printable."""


@dataclass(frozen=True, slots=True)
class Ref:
    """Which disk or machine: two of the same name that lived one after the other differ in their uid."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the VMRuntime that an engine needs."""

    use_emulation: bool
    image_format: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the engine's own parts are up; if not, what is missing."""

    ready: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One preflight check on one node. The message of a failure names the setting that helps."""

    name: str
    passed: bool
    message: str
