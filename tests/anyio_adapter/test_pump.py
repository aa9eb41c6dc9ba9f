from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import anyio
import pytest

from stt_anyio.parking import AsyncioParkingLot, TrioParkingLot, on_trio, parking_lot
from stt_anyio.pump import AnyioPump, AsyncioPump, pump_for
from stt_backends.adapter.pump import Pump
from stt_backends.driver import Driver
from stt_backends.udp import UdpSocket
from stt_backends.websocket.hub import Hub
from stt_core.endpoint import Endpoint
from tests.anyio_adapter.net import LIMIT, two_sessions

pytestmark = pytest.mark.anyio

MakePump = Callable[[Driver, Callable[[], bool]], Pump]


@pytest.fixture(params=[pump_for, AnyioPump], ids=["native", "anyio"])
def kind(request: pytest.FixtureRequest) -> MakePump:
    found: MakePump = request.param
    return found


class FakeDriver(Driver):
    """Counts what it is called for, on a real socket."""

    def __init__(self, sock: UdpSocket) -> None:
        self.socket = sock
        self.hub = Hub(cast(Endpoint, None))  # with no connections
        self.turns = 0
        self.submitted: list[bool] = []
        self.settled = 0
        self.due: float | None = None
        self.full = False
        self.failing: Exception | None = None
        self.turned = anyio.Event()

    @property
    def clock(self) -> Callable[[], float]:  # type: ignore[override]
        return anyio.current_time

    @property
    def blocked(self) -> bool:
        return self.full

    def next_timer(self) -> float | None:
        return self.due

    @property
    def quiet_until(self) -> float:
        return math.inf if self.due is None else self.due

    def turn(self) -> bool:
        self.turns += 1
        if self.due is not None and self.due <= anyio.current_time():
            self.due = None
        while self.socket.receive() is not None:
            continue
        self.turned.set()
        self.turned = anyio.Event()
        if self.failing is not None:
            raise self.failing
        return False

    def submit(self) -> bool:
        self.submitted.append(True)
        if self.failing is not None:
            raise self.failing
        return len(self.submitted) == 2

    def settle(self) -> bool:
        self.settled += 1
        return self.settled < 3


class Rig:
    """A pump at work on a fake driver."""

    def __init__(self, make: MakePump, sock: UdpSocket) -> None:
        self.driver = FakeDriver(sock)
        self.over = False
        self.pump = make(self.driver, lambda: self.over)
        self.ended = anyio.Event()
        self.failure: BaseException | None = None

    async def run(self) -> None:
        try:
            await self.pump.run()
        except ZeroDivisionError as error:
            self.failure = error
        self.ended.set()

    async def next_turn(self) -> None:
        await self.driver.turned.wait()

    async def is_quiet(self) -> bool:
        """Whether no turn comes, as far as a twentieth of a second can tell."""
        with anyio.move_on_after(0.05) as scope:
            await self.next_turn()
        return scope.cancelled_caught


@asynccontextmanager
async def rig_on_a_socket(make: MakePump) -> AsyncIterator[Rig]:
    with anyio.fail_after(LIMIT), UdpSocket("127.0.0.1") as sock:
        rig = Rig(make, sock)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(rig.run)
            await anyio.wait_all_tasks_blocked()
            yield rig
            rig.over = True
            rig.pump.wake()
            await rig.ended.wait()


async def test_the_event_loop_decides_what_pumps_and_parks() -> None:
    async with rig_on_a_socket(pump_for) as rig:
        assert isinstance(rig.pump, AnyioPump if on_trio() else AsyncioPump)
        assert isinstance(parking_lot(), TrioParkingLot if on_trio() else AsyncioParkingLot)


