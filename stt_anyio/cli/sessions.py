"""The nodes and sessions of all commands: made and ended in the same way, with the same words for what goes wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio

from stt_anyio import (
    ByteStream,
    CloseReason,
    ConnectionRefusedError,
    ConnectionTimeoutError,
    ErrorCode,
    MessageStream,
    SessionClosedError,
    STTNode,
    STTSession,
)
from stt_anyio.cli.addresses import Address, spelled
from stt_anyio.cli.failure import Exit, Failure

KEEP_ALIVE_INTERVAL = 2.0
KEEP_ALIVE_TIMEOUT = 10.0
"""Shorter than the library's: somebody is watching."""
GOODBYE_PATIENCE = 1.0
"""Seconds that an interrupted command waits for the peer to hear of it."""


def named(address: Address | str) -> str:
    """An address, or URL, as people write it."""
    return address if isinstance(address, str) else spelled(*address[:2])


@asynccontextmanager
async def running_node(seed: bytes, **settings: Any) -> AsyncIterator[STTNode]:
    """A node, stopped at the end.

    :raises Failure: if it can't listen where it should.
    """
    node = STTNode(
        shared_seed=seed,
        keep_alive_interval=KEEP_ALIVE_INTERVAL,
        keep_alive_timeout=KEEP_ALIVE_TIMEOUT,
        **settings,
    )
    try:
        node.start()
    except OSError as error:  # a port in use, or reserved; an address that isn't ours
        raise Failure(Exit.USAGE, error.strerror or str(error)) from error
    try:
        yield node
    finally:
        await node.stop()


@asynccontextmanager
async def reached(
    seed: bytes, addresses: Sequence[Address | str], timeout: float, **settings: Any
) -> AsyncIterator[tuple[STTSession, Address | str]]:
    """A session with the first of ``addresses``, or URLs, where anybody answers, and which that is. Its node is stopped
    at the end.

    :raises Failure: or ``STTError``: what was wrong with the first, if nobody does.
    """
    failures: list[Failure] = []
    for address in addresses:
        async with AsyncExitStack() as stack:
            try:
                node = await stack.enter_async_context(
                    running_node(seed, bind_address="::" if ":" in address[0] else "0.0.0.0", **settings)
                )
                session = await node.connect(address, timeout=timeout)
            except (ConnectionRefusedError, ConnectionTimeoutError) as error:
                failures.append(Failure(Exit.UNREACHABLE, f"can't reach {named(address)}: {error}"))
                failures[-1].__cause__ = error
                continue
            except Failure as failure:
                failures.append(failure)
                continue
            yield session, address
            return
    raise failures[0]


@asynccontextmanager
async def connected(
    seed: bytes, addresses: Sequence[Address | str], timeout: float, detour: str | None = None
) -> AsyncIterator[STTSession]:
    """A session as :func:`reached` makes it, closed at the end. Where UDP falls silent it goes round by ``detour``, or
    as :func:`way_round` says."""
    async with reached(seed, addresses, timeout) as (session, address), candid(session):
        detour = detour or way_round(address)
        if detour is not None:
            await session.allow_fallback(detour)
        yield session


def way_round(address: Address | str) -> str | None:
    """Where whoever listens at ``address`` by UDP has a WebSocket, if it was told to listen by both."""
    return None if isinstance(address, str) else f"ws://{named(address)}/"


@asynccontextmanager
async def candid(session: STTSession) -> AsyncIterator[None]:
    """Close ``session`` at the end; where the end is cancellation, which here means a signal, the peer is told so."""
    async with session:
        try:
            yield
        except anyio.get_cancelled_exc_class():
            await say_interrupted(session)
            raise


async def say_interrupted(session: STTSession) -> None:
    """Close ``session`` and tell its peer that a signal did it; cancelled or not, it takes a moment at most."""
    with anyio.move_on_after(GOODBYE_PATIENCE, shield=True):
        await session.close(ErrorCode.CANCELLED, "interrupted", linger=0)


async def next_stream(session: STTSession) -> ByteStream | MessageStream | None:
    """The next stream; None where the peer has closed the session in good order."""
    try:
        return await session.accept_stream()
    except SessionClosedError as error:
        if error.reason != CloseReason.GRACEFUL or error.code != ErrorCode.NO_ERROR:
            raise
        return None
