"""What is simulated: throughput over loss and over distance, transfers from the start, and shares of one link."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import harmonic_mean

from benchmarks import certificates
from benchmarks.fairness import theory
from benchmarks.fairness.flows import Flow, Quic, Stt
from benchmarks.fairness.road import Road, Traffic
from benchmarks.rows import Goal, Row
from tests.sim.flows import jain

MBIT = 1e6 / 8
ROAD = Road(50, 0.04)
LOSSES = (0.0, 0.0001, 0.001, 0.003, 0.01, 0.03, 0.1)
DISTANCES = (0.001, 0.005, 0.02, 0.04, 0.1, 0.3)
DISTANT_LOSS = 0.001
STT_CUBIC, STT_NEWRENO, AIOQUIC_RENO, AIOQUIC_CUBIC = PARTIES = (
    "STT, CUBIC",
    "STT, NewReno",
    "aioquic, Reno",
    "aioquic, CUBIC",
)
CUBIC_THEORY, RENO_THEORY, LINK = "theory: CUBIC", "theory: Reno", "the link"
LIKE = 0.99
"""As much as aioquic's, but for the 8 bytes that its packets have less beside the application's."""
LEAST_PACKETS, MOST_PACKETS, LOSSES_WANTED = 12_000, 40_000, 40
SHARED = Road(10, 0.04)
HEAD_START, TO_SETTLE, WATCHED = 5.0, 15.0, 30.0
PAIRS = (
    (STT_CUBIC, STT_CUBIC),
    (STT_NEWRENO, STT_NEWRENO),
    (STT_NEWRENO, STT_CUBIC),
    (AIOQUIC_RENO, STT_CUBIC),
    (AIOQUIC_CUBIC, STT_CUBIC),
    (AIOQUIC_RENO, AIOQUIC_CUBIC),
)
"""Who has the road for itself at first, and who joins it."""
DEEP = Road(20, 0.04, queue=2_500_000)
"""A queue of a second."""
DEEP_WATCHED = 5.0
"""Seconds from the start."""
LONGEST_WAIT = 250
"""Milliseconds of that queue that a flow alone may fill meanwhile."""
JUST = 0.95
"""The least of Jain's index for two flows of a kind."""
TRANSFER = 2 << 20


@dataclass(frozen=True)
class Job:
    """One simulation, to be run in a process of its own."""

    kind: str
    parties: tuple[str, ...]
    road: Road
    seed: int = 1
    certificates: str = ""
    share: float = 1.0
    """Part of the full length."""


def _flow(party: str, traffic: Traffic, folder: str) -> Flow:
    makers: dict[str, Callable[[], Flow]] = {
        STT_CUBIC: lambda: Stt(traffic, "cubic"),
        STT_NEWRENO: lambda: Stt(traffic, "newreno"),
        AIOQUIC_RENO: lambda: Quic(traffic, "reno", Path(folder)),
        AIOQUIC_CUBIC: lambda: Quic(traffic, "cubic", Path(folder)),
    }
    return makers[party]()


def _started(job: Job) -> tuple[Traffic, list[Flow]]:
    """The first flow has the road for itself."""
    traffic = Traffic(job.road, job.seed)
    flows = [_flow(party, traffic, job.certificates) for party in job.parties]
    traffic.open()
    flows[0].start()
    return traffic, flows


def steady(job: Job) -> list[float]:
    """Mbit/s of a flow that has found its pace; over as many losses as settle the average, or enough packets."""
    traffic, (flow,) = _started(job)
    packets = min(max(LOSSES_WANTED / job.road.loss, LEAST_PACKETS), MOST_PACKETS) if job.road.loss else LEAST_PACKETS
    expected = theory.rate(theory.reno(job.road.loss, job.road.rtt), job.road) * MBIT / theory.BODY
    seconds = packets * job.share / expected
    traffic.run(min(max(seconds / 4, 3.0), 15.0))
    before = flow.arrived
    traffic.run(seconds)
    return [(flow.arrived - before) / seconds / MBIT]


def transfer(job: Job) -> list[float]:
    """Mbit/s of a transfer of 2 MiB, from its first byte on."""
    traffic, (flow,) = _started(job)
    start = traffic.clock.now
    traffic.lab.run_until(lambda: flow.arrived >= TRANSFER, timeout=600.0)
    return [TRANSFER / (traffic.clock.now - start) / MBIT]


def shares(job: Job) -> list[float]:
    """Mbit/s of each of two flows, the second having come later, after they had time to settle."""
    traffic, flows = _started(job)
    traffic.run(HEAD_START * job.share)
    flows[1].start()
    traffic.run(TO_SETTLE * job.share)
    before = [flow.arrived for flow in flows]
    seconds = WATCHED * job.share
    traffic.run(seconds)
    return [(flow.arrived - had) / seconds / MBIT for flow, had in zip(flows, before, strict=True)]


def waiting(job: Job) -> list[float]:
    """The longest that a datagram waited in a deep queue within a flow's first seconds, in milliseconds."""
    traffic, _ = _started(job)
    traffic.run(DEEP_WATCHED)
    return [traffic.link.longest / job.road.rate * 1e3]


