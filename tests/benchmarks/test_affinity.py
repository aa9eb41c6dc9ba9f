"""The machinery of the affinity benchmark, on a small made-up history; the figures come from real releases."""

from __future__ import annotations

from random import Random

from benchmarks import affinity
from benchmarks.affinity import AT_RANDOM, IN_TURN, LIKENESS, LONGEST_AGO, PARTIES, File, Peer


def history(cut: str) -> list[dict[str, File]]:
    rng = Random(1)
    found: list[dict[str, File]] = []
    texts = {f"file {number}": [rng.randbytes(30).hex().encode() + b"\n" for _ in range(60)] for number in range(60)}
    for _ in range(3):
        files = {}
        for path, lines in texts.items():
            lines[rng.randrange(len(lines))] = rng.randbytes(30).hex().encode() + b"\n"
            data = b"".join(lines)
            chunks = affinity.pieces(data) if cut == "pieces" else affinity.leaves(data)
            files[path] = File(path, data, tuple((chunk, len(chunk)) for chunk in chunks))
        found.append(files)
    return found


def test_content_is_cut_without_loss() -> None:
    (file, *_) = history("pieces")[0].values()
    assert b"".join(affinity.pieces(file.data)) == file.data
    assert len(file.chunks) > 1
    assert b"".join(affinity.leaves(file.data * 9)) == file.data * 9


def test_a_peer_forgets_what_was_asked_for_longest_ago() -> None:
    peer = Peer(b"peer", capacity=2)
    one, other, third = (File(name, name.encode(), ((name.encode(), 1),)) for name in "abc")
    assert [peer.serve(file) for file in (one, other, one, third, one, other)] == [0, 0, 1, 0, 1, 0]


def test_the_pool_finds_more_than_those_that_look_at_no_content() -> None:
    releases = history("pieces")
    rates = {party: affinity.play(releases, party, 0.2, seed=1, requests=1500)[0] for party in PARTIES}
    assert min(rates.values()) > 0
    assert rates[LIKENESS] > 1.5 * max(rates[party] for party in (IN_TURN, AT_RANDOM, LONGEST_AGO))
