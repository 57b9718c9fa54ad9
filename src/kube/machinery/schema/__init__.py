"""Structural schemas (apiextensions.k8s.io/v1): compiled once, then defaulting, pruning and validation of objects."""

from __future__ import annotations

from kube.machinery.schema.compiled import Schema, compile_schema
from kube.machinery.schema.schemacheck import check_schema

__all__ = ["Schema", "check_schema", "compile_schema"]
