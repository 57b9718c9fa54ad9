"""Structural schemas (apiextensions.k8s.io/v1): compiled once, then defaulting, pruning and validation of objects."""

from __future__ import annotations

from kube.machinery.schema.compiled import Schema, compile_schema
from kube.machinery.schema.structural import check_structural

__all__ = ["Schema", "check_structural", "compile_schema"]
