"""The benchmarks: who takes part in each, with what task, and what is wanted.

Rule: parties take turns, A B C A B C, so that a machine that drifts does so for all of them; a ratio is taken between
neighbours. Sizes are the same for every party of a row.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from benchmarks import affinity as pools
from benchmarks import core
from benchmarks import dht as tables
from benchmarks.aead import aead_time
from benchmarks.fairness import curves
from benchmarks.peers import COMPILED, MODULES, is_installed
from benchmarks.peers.interface import Task
from benchmarks.processes import Stage, measure
from benchmarks.rows import Goal, Row

MIB = 1 << 20
TLS = ("tls/asyncio", "tls-streams/asyncio")
STT: tuple[str, ...] = ("stt/asyncio", "stt/uvloop", "stt/trio", "stt-trio/trio")
Runs = list[list[Stage]]


class Plan:
    """How much is done of everything."""

    def __init__(self, *, runs: int, quick: bool, stacks: tuple[str, ...], certificates: str) -> None:
        self._runs = 1 if quick else runs
        self.quick = quick
        self._stacks = stacks
        self._certificates = certificates
        self.failures: list[str] = []

    def amount(self, full: int, quick: int) -> int:
        """A size or count: ``quick`` only shows that all works."""
        return quick if self.quick else full

    def runs(self, most: int = 1000) -> int:
        """How often; ``most`` for what takes long and varies little."""
        return min(self._runs, most)

    def takes_part(self, stack: str) -> bool:
        """Whether it is wanted and can run here."""
        wanted = self._stacks or tuple(library for library in MODULES if library != COMPILED)
        return any(stack == name or stack.startswith(f"{name}/") for name in wanted) and is_installed(stack)

    def interleave(self, tasks: dict[str, Task], most: int = 1000) -> Taken:
        """Run each task as often as planned, in turns; a party that fails is out, and among ``failures``."""
        tasks = dict(_with_compiled(tasks))
        taken: dict[str, Runs] = {party: [] for party, task in tasks.items() if self.takes_part(task.stack)}
        before = aead_time()
        for run in range(self.runs(most)):
            for party, found in list(taken.items()):
                task = replace(tasks[party], certificates=self._certificates)
                if task.link:
                    task = replace(task, link=(*task.link, str(run)))  # the same fate for every party of a run
                print(f"  {task.kind} {party}", file=sys.stderr)
                try:
                    found.append(measure(task))
                except RuntimeError as error:
                    self.failures.append(f"{task.kind} {party}: {error}")
                    del taken[party]
        return Taken(taken, (before + aead_time()) / 2)


@dataclass(frozen=True)
class Taken:
    """The stages of every run of every party."""

    runs: dict[str, Runs]
    aead: float

    def row(self, title: str, unit: str, metric: Callable[[list[Stage]], float], *goals: Goal) -> Row:
        """One quantity of all of them."""
        values = {party: [metric(stages) for stages in runs] for party, runs in self.runs.items()}
        return Row(title, unit, self.aead, values, list(goals))


def _with_compiled(tasks: dict[str, Task]) -> Iterator[tuple[str, Task]]:
    """Each task; where stacks stand side by side, right after one of STT's the same for the compiled build."""
    for party, task in tasks.items():
        yield party, task
        if party == task.stack and task.library == "stt":
            stack = f"{COMPILED}/{task.loop}"
            yield stack, replace(task, stack=stack)


def _rate(stages: list[Stage]) -> float:
    """MB (10^6 bytes) a second."""
    return float(stages[1].client["bytes"] / stages[1].client["seconds"] / 1e6)


def _cpu_per_megabyte(stages: list[Stage]) -> float:
    """Milliseconds of CPU of both processes for each MB."""
    spent = sum(getattr(stages[1], side)["cpu"] - getattr(stages[0], side)["cpu"] for side in ("client", "server"))
    return float(1e3 * spent / (stages[1].client["bytes"] / 1e6))


