"""What `kubectl get` shows of each kind: columns and cells, as in kube-apiserver's `pkg/printers/internalversion`."""

from __future__ import annotations

from solo.http.printers.columns import Column, Printer
from solo.http.printers.custom import custom_printer
from solo.http.printers.registry import printer_for
from solo.http.printers.scales import CUSTOM_SCALE, SCALE

__all__ = ["CUSTOM_SCALE", "SCALE", "Column", "Printer", "custom_printer", "printer_for"]
