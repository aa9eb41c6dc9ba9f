"""The fetch of one content: how it learns what that is, and whom it stops asking."""

from __future__ import annotations

import pytest

from stt_core.content.fetcher import Fetcher, ManifestKnown
from stt_core.content.manifest import MAX_SIZE, Manifest
from stt_core.content.supplier import PATIENCE
from stt_core.content.tree import HASH_SIZE, PIECE, content_id_of, hash_root
from stt_core.content.wire import Answer, AskPieces, Gained, Holding, Leaves, Pieces, Refusal, Refused, Run, Want
from tests.content.exchange import Exchange
from tests.content.swarm import Content, Provider

SMALL = Content(100_000)
TWO = Content(PIECE + 20_000)
WHOLE = Holding(SMALL.manifest.size, b"\x80")


def exchange(*names: str, content: Content = SMALL, **settings: Manifest) -> Exchange:
    return Exchange(content, {name: Provider(content, 1e6) for name in names}, **settings)


def test_what_it_is_made_of_is_asked_of_one_provider_and_bytes_of_all() -> None:
    done = exchange("alice", "bob", content=TWO).run()
    assert done.fetcher.complete
    assert bytes(done.got) == TWO.data
    assert done.learned == [TWO.manifest]
    assert done.said["alice"][:2] == [Want(TWO.manifest.content_id), AskPieces(0, 2)]
    assert AskPieces(0, 2) not in done.said["bob"]
    assert set(done.fetcher.rates) == {"alice", "bob"}
    assert done.dropped == {}


def test_what_it_is_made_of_is_not_asked_for_where_it_is_known() -> None:
    done = exchange("alice", manifest=SMALL.manifest).run()
    assert bytes(done.got) == SMALL.data
    assert done.learned == []
    assert not any(isinstance(each, AskPieces) for each in done.said["alice"])