def bulk(plan: Plan) -> list[Row]:
    """One stream, client to server: held to 1200 bytes beside QUIC, and as large as the path takes beside TLS."""
    size = plan.amount(128 * MIB, 4 * MIB)
    parties = (*STT, "aioquic/asyncio", "qh3/asyncio")
    taken = plan.interleave({stack: Task("transfer", stack, size=size, datagram=1200) for stack in parties})
    rows = [
        taken.row(
            "one stream, datagrams of 1200 bytes",
            "MB/s",
            _rate,
            Goal("stt/asyncio", 15, "aioquic/asyncio"),
            Goal("stt/asyncio", 6, "qh3/asyncio"),
            Goal("stt/trio", 0.85, "stt/asyncio"),
        )
    ]
    size = plan.amount(256 * MIB, 8 * MIB)
    parties = ("stt/asyncio", "stt/uvloop", "stt-ws/asyncio", *TLS, "websockets/asyncio")
    for warm, times in ((False, 2.5), (True, 1.2)):
        taken = plan.interleave({stack: Task("transfer", stack, size=size, warm=warm) for stack in parties})
        goals = [Goal("stt/asyncio", times, tls) for tls in TLS]
        heap = "warm heap" if warm else "stock heap"
        rows.append(taken.row(f"one stream, as the path takes it, {heap}", "MB/s", _rate, *goals))
    return rows


def websocket(plan: Plan) -> list[Row]:
    """STT over WebSocket, without TLS, beside the websockets library with it: both encrypt once."""
    parties = ("stt-ws/asyncio", "stt-ws/trio", "websockets/asyncio")
    size = plan.amount(256 * MIB, 8 * MIB)
    rows = []
    for kind, way in (("transfer", "to the server"), ("download", "from the server")):
        taken = plan.interleave({stack: Task(kind, stack, size=size) for stack in parties})
        goal = Goal("stt-ws/asyncio", 1, "websockets/asyncio")
        rows.append(taken.row(f"one stream {way}, over WebSocket", "MB/s", _rate, goal))
    count = plan.amount(3000, 200)
    taken = plan.interleave({stack: Task("echo", stack, size=64, count=count) for stack in parties})
    goal = Goal("stt-ws/asyncio", 1.2, "websockets/asyncio", more=False)
    title = "64 bytes there and back over WebSocket, median"
    return [*rows, taken.row(title, "µs", lambda stages: stages[1].client["median"], goal)]


def echo(plan: Plan) -> list[Row]:
    """64 bytes there and back."""
    parties = (*STT, "stt-ws/asyncio", "aioquic/asyncio", "qh3/asyncio", "tls/asyncio", "websockets/asyncio")
    count = plan.amount(3000, 200)
    taken = plan.interleave({stack: Task("echo", stack, size=64, count=count) for stack in parties})
    goals = [
        Goal("stt/asyncio", 0.65, "aioquic/asyncio", more=False),
        Goal("stt/trio", 0.7, "aioquic/asyncio", more=False),
    ]
    return [
        taken.row("64 bytes there and back, median", "µs", lambda stages: stages[1].client["median"], *goals),
        taken.row("64 bytes there and back, 99th percentile", "µs", lambda stages: stages[1].client["p99"]),
    ]


def handshake(plan: Plan) -> list[Row]:
    """Sessions made and closed."""
    count = plan.amount(200, 16)
    rows = []
    for workers in (1, 8):
        taken = plan.interleave(
            {
                stack: Task("handshake", stack, count=count, concurrency=workers)
                for stack in ("stt/asyncio", "aioquic/asyncio", "qh3/asyncio", "tls/asyncio")
            }
        )
        rows += [
            taken.row(
                f"made and closed, {workers} at a time",
                "sessions/s",
                lambda stages: count / stages[1].client["seconds"],
                Goal("stt/asyncio", 3, "aioquic/asyncio"),
            ),
            taken.row(
                f"made and closed, {workers} at a time, the server's CPU",
                "ms a session",
                lambda stages: 1e3 * (stages[1].server["cpu"] - stages[0].server["cpu"]) / count,
                Goal("stt/asyncio", 0.3, "aioquic/asyncio", more=False),
            ),
        ]
    return rows


