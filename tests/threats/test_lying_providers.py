"""A provider that sends what isn't the content: it is dropped and named, and the transfer completes."""

from __future__ import annotations

import pytest

from stt_core.content.tree import PIECE
from stt_core.content.wire import Holding, Pieces
from tests.content.exchange import Exchange
from tests.content.swarm import Content, Flooder, HashLiar, Liar, Provider

CONTENT = Content(2 * PIECE + 50_000)


class FalseManifest(Provider):
    """Offers another content under the name."""

    def __init__(self, content: Content, rate: float) -> None:
        super().__init__(content, rate)
        self.content = Content(content.manifest.size, seed=2)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Liar, "is not what its hash says"),
        (HashLiar, "the leaf hashes of piece"),
        (Flooder, "it sends what it wasn't asked for"),
        (FalseManifest, "these pieces are of another content"),
    ],
)
def test_a_bad_chunk_drops_its_provider_and_the_transfer_completes(kind: type[Provider], reason: str) -> None:
    both = Exchange(CONTENT, {"mallory": kind(CONTENT, 1e6), "alice": Provider(CONTENT, 1e6)}).run()
    assert bytes(both.got) == CONTENT.data
    assert list(both.dropped) == ["mallory"]
    assert both.dropped["mallory"].lied
    assert reason in both.dropped["mallory"].reason


def test_liars_alone_get_nothing_accepted() -> None:
    liars = Exchange(CONTENT, {f"mallory {n}": Liar(CONTENT, 1e6) for n in range(3)}).run()
    assert not liars.fetcher.complete
    assert len(liars.dropped) == 3
    accepted = [at for at in range(0, len(liars.got), 1024) if any(liars.got[at : at + 1024])]
    assert all(liars.got[at : at + 1024] == CONTENT.data[at : at + 1024] for at in accepted)


def test_a_provider_that_claims_a_terabyte_makes_nobody_hold_one() -> None:
    both = Exchange(CONTENT, {"mallory": Provider(CONTENT, 1e6), "alice": Provider(CONTENT, 1e6)})
    both.silent |= {"mallory"}
    both.hear("mallory", Holding(1 << 40, b"\xff" * (1 << 15)))
    both.hear("mallory", Pieces(0, bytes(32)))
    both.run()
    assert both.dropped["mallory"].reason == f"a content of {1 << 40} bytes, expected at most {1 << 39}"
    assert bytes(both.got) == CONTENT.data
