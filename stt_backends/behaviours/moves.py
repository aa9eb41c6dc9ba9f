"""How sessions move, by the names that both adapters have: to other addresses and other transports, streams running."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from stt_backends.behaviours.nodes import HOST, MakeNode
from stt_backends.behaviours.stack import Behaviour, Expect, Group, Stack, block
from stt_core.errors import (
    ConfigurationError,
    ConnectError,
    ConnectionRefusedError,
    ConnectionTimeoutError,
    SessionClosedError,
)

PIECE: Final = 64 * 1024
BRIEFLY: Final = 0.05
"""Seconds for what never comes."""


def _url(node: Any) -> str:
    return f"ws://{HOST}:{node.port}/"


@asynccontextmanager
async def _joined(make: MakeNode, over: str = "udp") -> AsyncIterator[tuple[Any, Any]]:
    """Both ends of a session with a node that listens by UDP and by WebSocket; the caller's first."""
    async with make(transport="both") as server, make() as client:
        here = await client.connect((HOST, server.port) if over == "udp" else _url(server))
        yield here, await server.accept()


class Traffic:
    """Bytes in one direction, for as long as it takes; both sides keep a hash."""

    def __init__(self, stack: Stack, source: Any, sink: Any) -> None:
        self._stack = stack
        self._source = source
        self._sink = sink
        self._sent = hashlib.blake2b()
        self._received = hashlib.blake2b()
        self._stopping = False
        self.received = 0
        self.over = 0

    async def send(self) -> None:
        """One task of it."""
        stream = self._source.open_stream(mode="bytes")
        number = 0
        while not self._stopping:
            piece = number.to_bytes(8, "big") * (PIECE // 8)
            self._sent.update(piece)
            await stream.send(piece)
            number += 1
        await stream.send_eof()
        self.over += 1

    async def receive(self) -> None:
        """The other."""
        stream = await self._sink.accept_stream()
        while True:
            try:
                data = await stream.receive()
            except self._stack.end:
                break
            self._received.update(data)
            self.received += len(data)
        await stream.send_eof()
        self.over += 1

    async def go_on(self) -> None:
        """Until more has arrived."""
        before = self.received
        while self.received == before:
            await self._stack.checkpoint()

    async def stop(self) -> None:
        """Until all has arrived, whole."""
        self._stopping = True
        while self.over < 2:
            await self._stack.checkpoint()
        assert self.received > 0
        assert self._sent.digest() == self._received.digest()


def begin_traffic(stack: Stack, group: Group, here: Any, there: Any) -> tuple[Traffic, Traffic]:
    """Both directions at once, as tasks of ``group``; that from ``here`` first."""
    both = Traffic(stack, here, there), Traffic(stack, there, here)
    for traffic in both:
        group.start_soon(traffic.send)
        group.start_soon(traffic.receive)
    return both


async def a_session_moves_to_a_url_and_back_with_streams_running(stack: Stack, make: MakeNode) -> None:
    """UDP to WebSocket to UDP: no byte is lost, comes twice or out of order, in either direction."""
    async with _joined(make) as (here, there), stack.open_group() as group:
        address = (HOST, there.node.port)
        up, down = begin_traffic(stack, group, here, there)
        for target, transport in ((_url(there.node), "websocket"), (address, "udp"), (f"{HOST}:{address[1]}", "udp")):
            await up.go_on()
            await here.migrate(target)
            assert here.path.transport == transport
            await up.go_on()
            await down.go_on()
            assert there.path.transport == transport, "the peer has followed"
        await up.stop()
        await down.stop()


async def a_session_that_began_over_a_url_moves_to_an_address(stack: Stack, make: MakeNode) -> None:
    """WebSocket to UDP, and on to another connection."""
    async with _joined(make, over="websocket") as (here, there), stack.open_group() as group:
        up, down = begin_traffic(stack, group, here, there)
        await here.migrate((HOST, there.node.port))
        assert here.path == ("udp", (HOST, there.node.port))
        await up.go_on()
        await here.migrate(_url(there.node))
        first = here.path
        await here.migrate(_url(there.node))
        assert here.path.transport == "websocket"
        assert here.path != first, "each move has a connection of its own"
        await up.stop()
        await down.stop()


async def _goes_on(stack: Stack, make: MakeNode, failing: Callable[[Any], Any]) -> None:
    """What ``failing(session)`` does leaves a session with running streams where it was."""
    async with _joined(make) as (here, there), stack.open_group() as group:
        up, down = begin_traffic(stack, group, here, there)
        before = here.path
        await failing(here)
        assert here.path == before
        assert here.core.moving_to is None
        await up.go_on()
        await up.stop()
        await down.stop()


async def where_nobody_listens_a_session_stays(stack: Stack, make: MakeNode) -> None:
    """A URL that refuses is the builtin's ``ConnectionRefusedError``."""
    async with make() as gone:
        port = gone.port

    async def failing(here: Any) -> None:
        with Expect(ConnectionRefusedError):
            await here.migrate(f"ws://{HOST}:{port}/")

    await _goes_on(stack, make, failing)


async def where_the_peer_does_not_answer_a_session_stays(stack: Stack, make: MakeNode) -> None:
    """An address of somebody else's, and a WebSocket of somebody else's."""
    async with make(transport="both") as stranger:

        async def failing(here: Any) -> None:
            for target in ((HOST, stranger.port), _url(stranger)):
                with Expect(ConnectionTimeoutError) as expected:
                    await here.migrate(target, timeout=BRIEFLY)
                assert str(stranger.port) in str(expected.error)

        await _goes_on(stack, make, failing)


async def a_migrate_that_is_cancelled_leaves_a_session_where_it_is(stack: Stack, make: MakeNode) -> None:
    """Both while the connection is being opened and while the path is being validated."""
    async with make(transport="both") as stranger:

        async def failing(here: Any) -> None:
            for target in ((HOST, stranger.port), _url(stranger)):
                for far in (False, True):
                    async with stack.open_group() as group:
                        group.start_soon(here.migrate, target)
                        await stack.checkpoint()
                        while far and here.core.moving_to is None:
                            await stack.checkpoint()
                        group.cancel_scope.cancel()

        await _goes_on(stack, make, failing)


async def of_two_moves_the_later_counts(stack: Stack, make: MakeNode) -> None:
    """The earlier one is told."""
    told: list[str] = []

    async def go_astray(session: Any, port: int) -> None:
        with Expect(ConnectError) as expected:
            await session.migrate((HOST, port))
        told.append(str(expected.error))

    async with make() as stranger, _joined(make) as (here, there), stack.open_group() as group:
        await block(stack, group, go_astray, here, stranger.port)
        await here.migrate(_url(there.node))
        assert here.path.transport == "websocket"
    assert len(told) == 1
    assert "elsewhere" in told[0]


async def both_ends_move_at_once(stack: Stack, make: MakeNode) -> None:
    """Each says that its own address has changed, and one goes to another transport."""
    async with _joined(make) as (here, there), stack.open_group() as group:
        up, down = begin_traffic(stack, group, here, there)
        await up.go_on()
        group.start_soon(there.migrate, there.path.address)
        await here.migrate(_url(there.node))
        await up.go_on()
        await down.go_on()
        assert (here.path.transport, there.path.transport) == ("websocket", "websocket")
        await up.stop()
        await down.stop()


async def a_session_that_is_over_goes_nowhere(stack: Stack, make: MakeNode) -> None:
    """By neither kind of address, and what is no address is said to be none."""
    async with _joined(make) as (here, there):
        for wrong in ("nowhere", "http://example.org/", ("host",), 17):
            with Expect(ConfigurationError):
                await here.migrate(wrong)
        targets = ((HOST, there.node.port), _url(there.node))
        await there.close()
        await here.wait_closed()
        for target in targets:
            with Expect(SessionClosedError):
                await here.migrate(target)


MOVES: Final[tuple[Behaviour[MakeNode], ...]] = (
    a_session_moves_to_a_url_and_back_with_streams_running,
    a_session_that_began_over_a_url_moves_to_an_address,
    where_nobody_listens_a_session_stays,
    where_the_peer_does_not_answer_a_session_stays,
    a_migrate_that_is_cancelled_leaves_a_session_where_it_is,
    of_two_moves_the_later_counts,
    both_ends_move_at_once,
    a_session_that_is_over_goes_nowhere,
)
"""What sessions that move do."""
