"""The signatures of Kubernetes' functions, for the checker; what they do is in `library`.

Optionals of its own types the checker does not know: such results are of any type. `string` of addresses is not there,
as the checker has a function of that name.
"""

from __future__ import annotations

from dataclasses import dataclass

from kube.machinery.cel.kubernetes import FORMAT_NAMES

QUANTITY, URL, IP, CIDR = "kubernetes.Quantity", "kubernetes.URL", "net.IP", "net.CIDR"
SEMVER, FORMAT = "kubernetes.Semver", "kubernetes.NamedFormat"
AUTHORIZER, DECISION = "kubernetes.authorization.Authorizer", "kubernetes.authorization.Decision"
PATH_CHECK, GROUP_CHECK, RESOURCE_CHECK = (
    f"kubernetes.authorization.{name}" for name in ("PathCheck", "GroupCheck", "ResourceCheck")
)
OPAQUE = (QUANTITY, URL, IP, CIDR, SEMVER, FORMAT, AUTHORIZER, DECISION, PATH_CHECK, GROUP_CHECK, RESOURCE_CHECK)


@dataclass(frozen=True)
class Function:
    """One overload: parameters and result are keys of the environment's type table."""

    name: str
    parameters: tuple[str, ...]
    result: str
    member: bool = True


def _global(name: str, parameters: tuple[str, ...], result: str) -> Function:
    return Function(name, parameters, result, member=False)


def _each(names: str, parameters: tuple[str, ...], result: str) -> list[Function]:
    return [Function(name, parameters, result) for name in names.split()]


FUNCTIONS: list[Function] = [
    _global("jsonpatch.escapeKey", ("string",), "string"),
    Function("charAt", ("string", "int"), "string"),
    *_each("indexOf lastIndexOf", ("string", "string"), "int"),
    *_each("indexOf lastIndexOf", ("string", "string", "int"), "int"),
    *_each("indexOf lastIndexOf", ("list", "dyn"), "int"),
    Function("join", ("list",), "string"),
    Function("join", ("list", "string"), "string"),
    *_each("lowerAscii upperAscii trim", ("string",), "string"),
    Function("replace", ("string", "string", "string"), "string"),
    Function("replace", ("string", "string", "string", "int"), "string"),
    Function("split", ("string", "string"), "strings"),
    Function("split", ("string", "string", "int"), "strings"),
    Function("substring", ("string", "int"), "string"),
    Function("substring", ("string", "int", "int"), "string"),
    Function("format", ("string", "list"), "string"),
    _global("strings.quote", ("string",), "string"),
    Function("isSorted", ("list",), "bool"),
    *_each("sum min max", ("list",), "dyn"),
    Function("find", ("string", "string"), "string"),
    Function("findAll", ("string", "string"), "strings"),
    Function("findAll", ("string", "string", "int"), "strings"),
    _global("quantity", ("string",), QUANTITY),
    _global("isQuantity", ("string",), "bool"),
    Function("isInteger", (QUANTITY,), "bool"),
    Function("asInteger", (QUANTITY,), "int"),
    Function("asApproximateFloat", (QUANTITY,), "double"),
    Function("sign", (QUANTITY,), "int"),
    *(Function("compareTo", (kind, kind), "int") for kind in (QUANTITY, SEMVER)),
    *(Function("isGreaterThan", (kind, kind), "bool") for kind in (QUANTITY, SEMVER)),
    *(Function("isLessThan", (kind, kind), "bool") for kind in (QUANTITY, SEMVER)),
    *(Function(name, (QUANTITY, kind), QUANTITY) for name in ("add", "sub") for kind in (QUANTITY, "int")),
    _global("url", ("string",), URL),
    _global("isURL", ("string",), "bool"),
    *_each("getScheme getHost getHostname getPort getEscapedPath", (URL,), "string"),
    Function("getQuery", (URL,), "query"),
    _global("ip", ("string",), IP),
    _global("isIP", ("string",), "bool"),
    _global("ip.isCanonical", ("string",), "bool"),
    Function("family", (IP,), "int"),
    *_each("isUnspecified isLoopback isLinkLocalUnicast isLinkLocalMulticast isGlobalUnicast", (IP,), "bool"),
    _global("cidr", ("string",), CIDR),
    _global("isCIDR", ("string",), "bool"),
    *(Function("containsIP", (CIDR, kind), "bool") for kind in ("string", IP)),
    *(Function("containsCIDR", (CIDR, kind), "bool") for kind in ("string", CIDR)),
    Function("ip", (CIDR,), IP),
    Function("masked", (CIDR,), CIDR),
    Function("prefixLength", (CIDR,), "int"),
    _global("semver", ("string",), SEMVER),
    _global("semver", ("string", "bool"), SEMVER),
    _global("isSemver", ("string",), "bool"),
    _global("isSemver", ("string", "bool"), "bool"),
    *_each("major minor patch", (SEMVER,), "int"),
    _global("format.named", ("string",), "dyn"),
    *(_global(f"format.{name}", (), FORMAT) for name in FORMAT_NAMES),
    Function("validate", (FORMAT, "string"), "dyn"),
    Function("path", (AUTHORIZER, "string"), PATH_CHECK),
    Function("group", (AUTHORIZER, "string"), GROUP_CHECK),
    Function("serviceAccount", (AUTHORIZER, "string", "string"), AUTHORIZER),
    Function("resource", (GROUP_CHECK, "string"), RESOURCE_CHECK),
    *_each("subresource namespace name fieldSelector labelSelector", (RESOURCE_CHECK, "string"), RESOURCE_CHECK),
    *(Function("check", (kind, "string"), DECISION) for kind in (PATH_CHECK, RESOURCE_CHECK)),
    *_each("allowed errored", (DECISION,), "bool"),
    *_each("reason error", (DECISION,), "string"),
]
