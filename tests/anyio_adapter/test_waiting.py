from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from stt_anyio.waiting import AnyioWaiter, AsyncioWaiter, Waiter, on_trio, waiter_for
from stt_backends.udp import UdpSocket
from tests.anyio_adapter.net import LIMIT, two_sessions

pytestmark = pytest.mark.anyio

KINDS: list[Callable[[UdpSocket], Waiter]] = [waiter_for, AnyioWaiter]


@pytest.fixture(params=KINDS, ids=["native", "anyio"])
def kind(request: pytest.FixtureRequest) -> Callable[[UdpSocket], Waiter]:
    found: Callable[[UdpSocket], Waiter] = request.param
    return found


@asynccontextmanager
async def waiter_on_a_socket(kind: Callable[[UdpSocket], Waiter]) -> AsyncIterator[tuple[Waiter, UdpSocket]]:
    with anyio.fail_after(LIMIT), UdpSocket("127.0.0.1") as sock:
        waiter = kind(sock)
        try:
            yield waiter, sock
        finally:
            waiter.close()


async def is_waiting(waiter: Waiter) -> bool:
    """Whether a wait goes on, as far as a twentieth of a second can tell."""
    with anyio.move_on_after(0.05) as scope:
        await waiter.wait(None, writable=False)
    return scope.cancelled_caught


async def test_the_event_loop_decides_what_waits() -> None:
    async with waiter_on_a_socket(waiter_for) as (waiter, _):
        assert isinstance(waiter, AnyioWaiter if on_trio() else AsyncioWaiter)


async def test_a_datagram_ends_the_wait_and_once_read_the_next_one_lasts(kind: Callable[[UdpSocket], Waiter]) -> None:
    async with waiter_on_a_socket(kind) as (waiter, sock):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: waiter.wait(None, writable=False))
            await anyio.wait_all_tasks_blocked()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                peer.sendto(b"x", sock.address)
        assert sock.receive() is not None
        for _ in range(3):  # news of the datagram may still be under way
            await waiter.wait(0, writable=False)
        assert await is_waiting(waiter)


async def test_time_and_room_to_write_end_the_wait(kind: Callable[[UdpSocket], Waiter]) -> None:
    async with waiter_on_a_socket(kind) as (waiter, _):
        await waiter.wait(0.01, writable=False)
        await waiter.wait(0, writable=False)
        await waiter.wait(None, writable=True)
        assert await is_waiting(waiter)


async def test_a_wake_up_before_the_wait_is_not_lost_and_counts_once(kind: Callable[[UdpSocket], Waiter]) -> None:
    async with waiter_on_a_socket(kind) as (waiter, _):
        waiter.wake()
        waiter.wake()
        await waiter.wait(None, writable=False)
        assert await is_waiting(waiter)


async def test_a_wake_up_ends_the_wait(kind: Callable[[UdpSocket], Waiter]) -> None:
    async with waiter_on_a_socket(kind) as (waiter, _):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: waiter.wait(None, writable=False))
            await anyio.wait_all_tasks_blocked()
            waiter.wake()
            waiter.wake()
        assert await is_waiting(waiter)


async def test_a_node_works_with_what_every_event_loop_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stt_anyio.node.waiter_for", AnyioWaiter)
    async with two_sessions() as (here, there):
        ours = here.open_byte_stream()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ours.send, bytes(3_000_000))
            theirs = await there.accept_stream()
            received = 0
            while received < 3_000_000:
                received += len(await theirs.receive())


async def test_two_commands_in_one_step_leave_in_one_turn() -> None:
    async with two_sessions() as (here, there):
        before = here.statistics().packets_sent
        ours = here.core
        for _ in range(5):
            stream = ours.open_stream()
            assert ours.send_message(stream, b"small")
            here.kick()
        for _ in range(5):
            assert await (await there.accept_stream()).receive() == b"small"
        assert here.statistics().packets_sent - before <= 3
