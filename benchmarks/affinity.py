"""Does it help to ask the peer that was asked for alike content? A simulation, on real files.

Eight peers each cache what passes through them, least recently used first out. Clients ask for files of published
packages by a Zipf law, the newest release of each mostly, while release follows upon release. What differs is how the
peer is chosen: by a pool, in turn, at random, or the one used longest ago. Counted is the share of bytes that the peer
had already.

Rule: real files. The releases are downloaded once, with pip, and kept in build/releases.
"""

from __future__ import annotations

import subprocess
import sys
from bisect import bisect
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from random import Random
from time import process_time
from zipfile import ZipFile

from benchmarks.rows import Goal, Row
from stt_core import ContentAffinityPool, PoolMissError, SessionState, affinity_hash
from stt_core.affinity import Metric

FOLDER = Path(__file__).parent.parent / "build" / "releases"
RELEASES = {
    "flask": ("2.0.3", "2.1.3", "2.2.5", "2.3.3", "3.0.3"),
    "requests": ("2.27.1", "2.28.2", "2.29.0", "2.31.0", "2.32.3"),
    "rich": ("13.5.3", "13.6.0", "13.7.1", "13.8.1", "13.9.4"),
    "werkzeug": ("2.1.2", "2.2.3", "2.3.8", "3.0.6", "3.1.3"),
}
"""Pure Python, small, and old enough to have a history; the oldest first."""
PEERS = 8
REQUESTS = 20_000
ZIPF = 0.9
NEWEST = 0.7
"""The share of requests for the newest release; of the rest the same share for the one before it, and so on."""
CACHES = (0.05, 0.1, 0.2, 0.4, 0.8)
"""What all peers together can hold, as a share of all chunks there are."""
LEAF = 16 * 1024
LIKENESS, GROUP, EXACT = "pool, by likeness", "pool, by file name as group", "pool, by BLAKE2b"
IN_TURN, AT_RANDOM, LONGEST_AGO = "in turn", "at random", "used longest ago"
Chunk = tuple[bytes, int]
"""Digest and size."""


@dataclass(frozen=True)
class File:
    """One file of one release."""

    path: str
    data: bytes
    chunks: tuple[Chunk, ...]


@dataclass(eq=False)
class Peer:
    """A session to a peer that caches, or that peer."""

    peer_node_id: bytes
    capacity: int = 0
    state: SessionState = SessionState.ESTABLISHED
    peer_identity_key: bytes | None = None

    def __post_init__(self) -> None:
        self.cache: OrderedDict[bytes, int] = OrderedDict()
        self.held = self.asked = 0

    def serve(self, file: File) -> int:
        """The bytes of it that were in the cache; all are afterwards."""
        found = 0
        self.asked += 1
        for digest, size in file.chunks:
            if digest in self.cache:
                found += size
                self.cache.move_to_end(digest)
                continue
            self.cache[digest] = size
            self.held += size
            while self.held > self.capacity and self.cache:
                self.held -= self.cache.popitem(last=False)[1]
        return found


Chooser = Callable[[File], Peer]


