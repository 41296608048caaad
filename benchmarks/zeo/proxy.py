"""A TCP proxy that holds every piece for a time: python -m benchmarks.zeo.proxy PORT SECONDS

SECONDS is half of the round trip. Prints the port that it listens on.
"""

import asyncio
import sys
from typing import Any

import uvloop


class End(asyncio.Protocol):
    """One end of a connection; what it receives leaves at `peer`, later."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.peer: Any = None
        self.early: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_later(self.delay, self._forward, data)

    def _forward(self, data: bytes) -> None:
        if self.peer is None:
            self.early.append(data)
        else:
            self.peer.write(data)

    def connection_lost(self, problem: Exception | None) -> None:
        if self.peer is not None:
            self.peer.close()


async def serve(port: int, delay: float) -> None:
    """Forward to a port of loopback, for ever."""
    loop = asyncio.get_running_loop()
    tasks = set()

    async def connect(client: End) -> None:
        _, server = await loop.create_connection(lambda: End(delay), "127.0.0.1", port)
        client.peer, server.peer = server.transport, client.transport
        for data in client.early:
            client.peer.write(data)

    def accepted() -> End:
        client = End(delay)
        task = loop.create_task(connect(client))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return client

    server = await loop.create_server(accepted, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2])))