def sessions(plan: Plan) -> list[Row]:
    """Many sessions that say nothing but that they are alive."""
    window = float(plan.amount(30, 1))
    many = plan.amount(10_000, 100)

    def task(stack: str, count: int, seconds: float = 0.0) -> dict[str, Task]:
        return {f"{stack}, {count:,}": Task("idle", stack, count=count, concurrency=8, seconds=seconds)}

    tasks = (
        task("stt/asyncio", plan.amount(1000, 10))
        | task("stt/asyncio", many, window)
        | task("aioquic/asyncio", plan.amount(500, 10))
        | task("tls/asyncio", plan.amount(1000, 20))
    )
    taken = plan.interleave(tasks, most=1)
    counts = {party: tasks[party].count for party in taken.runs}
    few, lot = (f"stt/asyncio, {count:,}" for count in (plan.amount(1000, 10), many))
    memory = {
        party: [(stages[1].server["memory"] - stages[0].server["memory"]) / counts[party] / 1024 for stages in runs]
        for party, runs in taken.runs.items()
    }
    parts = {f"{lot}, {name} tenth": index for name, index in (("second", 1), ("last", -1))}
    return [
        Row(
            "the server's memory for an idle session",
            "KiB",
            taken.aead,
            memory,
            [Goal(party, 16, more=False) for party in (few, lot)],
        ),
        Row(
            "set-up, 8 at a time",
            "ms a session",
            taken.aead,
            {
                part: [stages[1].client["sections"][index] for stages in taken.runs[lot]]
                for part, index in parts.items()
                if lot in taken.runs
            },
            [Goal(f"{lot}, last tenth", 1.25, f"{lot}, second tenth", more=False)],
        ),
        Row(
            "keep-alives every 10 s, the server's share of a core",
            "%",
            taken.aead,
            {
                party: [100 * (stages[2].server["cpu"] - stages[1].server["cpu"]) / window for stages in runs]
                for party, runs in taken.runs.items()
                if party == lot
            },
            [Goal(lot, 10, more=False)],
        ),
    ]