async def test_one_turn_at_the_beginning_and_one_for_each_datagram(kind: MakePump) -> None:
    async with rig_on_a_socket(kind) as rig:
        assert rig.driver.turns == 1
        with UdpSocket("127.0.0.1") as peer:
            for _ in range(3):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(rig.next_turn)
                    await anyio.wait_all_tasks_blocked()
                    assert peer.send(b"x", 1, rig.driver.socket.address)
        assert await rig.is_quiet()


async def test_a_timer_that_a_command_brings_nearer_is_kept(kind: MakePump) -> None:
    async with rig_on_a_socket(kind) as rig:
        rig.driver.due = anyio.current_time() + 3600
        rig.pump.wake()
        await rig.next_turn()
        assert await rig.is_quiet()
        rig.driver.due = begun = anyio.current_time() + 0.01
        rig.pump.submit()
        await rig.next_turn()
        assert anyio.current_time() >= begun - 0.002


async def test_a_full_socket_brings_a_turn_as_soon_as_it_can_be_written(kind: MakePump) -> None:
    async with rig_on_a_socket(kind) as rig:
        rig.driver.full = True
        rig.pump.submit()
        await rig.next_turn()
        rig.driver.full = False
        await rig.next_turn()
        assert await rig.is_quiet()


async def test_held_back_commands_settle_until_the_driver_has_had_enough(kind: MakePump) -> None:
    async with rig_on_a_socket(kind) as rig:
        rig.pump.submit()
        rig.pump.submit()
        await anyio.wait_all_tasks_blocked()
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        assert (len(rig.driver.submitted), rig.driver.settled) == (2, 3)


@pytest.mark.parametrize("way", ["turn", "submit"])
async def test_a_failure_comes_out_of_run_and_out_of_nothing_else(kind: MakePump, way: str) -> None:
    async with rig_on_a_socket(kind) as rig:
        rig.driver.failing = ZeroDivisionError()
        if way == "turn":
            rig.pump.wake()
        else:
            rig.pump.submit()
        await rig.ended.wait()
        assert rig.failure is rig.driver.failing


async def test_news_ends_every_wait_once() -> None:
    lot = parking_lot()
    lot.wake_all()  # before anybody waits: not kept
    ended = []

    async def wait(name: int) -> None:
        await lot.park()
        ended.append(name)

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            for name in range(3):
                tasks.start_soon(wait, name)
            await anyio.wait_all_tasks_blocked()
            assert ended == []
            lot.wake_all()
            lot.wake_all()
    assert sorted(ended) == [0, 1, 2]


async def test_news_between_looking_and_parking_is_not_missed() -> None:
    lot = parking_lot()
    since = lot.wakes
    lot.wake_all()
    with anyio.fail_after(LIMIT):
        await lot.park(since)
    with anyio.move_on_after(0.001) as scope:
        await lot.park(lot.wakes)
    assert scope.cancelled_caught


async def test_a_wait_that_was_cancelled_leaves_nothing_behind() -> None:
    lot = parking_lot()
    with anyio.move_on_after(0.001) as scope:
        await lot.park()
    assert scope.cancelled_caught
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lot.park)
            tasks.start_soon(lot.park)
            await anyio.wait_all_tasks_blocked()
            lot.wake_all()
            tasks.cancel_scope.cancel()  # after the news and before anybody looked
        lot.wake_all()


async def test_a_node_works_with_what_every_event_loop_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stt_anyio.node.pump_for", AnyioPump)
    async with two_sessions() as (here, there):
        ours = here.open_byte_stream()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ours.send, bytes(3_000_000))
            theirs = await there.accept_stream()
            received = 0
            while received < 3_000_000:
                received += len(await theirs.receive())


async def test_commands_in_quick_succession_share_packets() -> None:
    async with two_sessions() as (here, there):
        before = here.statistics().packets_sent
        ours = here.core
        for _ in range(50):
            stream = ours.open_stream()
            assert ours.send_message(stream, b"small")
            here.kick()
        for _ in range(50):
            assert await (await there.accept_stream()).receive() == b"small"
        assert here.statistics().packets_sent - before <= 12
