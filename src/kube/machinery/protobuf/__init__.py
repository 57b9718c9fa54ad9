"""Protobuf request bodies of built-in kinds, read into the objects that JSON bodies would have been.

Go clients, newer kubectl among them, send built-in kinds as `application/vnd.kubernetes.protobuf` and do not fall back
to JSON when a server refuses it; answers in JSON they do accept. So bodies are read here, and nothing is written.

`wire` is protobuf's encoding, `table` the packaged field numbers of the kinds (scripts/generate_protobuf.py),
`forms` the types that JSON writes in a way of their own (times, quantities), `decode` puts them together.
"""

from __future__ import annotations

from kube.machinery.protobuf.decode import MAGIC, decode_unknown
from kube.machinery.protobuf.wire import ProtobufError

__all__ = ["MAGIC", "ProtobufError", "decode_unknown"]