KINDS = {function.__name__: function for function in (steady, transfer, shares, waiting)}


def _run(job: Job) -> list[float]:
    return KINDS[job.kind](job)


def simulate(parties: Sequence[str] = PARTIES, *, quick: bool = False) -> list[Row]:
    """Every row, simulated on all processors."""
    share = 0.1 if quick else 1.0
    losses = LOSSES[4:5] if quick else LOSSES
    distances = DISTANCES[4:5] if quick else DISTANCES
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor() as pool:
        certificates.make(Path(folder))

        def job(kind: str, parties: tuple[str, ...], road: Road, seed: int = 1) -> Job:
            return Job(kind, parties, road, seed, folder, share)

        pairs = [pair for pair in PAIRS if set(pair) <= set(parties)]
        roads = [replace(ROAD, loss=loss) for loss in losses]
        roads += [Road(ROAD.mbits, rtt, DISTANT_LOSS) for rtt in distances]
        jobs = [job("steady", (party,), road) for road in dict.fromkeys(roads) for party in parties]
        early = replace(ROAD, loss=0.01)
        jobs += [job("transfer", (party,), early, seed) for party in parties for seed in range(3 if quick else 15)]
        jobs += [job("shares", pair, SHARED) for pair in pairs]
        jobs += [job("waiting", (party,), DEEP) for party in parties]
        found = dict(zip(jobs, pool.map(_run, jobs), strict=True))
    rows = [_steady_row("loss", road.loss * 100, road, found) for road in roads[: len(losses)]]
    rows += [_steady_row("distance", road.rtt * 1e3, road, found) for road in roads[len(losses) :]]
    rows.append(_transfer_row(parties, found))
    for pair in pairs:
        values = next(values for made, values in found.items() if (made.kind, made.parties) == ("shares", pair))
        rows.append(_shares_row(pair, values))
    rows.append(_jain_row(found))
    longest = {made.parties[0]: values for made, values in found.items() if made.kind == "waiting"}
    title = f"{DEEP.mbits:g} Mbit/s, {DEEP.rtt * 1e3:g} ms, a queue of a second: the longest wait within 5 s"
    goals = [Goal(STT_CUBIC, LONGEST_WAIT, more=False)] if STT_CUBIC in longest else []
    rows.append(Row(title, "ms", 0.0, longest, goals))
    return rows


def _steady_row(curve: str, at: float, road: Road, found: dict[Job, list[float]]) -> Row:
    values = {made.parties[0]: got for made, got in found.items() if (made.kind, made.road) == ("steady", road)}
    values[CUBIC_THEORY] = [theory.rate(theory.cubic(road.loss, road.rtt), road)]
    values[RENO_THEORY] = [theory.rate(theory.reno(road.loss, road.rtt), road)]
    values[LINK] = [theory.link(road)]
    goals = [Goal(STT_CUBIC, 0.8, CUBIC_THEORY), Goal(STT_CUBIC, LIKE, AIOQUIC_RENO)]
    title = f"{curve}: {road.mbits:g} Mbit/s, {road.rtt * 1e3:g} ms, {road.loss:.2%} lost"
    return Row(title, "Mbit/s", 0.0, values, goals, at)


def _transfer_row(parties: Sequence[str], found: dict[Job, list[float]]) -> Row:
    """The whole amount by the whole time, as a lucky run would make up for several unlucky ones in any other mean."""
    values: dict[str, list[float]] = {party: [] for party in parties}
    for made, got in found.items():
        if made.kind == "transfer":
            values[made.parties[0]] += got
    title = "transfers of 2 MiB from the start, 50 Mbit/s, 40 ms, 1.00% lost"
    means = {party: [harmonic_mean(speeds)] for party, speeds in values.items()}
    return Row(title, "Mbit/s", 0.0, means, [Goal(STT_CUBIC, 1, AIOQUIC_RENO)])


def _jain_row(found: dict[Job, list[float]]) -> Row:
    """How alike two flows of a kind fared."""
    pairs = {
        made.parties[0]: got for made, got in found.items() if made.kind == "shares" and len(set(made.parties)) == 1
    }
    values = {party: [jain(rates)] for party, rates in pairs.items()}
    title = f"{SHARED.mbits:g} Mbit/s, {SHARED.rtt * 1e3:g} ms, shared by two of a kind"
    return Row(title, "Jain's index", 0.0, values, [Goal(party, JUST) for party in values])


def _shares_row(pair: tuple[str, ...], values: list[float]) -> Row:
    names = [f"{pair[0]}, first", f"{pair[1]}, joining"]
    title = f"{SHARED.mbits:g} Mbit/s, {SHARED.rtt * 1e3:g} ms, shared by two"
    half = theory.link(SHARED) / 2
    goals = [Goal(name, 1.5 * half, more=False) for name in names if name.startswith(STT_CUBIC)]
    return Row(title, "Mbit/s", 0.0, {name: [value] for name, value in zip(names, values, strict=True)}, goals)
