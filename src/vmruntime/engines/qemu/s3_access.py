"""Requests to S3 and what is compatible with it, signed with an access key (AWS Signature Version 4).

Source: "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)", Amazon S3 API reference.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import SplitResult, parse_qsl, quote, unquote

from vmruntime.engines.qemu.http_request import Access

_EMPTY = hashlib.sha256(b"").hexdigest()
_REGION = re.compile(r"(?:^|\.)s3[.-](?:dualstack\.)?([a-z]{2}(?:-[a-z]+)+-\d)\.")
_DEFAULT_REGION = "us-east-1"  # which servers other than Amazon's take for theirs, too


@dataclass(frozen=True, slots=True)
class S3Access(Access):
    """`user` is the access key's id, `password` the secret key; without them requests are anonymous."""

    def headers(self, parts: SplitResult) -> dict[str, str]:
        return self.signed(parts, datetime.now(UTC)) if self.user else {}

    def signed(self, parts: SplitResult, now: datetime) -> dict[str, str]:
        """The headers that a GET of this URL at this time needs."""
        stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        values = {"host": parts.netloc, "x-amz-content-sha256": _EMPTY, "x-amz-date": stamp}
        names = ";".join(values)
        query = "&".join(sorted(f"{_coded(k)}={_coded(v)}" for k, v in parse_qsl(parts.query, keep_blank_values=True)))
        path = quote(unquote(parts.path) or "/", safe="/-_.~")
        lines = ["GET", path, query, *(f"{name}:{value}" for name, value in values.items()), "", names, _EMPTY]
        scope = f"{day}/{_region(parts)}/s3/aws4_request"
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        key = f"AWS4{self.password}".encode()
        for word in scope.split("/"):
            key = hmac.digest(key, word.encode(), "sha256")
        signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}".encode(), "sha256").hex()
        credential = f"Credential={self.user}/{scope},SignedHeaders={names},Signature={signature}"
        return {
            "Authorization": f"AWS4-HMAC-SHA256 {credential}",
            "x-amz-content-sha256": _EMPTY,
            "x-amz-date": stamp,
        }


def _coded(text: str) -> str:
    return quote(text, safe="-_.~")


def _region(parts: SplitResult) -> str:
    """Amazon's host names say which region they are of."""
    found = _REGION.search(parts.hostname or "")
    return found.group(1) if found else _DEFAULT_REGION
