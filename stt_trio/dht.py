"""KademliaDHT: what :class:`BaseKademliaDHT` knows, on trio: the task that keeps it going, and the waits."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self, TypeVar

import trio

from stt_backends.adapter.connecting import is_numeric
from stt_backends.adapter.dht import BaseKademliaDHT, checked_friends
from stt_backends.adapter.pump import Pump
from stt_backends.dht_driver import DhtDriver
from stt_core.dht import (
    Bootstrapped,
    DHTNode,
    NodesFound,
    Outcome,
    ProvidersFound,
    Record,
    RecordFound,
    Stored,
)
from stt_trio.parking import ParkingLot
from stt_trio.pump import TrioPump

EventT = TypeVar("EventT")


class KademliaDHT(BaseKademliaDHT):
    """See :class:`BaseKademliaDHT`. Lead with ``async with KademliaDHT(...) as dht``; :meth:`start` works, too."""

    def make_parking_lot(self) -> ParkingLot:
        """See :class:`BaseKademliaDHT`."""
        return ParkingLot()

    def _launch(self, driver: DhtDriver) -> Pump:
        pump = TrioPump(driver, self._is_finished)
        trio.lowlevel.spawn_system_task(self._run, pump)
        return pump

    async def _run(self, pump: Pump) -> None:
        crash: Exception | None = None
        try:
            await pump.run()
        except Exception as error:  # noqa: BLE001 - it is told to whoever stops the node
            crash = error
        finally:
            self._end(crash)

    async def start(self) -> Self:
        """Bind the socket, and join by way of ``bootstrap`` and the saved table; takes some seconds where none answers.

        :raises ConfigurationError: if a setting is wrong; ``OSError`` if the port is taken.
        """
        self._start()
        try:
            if self._saved is not None:
                core, now = self._command()
                await self._done(core.restore(self._saved, now), Bootstrapped)
            if self._friends:
                await self.bootstrap(self._friends)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self.stop()
            raise
        await trio.lowlevel.checkpoint()
        return self

    async def stop(self) -> None:
        """Close the socket. Does nothing a second time.

        :raises Exception: what ended the node, where something did.
        """
        if self._begin_stop():
            with trio.CancelScope(shield=True):
                while not self._stopped and self._over is not None:
                    await self._over.park()
        await trio.lowlevel.checkpoint()
        crash, self._crash = self._crash, None
        if crash is not None:
            raise crash

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def bootstrap(self, addresses: Iterable[tuple[str, int]]) -> Mapping[tuple[str, int], Outcome]:
        """Join by way of these nodes; what became of each. A host may be a name: then its outcome is by IP address.

        :raises ConfigurationError: where an address is none; ``OSError`` where a name has none.
        """
        resolved = [await self._resolve(host, port) for host, port in checked_friends(addresses)]
        core, now = self._command()
        return (await self._done(core.bootstrap(resolved, now), Bootstrapped)).outcomes

    async def find_node(self, node_id: bytes) -> list[DHTNode]:
        """The (up to) 20 nodes nearest to a DHT id that answered, the nearest first."""
        core, now = self._command()
        return list((await self._done(core.find_node(node_id, now), NodesFound)).nodes)

    async def find_providers(self, content_id: bytes) -> list[DHTNode]:
        """Who says of itself that it provides this; ``node.connect((p.host, p.port), p.node_id)`` reaches it."""
        core, now = self._command()
        return list((await self._done(core.find_providers(content_id, now), ProvidersFound)).providers)

    async def announce(self, content_id: bytes) -> int:
        """Say that this node provides the content, now and every hour; how many nodes keep that."""
        core, now = self._command()
        return (await self._done(core.announce(content_id, now), Stored)).stored

    async def put(self, value: bytes, *, salt: bytes = b"", sequence: int | None = None) -> bytes:
        """Have a signed record of up to 512 bytes kept for a day; where to ``get`` it from.

        :raises ConfigurationError: on a value or salt that is too long.
        """
        core, now = self._command()
        handle, target = core.put(value, now, salt=salt, sequence=sequence)
        await self._done(handle, Stored)
        return target

    async def get(self, target: bytes) -> Record | None:
        """The newest record there, its signature checked; None where nobody has one."""
        core, now = self._command()
        return (await self._done(core.get(target, now), RecordFound)).record

    async def _done(self, handle: int, kind: type[EventT]) -> EventT:
        await trio.lowlevel.checkpoint_if_cancelled()
        waiting = self._wait_for(handle)
        try:
            while waiting.event is None and not self._stopping:
                await waiting.news.park()
        finally:
            del self._waiting[handle]
        return self._result(waiting, kind)

    async def _resolve(self, host: str, port: int) -> tuple[str, int]:
        if is_numeric(host):
            return host, port
        family = socket.AF_UNSPEC if ":" in self._bind_address else socket.AF_INET
        found = await trio.socket.getaddrinfo(host, port, family=family, type=socket.SOCK_DGRAM)
        return str(found[0][4][0]), port