def streams(plan: Plan) -> list[Row]:
    """What a byte costs, by how many sessions or streams carry it; and streams that come and go.

    Each carries 1 MiB at least: the row is about carrying, and what a session or a stream costs by itself has others.
    """
    size, share = plan.amount(128 * MIB, 4 * MIB), plan.amount(MIB, MIB // 4)
    numbers = (1, 10, 100, 1000) if not plan.quick else (1, 10)
    rows = []
    for what in ("sessions", "streams"):
        tasks = {f"{number:,}": _spread(max(size, share * number), what, number) for number in numbers}
        taken = plan.interleave(tasks, most=3)
        goals = [Goal(f"{number:,}", 1.25, "1", more=False) for number in numbers[1:]]
        rows.append(
            taken.row(f"a MB or more on each of many {what}, CPU of both ends", "ms a MB", _cpu_per_megabyte, *goals)
        )
    count = plan.amount(100_000, 1000)
    taken = plan.interleave({"stt/asyncio": Task("churn", "stt/asyncio", size=64, count=count, concurrency=32)}, most=1)
    later = count - count // 10
    rows.append(
        taken.row(f"{count:,} streams opened, used and ended", "streams/s", lambda s: later / s[1].client["seconds"])
    )
    rows += [
        taken.row(
            f"memory that the {side} gained over the last {later:,} of them",
            "MiB",
            partial(_gained, side),
            Goal("stt/asyncio", 1, more=False),
        )
        for side in ("client", "server")
    ]
    return rows


def _spread(size: int, what: str, number: int) -> Task:
    task = Task("transfer", "stt/asyncio", size=size, datagram=1200)
    return replace(task, sessions=number) if what == "sessions" else replace(task, streams=number)


def _gained(side: str, stages: list[Stage]) -> float:
    return float((getattr(stages[1], side)["memory"] - getattr(stages[0], side)["memory"]) / MIB)


def lossy(plan: Plan) -> list[Row]:
    """A slower link than loopback, the same for all."""
    rows = []
    for loss, full in ((0.01, 2 * MIB), (0.0, 8 * MIB)):
        taken = plan.interleave(
            {
                stack: Task(
                    "transfer", stack, size=plan.amount(full, MIB // 2), datagram=1200, link=("50", "0.04", f"{loss}")
                )
                for stack in ("stt/asyncio", "aioquic/asyncio", "qh3/asyncio")
            }
        )
        title = f"50 Mbit/s, 40 ms, {loss:.0%} lost each way"
        rows.append(taken.row(title, "MB/s", _rate, Goal("stt/asyncio", 1, "aioquic/asyncio")))
    return rows


def fairness(plan: Plan) -> list[Row]:
    """In virtual time: no run differs from another, so there is one."""
    parties = [party for party in curves.PARTIES if plan.takes_part(f"{party.partition(',')[0].lower()}/asyncio")]
    return curves.simulate(parties, quick=plan.quick) if parties else []


def messages(plan: Plan) -> list[Row]:
    """1 KiB each, on one stream."""
    count = plan.amount(20_000, 500)
    taken = plan.interleave(
        {
            stack: Task("messages", stack, size=1024, count=count)
            for stack in (*STT, "aioquic/asyncio", "qh3/asyncio", "websockets/asyncio")
        }
    )
    return [
        taken.row(
            "messages of 1 KiB on one stream",
            "messages/s",
            lambda stages: count / stages[1].client["seconds"],
            Goal("stt/asyncio", 5, "aioquic/asyncio"),
        )
    ]


def core_alone(plan: Plan) -> list[Row]:
    """The core without sockets: two endpoints in one process."""
    if not plan.takes_part("stt/asyncio"):
        return []
    results = [core.run(plan.amount(128, 4)) for _ in range(plan.runs())]
    aead = sum(result.aead for result in results) / len(results)
    names = ("send", "receive", "acknowledge")
    return [
        Row(
            "a packet of 1200 bytes in the core alone",
            "AEAD calls",
            aead,
            {name: [getattr(result, name) / result.aead for result in results] for name in names},
            [Goal(name, 2.5, more=False) for name in ("send", "receive")],
        ),
        Row(
            "a packet of 1200 bytes in the core alone",
            "µs",
            aead,
            {name: [getattr(result, name) for result in results] for name in names},
        ),
    ]


def affinity(plan: Plan) -> list[Row]:
    """Whether a pool by content finds more in its peers' caches; and what a look-up takes."""
    if not plan.takes_part("stt/asyncio"):
        return []
    rows = pools.lookups(plan.amount(20_000, 500))
    try:
        return [*pools.hit_rates(runs=plan.runs(), quick=plan.quick), *rows]
    except RuntimeError as error:
        plan.failures.append(f"affinity: {error}")
        return rows


def dht(plan: Plan) -> list[Row]:
    """In virtual time: no run differs from another, so there is one."""
    return tables.figures(quick=plan.quick) if plan.takes_part("stt/asyncio") else []


BENCHMARKS: dict[str, Callable[[Plan], list[Row]]] = {
    "core": core_alone,
    "bulk": bulk,
    "echo": echo,
    "websocket": websocket,
    "messages": messages,
    "handshake": handshake,
    "sessions": sessions,
    "streams": streams,
    "lossy": lossy,
    "fairness": fairness,
    "affinity": affinity,
    "dht": dht,
}