def test_many_hashes_are_asked_for_in_parts() -> None:
    count = 5000
    pieces = tuple(number.to_bytes(HASH_SIZE, "big") for number in range(count))
    manifest = Manifest(content_id_of(count * PIECE, hash_root(pieces, count * PIECE)), count * PIECE, pieces)
    fetcher = Fetcher(manifest.content_id)
    fetcher.add_provider("alice", 0.0)
    fetcher.receive_message("alice", Holding(manifest.size, bytes(count // 8)).encode(), 0.0)
    for asked in (Want(manifest.content_id), AskPieces(0, 4096), AskPieces(4096, 904)):
        assert fetcher.next_message(0.0) == ("alice", asked.encode())
        if isinstance(asked, AskPieces):
            hashes = b"".join(pieces[asked.first : asked.first + asked.count])
            fetcher.receive_message("alice", Pieces(asked.first, hashes).encode(), 0.0)
    assert fetcher.next_event() == ManifestKnown(manifest)
    assert fetcher.next_message(0.0) is None


def test_a_false_list_of_pieces_drops_whoever_sent_it_and_another_is_asked() -> None:
    both = exchange("liar", "bob")
    both.silent.add("liar")
    both.hear("liar", Holding(SMALL.manifest.size, b"\x80"))
    both.hear("liar", Pieces(0, bytes(32)))
    both.run()
    assert both.dropped["liar"].lied
    assert both.dropped["liar"].reason == "these pieces are of another content"
    assert bytes(both.got) == SMALL.data


def test_who_says_nothing_is_left_and_another_is_asked() -> None:
    both = exchange("silent", "bob")
    both.silent.add("silent")
    both.run()
    assert both.fetcher.complete
    assert both.fetcher.next_timer() == PATIENCE
    both.wait(PATIENCE)
    assert (both.dropped["silent"].reason, both.dropped["silent"].lied) == ("it said nothing for 5 s", False)
    assert both.fetcher.next_timer() is None


def test_who_falls_silent_over_its_list_of_pieces_is_replaced() -> None:
    both = exchange("silent", "bob")
    both.silent.add("silent")
    both.hear("silent", WHOLE)
    both.run()
    assert both.learned == []
    both.wait(PATIENCE)
    assert both.dropped["silent"].reason == "it said nothing for 5 s"
    assert bytes(both.got) == SMALL.data


def test_silence_that_nobody_listened_to_is_excused() -> None:
    both = exchange("alice")
    both.silent.add("alice")
    both.run()
    both.now = 100.0
    both.fetcher.excuse(both.now)
    both.fetcher.handle_timer(both.now)
    both.run()
    assert both.dropped == {}
    assert both.fetcher.next_timer() == 100.0 + PATIENCE


@pytest.mark.parametrize("refusal", Refusal)
def test_a_refusal_is_no_lie(refusal: Refusal) -> None:
    one = exchange("alice")
    one.hear("alice", Refused(refusal))
    one.run()
    assert not one.dropped["alice"].lied
    assert one.dropped["alice"].reason.startswith("it ")
    assert one.fetcher.next_message(0.0) is None


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([WHOLE, WHOLE], "it says twice what it holds"),
        ([Holding(MAX_SIZE + 1, b"\x80")], "a content of"),
        ([Holding(SMALL.manifest.size, b"\x80\x00")], "2 bytes of bits, expected 1"),
        ([Gained(0)], "it claims piece 0 before it said how many there are, or beyond"),
        ([WHOLE, Gained(1)], "it claims piece 1 before it said how many there are, or beyond"),
        ([Pieces(0, bytes(32))], "it sends hashes of pieces that it wasn't asked for"),
        ([WHOLE, Pieces(1, bytes(32))], "it sends hashes of pieces that it wasn't asked for"),
        ([Leaves(0, (bytes(32),))], "it answers what it wasn't asked"),
        ([Run(0, b"data")], "it answers what it wasn't asked"),
    ],
)
def test_who_breaks_the_rules_is_dropped(answers: list[Answer], reason: str) -> None:
    one = exchange("mallory")
    for answer in answers:
        one.hear("mallory", answer)
    one.take_events()
    assert one.dropped["mallory"].lied
    assert one.dropped["mallory"].reason.startswith(reason)


def test_a_message_that_is_none_drops_whoever_sent_it() -> None:
    one = exchange("mallory")
    one.fetcher.receive_message("mallory", b"", 0.0)
    one.fetcher.receive_message("mallory", b"after it was dropped", 0.0)
    one.fetcher.receive_message("nobody", b"", 0.0)
    one.take_events()
    assert list(one.dropped) == ["mallory"]


def test_a_size_that_is_another_contents_drops_whoever_said_it() -> None:
    both = exchange("alice", "liar", manifest=SMALL.manifest)
    both.silent.add("liar")
    both.run()
    both.hear("liar", Holding(5, b"\x80"))
    both.run()
    assert both.dropped["liar"].reason == "it says that the content has 5 bytes, not 100000"


def test_who_says_first_how_large_it_is_holds_nobody_up_for_long() -> None:
    both = exchange("liar", "alice")
    both.silent.add("liar")
    both.hear("liar", Holding(5, b"\x80"))
    both.run()
    assert not both.learned
    both.wait(PATIENCE)
    assert list(both.dropped) == ["liar"]
    assert bytes(both.got) == SMALL.data


def test_who_is_found_late_to_mean_another_content_is_dropped_then() -> None:
    both = exchange("alice", "liar")
    both.silent |= {"alice", "liar"}
    both.run()
    both.hear("alice", WHOLE)
    both.hear("liar", Holding(5, b"\x80"))
    both.hear("alice", Pieces(0, SMALL.manifest.hashes))
    both.take_events()
    assert both.dropped["liar"].reason == "it says that the content has 5 bytes"


def test_what_was_gained_before_the_plan_is_known_to_it() -> None:
    one = Exchange(SMALL, {"alice": Provider(SMALL, 1e6, [])})
    one.run(1)
    one.hear("alice", Gained(0))
    one.run()
    assert bytes(one.got) == SMALL.data
    later = Exchange(SMALL, {"alice": Provider(SMALL, 1e6, [])}).run()
    assert not later.fetcher.complete
    later.hear("alice", Gained(0))
    assert bytes(later.run().got) == SMALL.data


def test_who_goes_away_is_asked_no_more() -> None:
    both = exchange("alice", "bob", content=TWO)
    both.run(8)
    both.fetcher.remove_provider("alice")
    both.fetcher.remove_provider("alice")
    before = len(both.said["alice"])
    assert bytes(both.run().got) == TWO.data
    assert len(both.said["alice"]) == before
    assert set(both.fetcher.rates) == {"bob"}
