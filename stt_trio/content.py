"""ContentDistribution: what :class:`BaseContentDistribution` knows, on trio: the tasks, the threads and the waits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import trio

from stt_backends.adapter.content import THREADS, TIMEOUT, BaseContentDistribution, Content, Exporting
from stt_backends.adapter.fetching import PURPOSE, BaseFetching, Source
from stt_backends.adapter.supplying import Supply
from stt_core.content.planner import Order
from stt_core.dht import DHTNode
from stt_core.errors import ErrorCode, StateError, STTError
from stt_trio.errors import ERRORS
from stt_trio.parking import ParkingLot
from stt_trio.session import STTSession
from stt_trio.streams import MessageStream

T = TypeVar("T")


class Fetching(BaseFetching):
    """See :class:`BaseFetching`. ``async for`` gives the bytes in order; leave it early inside an ``async with``.

    Nothing goes on in the background: the network is listened to while somebody waits for bytes, and what nobody waits
    for is held up by the windows of the sessions.
    """

    _distribution: ContentDistribution

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next bytes, at most 256 KiB of them.

        :raises ContentUnavailableError: where nobody brings them. ``StoreFullError``: where the store has no room.
        """
        if self._core is None:
            self._order = Order.SEQUENTIAL
        await self._run(self._is_readable)
        found = self._next_range()
        if found is None:
            self._close()
            raise StopAsyncIteration
        store = self._distribution.store
        return self._read(await self._distribution.in_thread(store.read, self.content_id, *found))

    async def wait_complete(self) -> None:
        """Fetch all that is wanted into the store; the rarest first, so that others have the most of it.

        :raises ContentUnavailableError: where nobody brings it. ``StoreFullError``: where the store has no room.
        """
        await self._run(lambda: self.complete)
        self._close()

    async def save(self, path: str | os.PathLike[str], *, replace: bool = True) -> None:
        """Fetch all of the content, and write it to a file; it gets its name when it is whole.

        :raises OSError: if it can't be written, or without ``replace`` if there is one; else as :meth:`wait_complete`.
        """
        await self.wait_complete()
        in_thread = self._distribution.in_thread
        make = partial(Exporting, self._distribution.store, self.content_id, Path(path), replace=replace)
        exporting = await in_thread(make)
        try:
            while await in_thread(exporting.step):
                pass
        finally:
            exporting.end()

    async def aclose(self) -> None:
        """Let go of the providers; what is here stays in the store, and another fetch goes on from there."""
        self._close()
        await trio.lowlevel.checkpoint()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- fetching

    async def _run(self, until: Callable[[], bool]) -> None:
        """Fetch until then."""
        if self._core is None:
            self._open(await self._distribution.in_thread(self._look))
        if until():
            await trio.lowlevel.checkpoint()
            return
        self._check_open()
        failure: Exception | None = None
        try:
            async with trio.open_nursery() as tasks:
                for source in self._begin_listening():
                    tasks.start_soon(self._listen, source)
                tasks.start_soon(self._search)
                tasks.start_soon(self._write)
                try:
                    await self._drive(until, tasks)
                except (STTError, OSError) as error:
                    failure = error  # raised out there, where no group wraps it
                tasks.cancel_scope.cancel()
        finally:
            self._end_listening()
        if failure is not None:
            self._close()
            raise failure

    async def _drive(self, until: Callable[[], bool], tasks: trio.Nursery) -> None:
        while not until():
            since = self.news.wakes
            self._turn()
            for source in self._take_new():
                tasks.start_soon(self._listen, source)
            if self._needs_room:
                self._plan(await self._distribution.in_thread(self._make_room))
                continue
            with trio.move_on_after(self._next_timer() - self._clock()):
                await self.news.park(since)

    async def _listen(self, source: Source) -> None:
        try:
            while True:
                while self._is_full:
                    await self.news.park()
                self._receive(source, await source.stream.receive())
        except (ERRORS.end, STTError) as error:
            self._lose(source, error)

    async def _write(self) -> None:
        while True:
            batch = self._take_batch()
            if batch is None:
                await self.to_write.park()
                continue
            try:
                await self._distribution.in_thread(batch.write, self._distribution.store, self.content_id)
            except STTError as error:
                self._fail(error)
                return
            except BaseException:
                self._put_back(batch)
                raise
            self._stored(batch)

    async def _search(self) -> None:
        try:
            while (at := self._next_search()) is not None:
                since = self.news.wakes
                if self._is_to_be_announced:
                    await self._distribution.announce(self.content_id)
                elif self._clock() >= at:
                    await self._distribution.find(self)
                else:
                    with trio.move_on_after(at - self._clock()):
                        await self.news.park(since)
        except STTError as error:
            self._fail(error)


