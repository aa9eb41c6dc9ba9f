"""How content is published and fetched, by the names that both adapters have."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from stt_backends.behaviours.stack import Behaviour, Expect, Stack
from stt_backends.content_store import ContentStore, StoreFullError
from stt_core.content.tree import PIECE
from stt_core.dht import DHTNode
from stt_core.errors import ConfigurationError, ContentUnavailableError, StateError

MakeDistribution = Callable[..., AbstractAsyncContextManager[Any]]
"""Gives a :class:`ContentDistribution` whose node has a free port of 127.0.0.1 and serves; takes its settings."""

HOST: Final = "127.0.0.1"


def _bytes(size: int) -> bytes:
    return hashlib.shake_128(size.to_bytes(8, "big")).digest(size)


def _whereabouts(content: Any) -> DHTNode:
    return DHTNode(content.node.endpoint.config.node_id, HOST, content.node.port)


def _file(path: Path, data: bytes | None = None) -> bytes:
    if data is not None:
        path.write_bytes(data)
    return path.read_bytes()


class _LyingStore(ContentStore):
    """Tells the truth about whole pieces, of which the hashes are made, and lies about what others ask for."""

    def read(self, content_id: bytes, offset: int, length: int) -> bytes:
        data = super().read(content_id, offset, length)
        return data if length == PIECE else data[:-1] + bytes((data[-1] ^ 1,))


@asynccontextmanager
async def _provided(make: MakeDistribution, data: bytes, **settings: Any) -> AsyncIterator[tuple[Any, Any, bytes]]:
    """Who has ``data``, who hasn't, and its name."""
    async with make() as provider, make(**settings) as fetcher:
        yield provider, fetcher, await provider.publish_content(data)


async def _all(fetching: Any) -> bytes:
    return b"".join([part async for part in fetching])


async def content_is_named_by_its_bytes_alone(stack: Stack, make: MakeDistribution) -> None:
    """The vectors of docs/content.md, given as bytes and as a file."""
    vectors = {
        b"": "84426a96957ae247c6b6e219882f61ba90f59adadcb766b2ab93f83e7f8e08db",
        b"hello, world\n": "6d284d4df3fa649449ad3b8f9feb33ab2e6f893e52f26a87028c81866001bfec",
    }
    async with make() as content:
        with TemporaryDirectory() as directory:
            for number, (data, name) in enumerate(vectors.items()):
                path = Path(directory, str(number))
                _file(path, data)
                assert (await content.publish_content(path)).hex() == name
                assert (await content.publish_content(data)).hex() == name
                assert await _all(content.fetch(bytes.fromhex(name))) == data
            with Expect(FileNotFoundError):
                await content.publish_content(Path(directory, "absent"))
            with Expect(ConfigurationError):
                await content.publish_content(directory)


async def what_is_fetched_comes_in_order_and_whole(stack: Stack, make: MakeDistribution) -> None:
    """More than a piece of it, and any range."""
    data = _bytes(PIECE + 70_001)
    async with _provided(make, data) as (provider, fetcher, name):
        providers = [_whereabouts(provider)]
        part = await _all(fetcher.fetch(name, PIECE - 10, PIECE + 10, providers=providers))
        assert part == data[PIECE - 10 : PIECE + 10]
        assert await _all(fetcher.fetch(name, 5, 5, providers=providers)) == b""
        assert await _all(fetcher.fetch(name, providers=providers)) == data
        assert (await fetcher.fetch(name, PIECE, providers=providers).__anext__()) == data[PIECE:]
    assert provider.statistics()["sent"] >= len(data)


