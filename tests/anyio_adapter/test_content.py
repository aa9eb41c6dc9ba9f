"""ContentDistribution: what fetchers may ask, what a DHT is told, and what a caller gets wrong."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from socket import AF_INET, SOCK_DGRAM, socket
from typing import Any

import anyio
import pytest

import stt_backends.adapter.content
from stt_anyio import (
    ConfigurationError,
    ContentDistribution,
    ContentUnavailableError,
    DHTNode,
    MessageStream,
    StreamResetError,
    STTSession,
)
from stt_backends.adapter.fetching import PURPOSE
from stt_backends.content_store import ContentStore
from stt_core.content.planner import MOST_PROVIDERS
from stt_core.content.wire import (
    Answer,
    AskBlock,
    AskLeaves,
    AskPieces,
    Holding,
    Leaves,
    Pieces,
    Question,
    Refusal,
    Refused,
    Run,
    Want,
    parse_answer_untrusted,
)
from tests.anyio_adapter.net import make_node, two_sessions

pytestmark = pytest.mark.anyio

HELLO = b"hello, world\n"
NAME = bytes.fromhex("6d284d4df3fa649449ad3b8f9feb33ab2e6f893e52f26a87028c81866001bfec")


class Fetcher:
    """Says what it likes to a provider."""

    def __init__(self, session: STTSession) -> None:
        stream = session.open_stream(purpose=PURPOSE)
        assert isinstance(stream, MessageStream)
        self.stream = stream

    async def ask(self, *questions: Question) -> None:
        for question in questions:
            await self.stream.send(question.encode())

    async def hear(self) -> Answer:
        return parse_answer_untrusted(await self.stream.receive())


@asynccontextmanager
async def provider(**settings: Any) -> AsyncIterator[tuple[ContentDistribution, STTSession]]:
    """Who has :data:`HELLO`, and a session with it."""
    async with two_sessions() as (here, there), ContentDistribution(node=there.node, **settings) as content:
        assert await content.publish_content(HELLO) == NAME
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(content.serve, there)
            tasks.start_soon(there.node.serve, content.serve)
            yield content, here
            tasks.cancel_scope.cancel()


async def test_a_fetcher_is_told_what_it_asks_for() -> None:
    async with provider() as (_, session):
        fetcher = Fetcher(session)
        await fetcher.ask(Want(NAME), AskPieces(0, 1), AskLeaves(0), AskBlock(0, 0))
        assert await fetcher.hear() == Holding(len(HELLO), b"\x80")
        pieces, leaves, run = [await fetcher.hear() for _ in range(3)]
        assert isinstance(pieces, Pieces)
        assert isinstance(leaves, Leaves)
        assert pieces.hashes == leaves.hashes[0]  # of one leaf
        assert run == Run(0, HELLO)
        await fetcher.stream.close()


@pytest.mark.parametrize(
    "questions",
    [
        (AskPieces(0, 1),),
        (Want(NAME), Want(NAME)),
        (Want(NAME), AskPieces(0, 2)),
        (Want(NAME), AskPieces(1, 1)),
        (Want(NAME), AskLeaves(1)),
        (Want(NAME), AskBlock(1, 0)),
        (Want(NAME), AskBlock(0, 1)),
    ],
)
async def test_a_fetcher_that_asks_for_what_is_not_there_is_cut_off(questions: tuple[Question, ...]) -> None:
    async with provider() as (content, session):
        fetcher = Fetcher(session)
        await fetcher.ask(*questions)
        with pytest.raises(StreamResetError):  # after what it was told before, if anything
            [await fetcher.hear() for _ in range(4)]
        assert session.alive
        again = Fetcher(session)
        await again.ask(Want(NAME))
        assert isinstance(await again.hear(), Holding)
        assert content.statistics()["served"] == 1


async def test_what_is_unknown_or_gone_is_refused() -> None:
    async with provider() as (content, session):
        fetcher, other = Fetcher(session), Fetcher(session)
        await other.ask(Want(bytes(32)))
        assert await other.hear() == Refused(Refusal.UNKNOWN)
        await fetcher.ask(Want(NAME))
        assert isinstance(await fetcher.hear(), Holding)
        await content.remove(NAME)
        await fetcher.ask(AskBlock(0, 0))
        assert await fetcher.hear() == Refused(Refusal.GONE)
        with pytest.raises(anyio.EndOfStream):
            await fetcher.hear()


async def test_there_may_be_enough_fetchers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stt_backends.adapter.content, "MOST_SUPPLIES", 1)
    async with provider() as (_, session):
        first, second = Fetcher(session), Fetcher(session)
        await first.ask(Want(NAME))
        assert isinstance(await first.hear(), Holding)
        await second.ask(Want(NAME))
        assert await second.hear() == Refused(Refusal.BUSY)


async def test_a_program_that_accepts_streams_itself_hands_them_over() -> None:
    async with two_sessions() as (here, there), ContentDistribution(node=there.node) as content:
        await content.publish_content(HELLO)
        fetcher = Fetcher(here)
        await fetcher.ask(Want(NAME))
        async with anyio.create_task_group() as tasks:
            stream = await there.accept_stream()
            assert isinstance(stream, MessageStream)
            assert stream.purpose == PURPOSE
            tasks.start_soon(content.serve_stream, stream)
            assert isinstance(await fetcher.hear(), Holding)
            await fetcher.stream.close()


class Registry:
    """A DHT's stand-in that notes what it is told, and finds who it was told to find."""

    node_id = b"here"

    def __init__(self, *found: DHTNode) -> None:
        self.announced: list[bytes] = []
        self.found = list(found)

    async def announce(self, content_id: bytes) -> int:
        self.announced.append(content_id)
        return 0

    async def find_providers(self, content_id: bytes) -> list[DHTNode]:
        return self.found

    def known_providers(self, content_hash: bytes) -> tuple[DHTNode, ...]:
        return ()

    def withdraw(self, content_id: bytes) -> None:
        self.announced.remove(content_id)