class ContentDistribution(BaseContentDistribution[STTSession]):
    """See :class:`BaseContentDistribution`. Works as it is; ``async with`` closes it at the end."""

    _limiter: trio.CapacityLimiter | None = None

    def make_parking_lot(self) -> ParkingLot:
        """See :class:`BaseContentDistribution`."""
        return ParkingLot()

    async def in_thread(self, work: Callable[..., T], *args: Any) -> T:
        """Call what blocks in one of this distribution's threads; not left before it is done."""
        if self._limiter is None:
            self._limiter = trio.CapacityLimiter(THREADS)
        return await trio.to_thread.run_sync(work, *args, limiter=self._limiter)

    async def aclose(self) -> None:
        """End all fetches, and close the sessions that were made for them. Does nothing a second time."""
        sessions = self._close()
        try:
            async with trio.open_nursery() as tasks:
                for session in sessions:
                    tasks.start_soon(session.close)
        finally:
            self._close_store()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- what is here

    async def publish_content(self, content: Content, *, pinned: bool = True) -> bytes:
        """Take bytes, or a copy of the file at a path, into the store, and announce it; its name, 32 bytes.

        It hangs on the bytes alone (docs/content.md). ``pinned`` content is not removed to make room.

        :raises StoreFullError: if it doesn't fit. ``OSError``: if the file can't be read, or the disk fails.
        """
        importing = await self.in_thread(self._importing, content)
        try:
            while await self.in_thread(importing.step):
                pass
            manifest = await self.in_thread(partial(importing.commit, pinned=pinned))
        finally:
            importing.end()
        self.withdraw_removed()
        await self.announce(manifest.content_id)
        return manifest.content_id

    async def announce(self, content_id: bytes | None = None) -> None:
        """Say that this node has a content, now and every hour; without one, all that the store has."""
        if self.dht is None:
            await trio.lowlevel.checkpoint()
            return
        wanted = await self.in_thread(self.store.contents) if content_id is None else [content_id]
        for each in wanted:
            await self.dht.announce(each)

    async def find_providers(self, content_id: bytes) -> list[DHTNode]:
        """Who says of itself that it has a content; this node left out."""
        if self.dht is None:
            await trio.lowlevel.checkpoint()
            return []
        return [node for node in await self.dht.find_providers(content_id) if node.node_id != self.node_id]

    async def remove(self, content_id: bytes) -> None:
        """Delete a content, and announce it no more."""
        await self.in_thread(self.store.remove, content_id)
        self.withdraw_removed()

    # --- fetching

    def fetch(
        self,
        content_id: bytes,
        start: int = 0,
        stop: int | None = None,
        *,
        providers: Iterable[DHTNode] = (),
        timeout: float = TIMEOUT,
    ) -> Fetching:
        """Bytes ``start`` to ``stop`` of a content from whoever has it, verified: iterate over it, or ``save`` it.

        What the store has already is not fetched again. ``providers`` are asked besides those the DHT finds.
        ``timeout`` is for how many seconds nobody may bring anything.

        :raises StateError: without a node. ``ConfigurationError``: on a name that isn't 32 bytes, or no range.
        """
        self._check_fetch(content_id)
        fetching = Fetching(self, content_id, start, stop, providers, timeout)
        return fetching

    async def find(self, fetching: Fetching) -> None:
        """Look for providers for a fetch, and connect to them."""
        pooled = self._pooled(fetching.content_id)
        if pooled is not None and fetching.worth_asking([pooled[0]]):
            fetching.add_session(*pooled, known=False)
        found = await self.find_providers(fetching.content_id)
        for node in fetching.searched(found):
            session = self._session_with(node)
            if session is not None:
                fetching.add_session(node, session)
            elif self._begin_dial(node, fetching):
                trio.lowlevel.spawn_system_task(self._dial, node, fetching.content_id)

    async def _dial(self, node: DHTNode, content_id: bytes) -> None:
        try:
            session = await self.node.connect(node.address, node.node_id)
        except Exception as error:  # noqa: BLE001 - told to those who wait for it
            self._not_dialed(node, error)
            return
        for leaving in self._dialed(node, content_id, session):
            await leaving.close()

    # --- serving

    async def serve(self, session: STTSession) -> None:
        """Serve all fetchers on a session until it ends: what ``node.serve`` takes. Other streams are refused."""
        async with trio.open_nursery() as tasks:
            while True:
                try:
                    stream = await session.accept_stream()
                except STTError:
                    return
                if isinstance(stream, MessageStream) and stream.purpose == PURPOSE:
                    tasks.start_soon(self.serve_stream, stream)
                else:
                    stream.reset()

    async def serve_stream(self, stream: MessageStream) -> None:
        """Serve the fetcher that opened this stream, whose ``purpose`` is :data:`PURPOSE`, until it has enough."""
        supply = self._begin_supply()
        try:
            async with trio.open_nursery() as tasks:
                tasks.start_soon(self._answer, supply, stream, tasks.cancel_scope)
                await self._hear(supply, stream)
                tasks.cancel_scope.cancel()
        finally:
            self._end_supply(supply)
            stream.reset(ErrorCode.NO_ERROR)

    async def _hear(self, supply: Supply, stream: MessageStream) -> None:
        try:
            while (wrong := supply.receive(await stream.receive())) is None:
                pass
        except (ERRORS.end, STTError):
            return  # it has enough, or went away
        self._refuse(stream, wrong)

    async def _answer(self, supply: Supply, stream: MessageStream, scope: trio.CancelScope) -> None:
        try:
            while not supply.over:
                since = supply.news.wakes
                answers = supply.next_answers()
                if answers is None:
                    await supply.news.park(since)
                    continue
                for message in await self.in_thread(answers):
                    delay = self._reserve(supply, len(message))
                    if delay > 0:
                        await trio.sleep(delay)
                    await stream.send(message)
            await stream.aclose()
        except StateError as error:
            self._refuse(stream, str(error))
        except STTError:
            pass  # it went away
        scope.cancel()