async def content_is_saved_to_a_file_once_it_is_whole(stack: Stack, make: MakeDistribution) -> None:
    """And replaces what was there only where it may."""
    data = _bytes(300_000)
    async with _provided(make, data) as (provider, fetcher, name):
        with TemporaryDirectory() as directory:
            path = Path(directory, "out")
            fetching = fetcher.fetch(name, providers=[_whereabouts(provider)])
            await fetching.save(path, replace=False)
            assert _file(path) == data
            progress = fetching.progress
            assert (progress.size, progress.done, progress.resumed) == (len(data), len(data), 0)
            assert [peer.node for peer in progress.peers] == [_whereabouts(provider)]
            with Expect(FileExistsError):
                await fetcher.fetch(name).save(path, replace=False)
            await fetcher.fetch(name, 0, 0).save(path)
            assert _file(path) == data
            assert os.listdir(directory) == ["out"]


async def content_passes_from_fetcher_to_fetcher(stack: Stack, make: MakeDistribution) -> None:
    """Who fetched it provides it, though the first has gone."""
    data = _bytes(200_000)
    async with make() as last, make() as middle:
        async with make() as first:
            name = await first.publish_content(data)
            await middle.fetch(name, providers=[_whereabouts(first)]).wait_complete()
        assert await _all(last.fetch(name, providers=[_whereabouts(middle)])) == data


async def several_providers_are_asked_and_one_that_lies_is_dropped(stack: Stack, make: MakeDistribution) -> None:
    """And named, and never asked again; the bytes are right all the same."""
    data = _bytes(PIECE + 500_000)
    with TemporaryDirectory() as directory:
        lying = _LyingStore(directory)
        async with make() as alice, make() as bob, make(store=lying) as mallory, make() as fetcher:
            name = await mallory.publish_content(data)
            for provider in (alice, bob):
                assert await provider.publish_content(data) == name
            providers = [_whereabouts(each) for each in (mallory, alice, bob)]
            fetching = fetcher.fetch(name, providers=providers)
            assert await _all(fetching) == data
            assert [each.node for each in fetching.progress.dropped] == providers[:1]
            assert all(each.lied for each in fetching.progress.dropped)
            assert {peer.node for peer in fetching.progress.peers} == set(providers)
            await fetcher.remove(name)
            again = fetcher.fetch(name, providers=providers)
            assert await _all(again) == data
            assert {peer.node for peer in again.progress.peers} == set(providers[1:])
        lying.close()