async def test_a_dht_is_told_what_is_here_and_what_is_no_more(tmp_path: Path) -> None:
    dht = Registry()
    async with ContentDistribution(dht, store=tmp_path, size_limit=100) as content:
        first = await content.publish_content(bytes(60), pinned=False)
        second = await content.publish_content(bytes(61))
        assert dht.announced == [second]
        assert content.store.contents() == [second]
        await content.remove(second)
        assert dht.announced == []
        await content.publish_content(bytes(60))
    again = Registry()
    async with ContentDistribution(again, store=tmp_path) as content:
        await content.announce()
        assert again.announced == [first]


async def test_a_fetcher_is_announced_as_a_provider_and_never_asks_itself() -> None:
    async with provider() as (content, session):
        there = DHTNode(content.node.endpoint.config.node_id, "127.0.0.1", content.node.port)
        dht = Registry(there, DHTNode(b"here", "127.0.0.1", 1))
        async with ContentDistribution(dht, b"here", node=session.node, size_limit=70) as fetcher:
            await fetcher.publish_content(bytes(60), pinned=False)  # what is fetched needs its room
            assert [part async for part in fetcher.fetch(NAME)] == [HELLO]
            assert await fetcher.find_providers(NAME) == [there]
        assert dht.announced == [NAME]


async def test_of_a_crowd_of_providers_so_many_are_asked_at_once() -> None:
    with socket(AF_INET, SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        crowd = [DHTNode(bytes((number,)), *deaf.getsockname()) for number in range(200)]
        async with make_node() as node, ContentDistribution(Registry(*crowd), node=node) as content:
            fetching = content.fetch(NAME, timeout=0.1)
            with pytest.raises(ContentUnavailableError):
                await fetching.wait_complete()
            assert content.dialing(fetching) == crowd[:MOST_PROVIDERS]


async def test_who_can_not_be_reached_is_named() -> None:
    async with make_node() as node, ContentDistribution(node=node) as content:
        nobody = DHTNode(b"x", "127.0.0.1", 9)
        with pytest.raises(ContentUnavailableError, match=r"none of 1 providers could be had: 127\.0\.0\.1:9$"):
            await content.fetch(NAME, providers=[nobody], timeout=0.5).wait_complete()
        with socket(AF_INET, SOCK_DGRAM) as deaf:
            deaf.bind(("127.0.0.1", 0))
            silent = DHTNode(b"x", *deaf.getsockname())
            with pytest.raises(ContentUnavailableError, match=f"no answer yet from 127[.]0[.]0[.]1:{silent.port}$"):
                await content.fetch(NAME, providers=[silent], timeout=0.1).wait_complete()


async def test_a_store_that_nobody_named_lasts_as_long_as_its_distribution() -> None:
    content = ContentDistribution()
    directory = content.store.directory
    assert directory.exists()
    await content.publish_content(HELLO)
    await content.aclose()
    del content
    gc.collect()
    assert not directory.exists()


async def test_settings_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    for limit in (0, -1.5):
        with pytest.raises(ConfigurationError, match="upload_limit"):
            ContentDistribution(upload_limit=limit)
    with pytest.raises(ConfigurationError, match="node_id"):
        ContentDistribution(node_id=b"")
    store = ContentStore(tmp_path)
    with pytest.raises(ConfigurationError, match="size_limit"):
        ContentDistribution(store=store, size_limit=1)
    async with ContentDistribution(store=store, upload_limit=1000) as content:
        assert content.upload_limit == 1000
        content.upload_limit = None
        with pytest.raises(ConfigurationError, match="upload_limit"):
            content.upload_limit = 0
        assert content.node_id is None
    assert store.contents() == []  # it is not the distribution's to close
    store.close()