def download() -> None:
    """Get the releases that aren't here yet.

    :raises RuntimeError: where one can't be had.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = [(name, version) for name, versions in RELEASES.items() for version in versions]
    for name, version in wanted:
        if not list(FOLDER.glob(f"[{name[0]}{name[0].upper()}]{name[1:]}-{version}-*.whl")):
            command = [sys.executable, "-m", "pip", "--quiet", "download", "--no-deps", "--only-binary", ":all:"]
            if subprocess.run([*command, f"{name}=={version}", "--dest", str(FOLDER)], check=False).returncode:
                raise RuntimeError(f"can't download {name} {version}")


def releases(cut: Callable[[bytes], Iterator[bytes]]) -> list[dict[str, File]]:
    """The files of the first release of every package by path, those of the second, and so on."""
    found = []
    for number in range(len(next(iter(RELEASES.values())))):
        files = {}
        for name, versions in RELEASES.items():
            (wheel,) = FOLDER.glob(f"[{name[0]}{name[0].upper()}]{name[1:]}-{versions[number]}-*.whl")
            with ZipFile(wheel) as archive:
                for path in archive.namelist():
                    if path.startswith(f"{name}/") and (data := archive.read(path)):
                        chunks = tuple((blake2b(chunk, digest_size=16).digest(), len(chunk)) for chunk in cut(data))
                        files[path] = File(path, data, chunks)
        found.append(files)
    return found


def leaves(data: bytes) -> Iterator[bytes]:
    """As content is cut for distribution: every 16 KiB."""
    return (data[start : start + LEAF] for start in range(0, len(data), LEAF))


def pieces(data: bytes) -> Iterator[bytes]:
    """As backup programs cut: at lines whose digest says so, one in 16, so that a change spoils one piece."""
    piece = b""
    for line in data.splitlines(keepends=True):
        piece += line
        if blake2b(line, digest_size=1).digest()[0] < 16:
            yield piece
            piece = b""
    if piece:
        yield piece


def trace(history: list[dict[str, File]], seed: int, requests: int) -> Iterator[File]:
    """What is asked for, one after the other, while the releases come out."""
    rng = Random(seed)
    paths = sorted({path for files in history for path in files})
    rng.shuffle(paths)
    weights = list(accumulate(1 / (rank + 1) ** ZIPF for rank in range(len(paths))))
    for number in range(requests):
        newest = number * len(history) // requests
        release = newest
        while release and rng.random() > NEWEST:
            release -= 1
        path = paths[bisect(weights, rng.random() * weights[-1])]
        for candidate in (*range(release, -1, -1), *range(release + 1, newest + 1)):
            if path in history[candidate]:
                yield history[candidate][path]
                break


def pooled(peers: list[Peer], metric: Metric, hash_of: Callable[[File], bytes]) -> Chooser:
    """As the chapter has it: ask the pool; where it misses, connect to whoever has the fewest sessions."""
    pool: ContentAffinityPool[Peer] = ContentAffinityPool(metric=metric)
    by_name = {peer.peer_node_id: peer for peer in peers}
    sessions = dict.fromkeys(by_name, 0)
    hashes: dict[int, bytes] = {}

    def choose(file: File) -> Peer:
        content_hash = hashes.get(id(file)) or hashes.setdefault(id(file), hash_of(file))
        try:
            return by_name[pool.get_session_for_content(content_hash).peer_node_id]
        except PoolMissError:
            name = min(sessions, key=sessions.__getitem__)
            sessions[name] += 1
            evicted = pool.add_session(Peer(name), content_hash)
            if evicted is not None:
                sessions[evicted.peer_node_id] -= 1
            return by_name[name]

    return choose


def longest_ago(peers: list[Peer]) -> Chooser:
    """Sessions are taken from the front of a queue and put back behind, after one to four requests of one client."""
    queue = list(peers)
    rng = Random(1)
    left = 0

    def choose(file: File) -> Peer:
        nonlocal left
        if not left:
            queue.append(queue.pop(0))
            left = rng.randint(1, 4)
        left -= 1
        return queue[-1]

    return choose


def choosers(peers: list[Peer], seed: int) -> dict[str, Callable[[], Chooser]]:
    """Each way to choose, new."""
    rng = Random(seed)
    turn = iter(lambda: peers[rng.randrange(len(peers))], None)
    order = (peers[number % len(peers)] for number in range(10**9))
    return {
        LIKENESS: lambda: pooled(peers, "hamming", lambda file: affinity_hash(file.data)),
        GROUP: lambda: pooled(peers, "xor", lambda file: affinity_hash(file.data, group=file.path)),
        EXACT: lambda: pooled(peers, "xor", lambda file: blake2b(file.data, digest_size=32).digest()),
        IN_TURN: lambda: lambda _file: next(order),
        AT_RANDOM: lambda: lambda _file: next(turn),
        LONGEST_AGO: lambda: longest_ago(peers),
    }


PARTIES = (LIKENESS, GROUP, EXACT, IN_TURN, AT_RANDOM, LONGEST_AGO)


def play(history: list[dict[str, File]], party: str, cache: float, seed: int, requests: int) -> tuple[float, float]:
    """The share of bytes, in percent, that were in the cache of the peer that was asked; the busiest peer's share."""
    unique = {digest: size for files in history for file in files.values() for digest, size in file.chunks}
    capacity = int(cache * sum(unique.values()) / PEERS)
    peers = [Peer(b"%d" % number, capacity) for number in range(PEERS)]
    choose = choosers(peers, seed)[party]()
    found = total = 0
    for file in trace(history, seed, requests):
        found += choose(file).serve(file)
        total += len(file.data)
    return 100 * found / total, 100 * max(peer.asked for peer in peers) / requests


def hit_rates(*, runs: int, quick: bool) -> list[Row]:
    """A row for each way to cut and each size of the caches, and who is asked how often."""
    download()
    requests = 2000 if quick else REQUESTS
    rows = []
    for title, cut in (("leaves of 16 KiB", leaves), ("pieces cut by content", pieces)):
        history = releases(cut)
        for cache in (0.2,) if quick else CACHES:
            played = {p: [play(history, p, cache, seed, requests) for seed in range(runs)] for p in PARTIES}
            rates = {party: [rate for rate, _ in results] for party, results in played.items()}
            goals = [Goal(LIKENESS, 1.5, other) for other in (IN_TURN, AT_RANDOM, LONGEST_AGO)]
            rows.append(
                Row(f"bytes found at the peer, {title}, caches of {cache:.0%}", "%", 0.0, rates, goals, at=cache)
            )
            if cache == 0.2:
                shares = {party: [share for _, share in results] for party, results in played.items()}
                rows.append(Row(f"requests that the busiest of {PEERS} peers had, {title}", "%", 0.0, shares))
    return rows


def lookups(count: int) -> list[Row]:
    """What a look-up costs."""
    rng = Random(1)
    values: dict[str, list[float]] = {}
    for metric, farthest in (("xor", 2**32 - 1), ("hamming", 32)):
        pool: ContentAffinityPool[Peer] = ContentAffinityPool(
            max_pool_size=1000,
            metric="xor" if metric == "xor" else "hamming",
            max_distance=farthest,
        )
        for number in range(1000):
            pool.add_session(Peer(b"%d" % number), rng.randbytes(32))
        hashes = [rng.randbytes(32) for _ in range(count)]
        values[metric] = []
        for _ in range(5):
            start = process_time()
            for content_hash in hashes:
                pool.get_session_for_content(content_hash)
            values[metric].append((process_time() - start) / count * 1e6)
    goals = [Goal(metric, 20, more=False) for metric in values]
    return [Row("a look-up among 1,000 sessions, CPU", "µs", 0.0, values, goals)]