async def a_piece_is_passed_on_while_the_next_is_fetched(stack: Stack, make: MakeDistribution) -> None:
    """By one who has not all of it, and hears itself of what others gain."""
    data = _bytes(2 * PIECE)
    async with make(upload_limit=8 * PIECE) as first, make() as middle, make() as last:
        name = await first.publish_content(data)
        first_half = middle.fetch(name, 0, PIECE, providers=[_whereabouts(first)])
        assert await _all(first_half) == data[:PIECE]
        async with stack.open_group() as group:
            ahead = last.fetch(name, providers=[_whereabouts(middle)])
            assert await ahead.__anext__() == data[: len(data) // 32]
            group.start_soon(_all, middle.fetch(name, providers=[_whereabouts(first)]))
            await ahead.wait_complete()
        assert await _all(last.fetch(name)) == data


async def a_full_store_refuses_and_what_is_pinned_stays(stack: Stack, make: MakeDistribution) -> None:
    """What is not pinned makes room, and is announced no more."""
    async with make() as provider, make(size_limit=250_000) as small:
        names = [await provider.publish_content(_bytes(100_000 + number)) for number in range(3)]
        providers = [_whereabouts(provider)]
        mine = await small.publish_content(_bytes(90_000))
        for name in names[:2]:
            await small.fetch(name, providers=providers).wait_complete()
        assert set(small.store.contents()) == {mine, names[1]}
        small.store.pin(names[1])
        with Expect(StoreFullError):
            await small.fetch(names[2], providers=providers).wait_complete()
        with Expect(StoreFullError):
            await small.publish_content(_bytes(100_000))
        await small.remove(mine)
        assert await _all(small.fetch(names[2], providers=providers)) == _bytes(100_002)


async def sessions_for_fetching_are_pooled(stack: Stack, make: MakeDistribution) -> None:
    """One session serves all fetches from a provider, and is asked for other content, too."""
    async with make() as provider, make() as fetcher:
        names = [await provider.publish_content(_bytes(50_000 + number)) for number in range(3)]
        for name in names:
            await fetcher.fetch(name, providers=[_whereabouts(provider)]).wait_complete()
        assert len(fetcher.node.get_active_sessions()) == 1
        assert fetcher.statistics()["pool_sessions"] == 1
        session = fetcher.pool.get_session_for_content(names[0])
        other = session.open_stream(purpose="something else")
        await other.send(b"hello")
        with Expect(stack.broken):
            await other.receive()  # whoever serves contents only refuses it


async def what_nobody_has_is_given_up(stack: Stack, make: MakeDistribution) -> None:
    """With an error that says whom was tried; without a node, at once."""
    async with make() as provider, make() as fetcher:
        with Expect(ContentUnavailableError) as expected:
            await _all(fetcher.fetch(bytes(32), providers=[_whereabouts(provider)], timeout=0.5))
        assert f"127.0.0.1:{provider.node.port}: it doesn't have this content" in str(expected.error)
        with Expect(ConfigurationError):
            fetcher.fetch(b"short")
        with Expect(ConfigurationError):
            fetcher.fetch(bytes(32), 2, 1)
        fetcher.node = None
        with Expect(StateError):
            fetcher.fetch(bytes(32))


async def a_fetch_that_is_cancelled_goes_on_from_there(stack: Stack, make: MakeDistribution) -> None:
    """What came before is not fetched again."""
    data = _bytes(3 * PIECE)
    async with _provided(make, data) as (provider, fetcher, name):
        providers = [_whereabouts(provider)]
        with stack.cancel_scope() as scope:
            async for _ in fetcher.fetch(name, providers=providers):
                scope.cancel()
                await stack.checkpoint()
        fetching = fetcher.fetch(name, providers=providers)
        assert await _all(fetching) == data
        assert fetching.progress.resumed >= PIECE
        assert sum(peer.received for peer in fetching.progress.peers) < len(data)


async def a_fetch_that_rests_begins_again_where_it_was(stack: Stack, make: MakeDistribution) -> None:
    """As those do that nobody listens to while another fetch goes on; what was closed does not."""
    data = _bytes(2 * PIECE)
    async with _provided(make, data) as (provider, fetcher, name):
        providers = [_whereabouts(provider)]
        fetching = fetcher.fetch(name, providers=providers)
        got = [await fetching.__anext__()]
        fetching.rest()
        assert fetcher.statistics()["fetching"] == 0
        got += [part async for part in fetching]
        assert b"".join(got) == data
        async with fetcher.fetch(bytes(32), providers=providers) as closed:
            pass
        with Expect(StateError):
            await closed.__anext__()


async def closing_ends_what_goes_on(stack: Stack, make: MakeDistribution) -> None:
    """Fetches fail, and nothing begins any more; a second time is nothing."""

    async def fetch(content: Any) -> None:
        with Expect(StateError):
            await _all(content.fetch(bytes(32)))

    async with make() as content:
        async with stack.open_group() as group:
            group.start_soon(fetch, content)
            await stack.wait_all_tasks_blocked()
            await content.aclose()
            await content.aclose()
        with Expect(StateError):
            content.fetch(bytes(32))
        with Expect(StateError):
            await content.publish_content(b"data")


CONTENTS: Final[tuple[Behaviour[MakeDistribution], ...]] = (
    content_is_named_by_its_bytes_alone,
    what_is_fetched_comes_in_order_and_whole,
    content_is_saved_to_a_file_once_it_is_whole,
    content_passes_from_fetcher_to_fetcher,
    several_providers_are_asked_and_one_that_lies_is_dropped,
    a_piece_is_passed_on_while_the_next_is_fetched,
    a_full_store_refuses_and_what_is_pinned_stays,
    sessions_for_fetching_are_pooled,
    what_nobody_has_is_given_up,
    a_fetch_that_is_cancelled_goes_on_from_there,
    a_fetch_that_rests_begins_again_where_it_was,
    closing_ends_what_goes_on,
)
"""What distributions of content do."""
