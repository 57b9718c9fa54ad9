"""Printers of the scale subresource, of built-in kinds and of custom resources."""

from __future__ import annotations

from typing import Any

from solo.http.printers.columns import AGE, Column, Printer, created, name_of
from solo.http.printers.custom import AGE as CUSTOM_AGE
from solo.http.printers.custom import custom_printer
from solo.registry.kinds import PrinterColumn
from solo.registry.objects import dig


def _scale(obj: dict[str, Any]) -> list[Any]:
    wanted, present = (dig(obj, part, "replicas") or 0 for part in ("spec", "status"))
    return [name_of(obj), wanted, present, created(obj)]


SCALE = Printer((Column("Name"), Column("Desired", "integer"), Column("Available", "integer"), AGE), _scale)
CUSTOM_SCALE = custom_printer(
    (
        PrinterColumn("Desired", "integer", ".spec.replicas", "Number of desired replicas"),
        PrinterColumn("Available", "integer", ".status.replicas", "Number of actual replicas"),
        CUSTOM_AGE,
    )
)
