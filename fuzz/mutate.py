"""A small, seeded mutator: enough to shake a target in a test, and where no real fuzzer is installed.

Rule: the same seed gives the same inputs, so a failure says all that is needed to see it again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Final

LARGEST: Final = 4096
_TELLING: Final = (b"\0", b"\1", b"\x7f", b"\x80", b"\xff", b"\0\0", b"\xff\xff", b"\xff" * 4, b"\xff" * 8, b"\0" * 8)


def mutations(corpus: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Inputs without end, each a member of ``corpus`` with a few changes."""
    rng = random.Random(seed)
    while True:
        data = bytearray(rng.choice(corpus) if corpus else b"")
        for _ in range(1 << rng.randrange(5)):
            _change(data, rng, corpus)
        yield bytes(data[:LARGEST])


def _change(data: bytearray, rng: random.Random, corpus: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    stop = min(len(data), at + rng.randrange(1, 1 << rng.randrange(1, 8)))
    kind = rng.randrange(8)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1 and at < len(data):
        data[at] = rng.randrange(256)
    elif kind == 2:
        data[at:at] = rng.randbytes(rng.randrange(1, 16))
    elif kind == 3:
        del data[at:stop]
    elif kind == 4:
        data[at:at] = data[at:stop]
    elif kind == 5:
        telling = rng.choice(_TELLING)
        data[at : at + len(telling)] = telling
    elif kind == 6 and corpus:
        other = rng.choice(corpus)
        start = rng.randrange(len(other) + 1)
        data[at:at] = other[start : start + rng.randrange(64)]
    elif at < len(data):
        data[at] = (data[at] + rng.choice((-1, 1))) & 0xFF
