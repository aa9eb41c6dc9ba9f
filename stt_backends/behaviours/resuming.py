"""How sessions go on, on every stack: from one transport to another, from one process or device to the next."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from stt_backends.behaviours.nodes import HOST, MakeNode
from stt_backends.behaviours.stack import Behaviour, Expect, Stack, block
from stt_core.errors import ConfigurationError, SessionClosedError

_SEED: Final = b"the seed of the one who resumes, and of nobody else"
_RESUMABLE: Final[dict[str, Any]] = {"resumable": True}


async def _until(stack: Stack, come: Callable[[], object]) -> None:
    while not come():
        await stack.checkpoint()


async def _token(stack: Stack, session: Any) -> bytes:
    """Its token, once the peer has given a ticket."""
    await _until(stack, lambda: session.resumption_token)
    return bytes(session.resumption_token)


@asynccontextmanager
async def _pair(make: MakeNode, **client: Any) -> AsyncIterator[tuple[Any, Any, Any]]:
    """Both ends of a session that can be resumed, and the server, which is there by UDP and WebSocket."""
    async with make(**_RESUMABLE, transport="both") as server, make(**_RESUMABLE, **client) as caller:
        here = await caller.connect((HOST, server.port))
        yield here, await server.accept(), server


async def a_session_goes_on_over_another_transport_and_back(stack: Stack, make: MakeNode) -> None:
    """The same object with the same streams; who waits on one goes on waiting."""
    heard: list[bytes] = []

    async def listen(stream: Any) -> None:
        while len(heard) < 3:
            heard.append(await stream.receive())

    async with _pair(make) as (here, there, server), stack.open_group() as group:
        stream = here.open_stream()
        await stream.send(b"by UDP")
        await block(stack, group, listen, await there.accept_stream())
        url = f"ws://{HOST}:{server.port}/"
        for transport, address in (("websocket", url), ("udp", (HOST, server.port))):
            token = await _token(stack, here)
            assert await here.node.resume(token, address, transport=transport) is here
            assert (here.resumed, here.path.transport) == ("full", transport)
            await stream.send(transport.encode())
    assert heard == [b"by UDP", b"websocket", b"udp"]


async def a_restarted_client_is_known_by_its_token_once(stack: Stack, make: MakeNode) -> None:
    """As ``identity``: its streams are gone. Another time the token is worth nothing."""
    async with make(**_RESUMABLE, transport="both") as server:
        async with make(node_seed=_SEED) as caller:
            token = await _token(stack, await caller.connect((HOST, server.port)))
        async with make(node_seed=_SEED) as again:
            session = await again.resume(token, (HOST, server.port))
            assert session.resumed == "identity"
            assert (await again.resume(token, f"ws://{HOST}:{server.port}/")).resumed == "no"


async def a_token_shows_nothing_and_is_checked_where_it_is_given(stack: Stack, make: MakeNode) -> None:
    """Damage, and what is no token at all, are the caller's mistake."""
    async with _pair(make) as (here, _, server):
        token = here.resumption_token or await _token(stack, here)
        assert bytes(here.resumption_token).hex() not in f"{here.resumption_token!r} {here.resumption_token}"
        for damaged in (b"", b"no token", token[:-1], token[:-1] + bytes((token[-1] ^ 1,))):
            with Expect(ConfigurationError):
                await here.node.resume(damaged, (HOST, server.port))


async def the_same_seeds_on_another_device_take_the_session_over(stack: Stack, make: MakeNode) -> None:
    """By explicit request; whoever had it is told that it was superseded."""
    told: list[tuple[bytes, str]] = []

    async def receive(stream: Any) -> None:
        with Expect(SessionClosedError) as expected:
            await stream.receive()
        assert isinstance(expected.error, stack.broken)

    async with _pair(make, node_seed=_SEED) as (here, there, server), make(node_seed=_SEED) as phone:
        here.node.on_session_closed(lambda *details: told.append(details))
        async with stack.open_group() as group:
            await block(stack, group, receive, here.open_stream())
            session = await phone.resume(None, (HOST, server.port), takeover=True)
            assert session.resumed == "identity"
            await here.wait_closed()
        assert told == [(here.session_id, "superseded")]
        await there.wait_closed()
        stream = session.open_stream()
        await stream.send(b"from the phone")
        assert await (await (await server.accept()).accept_stream()).receive() == b"from the phone"


RESUMING: Final[tuple[Behaviour[MakeNode], ...]] = (
    a_session_goes_on_over_another_transport_and_back,
    a_restarted_client_is_known_by_its_token_once,
    a_token_shows_nothing_and_is_checked_where_it_is_given,
    the_same_seeds_on_another_device_take_the_session_over,
)
"""What nodes do to go on."""
