"""CEL, the expression language of validation rules and admission policies, with Kubernetes' functions.

`compile_cel` is the only way in; which evaluator does the work is not visible outside this package.
"""

from __future__ import annotations

from kube.machinery.cel.program import CelCompileError, CelCostError, CelError, Program, compile_cel

__all__ = ["CelCompileError", "CelCostError", "CelError", "Program", "compile_cel"]
