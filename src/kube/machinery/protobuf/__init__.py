"""Protobuf bodies of built-in kinds, read into the objects that JSON bodies would have been, and written.

Go clients, newer kubectl among them, send built-in kinds as `application/vnd.kubernetes.protobuf` and do not fall back
to JSON when a server refuses it. Most accept answers in JSON; what is written here is for those that do not.

`wire` is protobuf's encoding, `table` the packaged field numbers of the kinds (scripts/generate_protobuf.py),
`forms` the types that JSON writes in a way of their own (times, quantities), `decode` and `encode` put them together.
`swagger` writes the OpenAPI document of version 2.
"""

from __future__ import annotations

from kube.machinery.protobuf.decode import MAGIC, decode_unknown
from kube.machinery.protobuf.encode import encode_unknown, encode_watch_event
from kube.machinery.protobuf.wire import ProtobufError

__all__ = ["MAGIC", "ProtobufError", "decode_unknown", "encode_unknown", "encode_watch_event"]
