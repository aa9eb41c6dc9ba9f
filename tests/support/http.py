"""HTTP/1.1 by h11 over whatever sends and receives bytes: knows nothing of STT, and of no event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import h11

Send = Callable[[bytes], Awaitable[None]]
Receive = Callable[[], Awaitable[bytes]]
"""``b""`` at the end."""


class Wire:
    """One side of an HTTP connection."""

    def __init__(self, role: type[h11.CLIENT | h11.SERVER], send: Send, receive: Receive) -> None:
        self.connection = h11.Connection(role)
        self._send = send
        self._receive = receive

    async def say(self, *events: Any) -> None:
        for event in events:
            data = self.connection.send(event)
            if data:
                await self._send(data)

    async def hear(self) -> Any:
        while (event := self.connection.next_event()) is h11.NEED_DATA:
            self.connection.receive_data(await self._receive())
        return event

    async def hear_body(self) -> bytes:
        body = b""
        while not isinstance(event := await self.hear(), h11.EndOfMessage):
            body += bytes(event.data)
        return body


async def serve(send: Send, receive: Receive) -> int:
    """Answer each request with its own body turned around, until the client has had enough; how many there were."""
    wire = Wire(h11.SERVER, send, receive)
    served = 0
    while isinstance(request := await wire.hear(), h11.Request):
        body = await wire.hear_body()
        headers = [(b"x-target", bytes(request.target)), (b"content-length", b"%d" % len(body))]
        await wire.say(h11.Response(status_code=200, headers=headers), h11.Data(data=body[::-1]), h11.EndOfMessage())
        served += 1
        wire.connection.start_next_cycle()
    assert isinstance(request, h11.ConnectionClosed)
    return served


class Client:
    """Several requests over one connection."""

    def __init__(self, send: Send, receive: Receive) -> None:
        self._wire = Wire(h11.CLIENT, send, receive)

    async def post(self, target: str, body: bytes) -> tuple[int, str, bytes]:
        """Status, the target as the server saw it, and the body of the answer."""
        headers = [("host", "over-stt"), ("transfer-encoding", "chunked")]
        half = len(body) // 2
        await self._wire.say(
            h11.Request(method="POST", target=target, headers=headers),
            h11.Data(data=body[:half]),
            h11.Data(data=body[half:]),
            h11.EndOfMessage(),
        )
        answer = await self._wire.hear()
        assert isinstance(answer, h11.Response)
        received = await self._wire.hear_body()
        self._wire.connection.start_next_cycle()
        return answer.status_code, dict(answer.headers)[b"x-target"].decode(), received


async def talk(send: Send, receive: Receive) -> None:
    """What a client says to :func:`serve`, and that it hears the right things."""
    client = Client(send, receive)
    large = bytes(range(256)) * 4000
    for target, body in (("/small", b"abc"), ("/none", b""), ("/large", large)):
        assert await client.post(target, body) == (200, target, body[::-1])
