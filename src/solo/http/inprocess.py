"""The way of the controllers and the node agent to the server that they run in: HTTP like everybody's, but over pairs
of sockets, which nobody else can open or read. So there is nothing to encrypt, and who is at the other end is known.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.tracing import Trace

URL = "http://in-process"


class InProcess(aiohttp.BaseConnector):
    """Makes the connections of an aiohttp client session, whatever host its URLs name."""

    def __init__(self, accept: Callable[[], asyncio.Protocol]) -> None:
        """`accept` makes the server's end of a connection."""
        super().__init__(limit=0)
        self._accept = accept

    async def _create_connection(
        self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        loop = asyncio.get_running_loop()
        theirs, ours = socket.socketpair()
        try:
            await loop.connect_accepted_socket(self._accept, theirs)
            _, protocol = await loop.create_unix_connection(self._factory, sock=ours)
        except BaseException:
            theirs.close()
            ours.close()
            raise
        return protocol
