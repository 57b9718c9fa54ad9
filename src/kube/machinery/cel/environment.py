"""The checker's environment: CEL's standard extensions that Kubernetes has, and its own functions.

The checker (cel-expr-python, a wrapper of the C++ implementation) is a large library that most processes never need, so
it is imported at the first compilation.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

_EXTENSIONS = ("optional", "lists", "sets", "two-var-comprehensions")


@cache
def environment(variables: tuple[str, ...]) -> Any:
    """A `cel.Env` in which the variables are declared with dynamic type."""
    return typed_environment(dict.fromkeys(variables, "dyn"))


def typed_environment(variables: Mapping[str, str]) -> Any:
    """A `cel.Env` in which the variables have these types: `dyn`, `int`, `double`, `string` or `bool`."""
    from cel_expr_python import cel

    lines = ["extensions:", *(f"  - name: {name}" for name in _EXTENSIONS)]
    if variables:
        lines += ["variables:", *(f'  - name: "{name}"\n    type: {type_}' for name, type_ in variables.items())]
    return cel.NewEnv(config=cel.NewEnvConfigFromYaml("\n".join(lines) + "\n"), functions=_declarations())


@cache
def _declarations() -> list[Any]:
    from cel_expr_python import cel

    from kube.machinery.cel.functions import FUNCTIONS, OPAQUE

    types = {
        "bool": cel.Type.BOOL,
        "int": cel.Type.INT,
        "double": cel.Type.DOUBLE,
        "string": cel.Type.STRING,
        "dyn": cel.Type.DYN,
        "list": cel.Type.List(cel.Type.DYN),
        "strings": cel.Type.List(cel.Type.STRING),
        "query": cel.Type.Map(cel.Type.STRING, cel.Type.List(cel.Type.STRING)),
        **{name: cel.Type.AbstractType(name) for name in OPAQUE},
    }
    overloads: dict[str, list[Any]] = {}
    for function in FUNCTIONS:
        parameters = [types[name] for name in function.parameters]
        identity = f"k8s_{function.name}_{'_'.join(function.parameters)}_{function.member}".replace(".", "_")
        overload = cel.Overload(identity, types[function.result], parameters, function.member)
        overloads.setdefault(function.name, []).append(overload)
    return [cel.FunctionDecl(name, listed) for name, listed in overloads.items()]
