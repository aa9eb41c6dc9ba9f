"""What a packet and a session cost the core, in calls: the same on every machine, so a test can hold them to a number.

Counts Python-level calls, those of C functions included, over a fixed transfer between two endpoints in virtual time
with seeded entropy. Calls inside ``map`` and other C code don't show, comprehensions aren't counted (newer Pythons
inline them). ``python -m benchmarks.guard`` prints the costs beside those that are committed; after a change that was
meant to move them, ``python -m benchmarks.guard --write`` commits to the new ones, in ``calls_per_packet.json``.

``--instructions`` counts machine instructions instead, under valgrind's callgrind: the same to a few in a million on
one machine, and only there, so there is no committed number. It takes half a minute.

A WebSocket's packets travel over loopback, and are masked by the C function of the extra ``speedups``, as in the tests'
environment.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import FrameType

from benchmarks.core import PHASES, STEP, Pair, transfer
from benchmarks.websocket_pair import WebSocketPair
from stt_core.types import Entropy

COMMITTED = Path(__file__).parent / "calls_per_packet.json"
TOLERANCE = 0.05
"""The share by which a cost may differ from the committed one, either way."""
SIZE = 8_000_000
MESSAGES = 256
MESSAGE = bytes(64)
SESSIONS = 64
_COMPREHENSIONS = frozenset(("<listcomp>", "<setcomp>", "<dictcomp>"))


def _seeded(name: str) -> Entropy:
    calls = count()

    def entropy(size: int) -> bytes:
        return hashlib.shake_128(f"{name} {next(calls)}".encode()).digest(size)

    return entropy


class _Calls:
    """Counts calls by the phase that is on."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._phase = ""

    def begin(self, phase: str) -> None:
        self._phase = phase

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        if event == "c_call" or (event == "call" and frame.f_code.co_name not in _COMPREHENSIONS):
            self.counts[self._phase] += 1

    def over(self, work: Callable[[], int]) -> int:
        """``work()``, counted."""
        previous = sys.getprofile()
        sys.setprofile(self._profile)
        try:
            return work()
        finally:
            sys.setprofile(previous)


def _pair() -> Pair:
    return Pair(_seeded("one"), _seeded("two"))


def _bulk() -> dict[str, float]:
    pair, calls = _pair(), _Calls()
    packets = calls.over(lambda: transfer(pair, SIZE, calls.begin))
    return {f"bulk {phase}": calls.counts[phase] / packets for phase in PHASES}


def _messages() -> dict[str, float]:
    pair, calls = _pair(), _Calls()
    sender, receiver = pair.sessions()
    stream = sender.open_stream()

    def work() -> int:
        for _ in range(MESSAGES):
            calls.begin("message send")
            sender.send_message(stream, MESSAGE)
            out = pair.ends[0].poll_transmit(pair.now)
            assert out is not None
            calls.begin("message receive")
            pair.ends[1].receive_datagrams(out.data, out.segment_size, pair.paths[0], pair.now)
            assert receiver.read_message(stream) == MESSAGE
            calls.begin("")
            pair.now += 0.05
            pair.carry(1)
            pair.carry(0)
            pair.drop_events()
        return MESSAGES

    calls.over(work)
    return {name: calls.counts[name] / MESSAGES for name in ("message send", "message receive")}


def _websocket() -> dict[str, float]:
    """Echoes of 64 bytes over a WebSocket connection: the client's half of each, with its driver and its link."""
    calls = _Calls()
    with WebSocketPair(_seeded("one"), _seeded("two")) as pair:
        (client, server), (near, far) = pair.drivers, pair.sessions()
        stream = near.open_stream()

        def work() -> int:
            for _ in range(MESSAGES):
                calls.begin("websocket send")
                near.send_message(stream, MESSAGE)
                client.submit()
                calls.begin("")
                server.turn_of(pair.arrived(1))
                assert far.read_message(stream) == MESSAGE
                far.send_message(stream, MESSAGE)
                server.submit()
                link = pair.arrived(0)
                calls.begin("websocket receive")
                client.turn_of(link)
                assert near.read_message(stream) == MESSAGE
                calls.begin("")
                pair.now += 0.001
            return MESSAGES

        calls.over(work)
    return {name: calls.counts[name] / MESSAGES for name in ("websocket send", "websocket receive")}


def _sessions() -> dict[str, float]:
    """Sessions made, and closed as soon as they are: six datagrams, with all of the handshake's arithmetic."""
    pair, calls = _pair(), _Calls()
    client, _ = pair.ends
    pair.drop_events()
    sides = ("session connect", "session accept")

    def carry(sender: int) -> None:
        calls.begin(sides[sender])
        while (out := pair.ends[sender].poll_transmit(pair.now)) is not None:
            calls.begin(sides[1 - sender])
            pair.ends[1 - sender].receive_datagrams(out.data, out.segment_size, pair.paths[sender], pair.now)
            calls.begin(sides[sender])
        calls.begin("")
        pair.now += STEP

    def work() -> int:
        for _ in range(SESSIONS):
            calls.begin(sides[0])
            session = client.session(client.connect(pair.paths[1].address, now=pair.now))
            for sender in (0, 1, 0, 1):
                carry(sender)
            calls.begin(sides[0])
            session.close()
            for sender in (0, 1):
                carry(sender)
            assert session.error is not None, "it is not closed"
            pair.drop_events()
        return SESSIONS

    calls.over(work)
    return {name: calls.counts[name] / SESSIONS for name in sides}


def measure() -> dict[str, float]:
    """Calls a packet: of bulk data for sending, receiving and handling the ACKs, and of single messages of 64 bytes, by
    the core alone and over WebSocket with the driver; and calls a session that is made and closed, on either side."""
    found = _bulk() | _messages() | _websocket() | _sessions()
    return {name: round(calls, 3) for name, calls in found.items()}


def committed() -> dict[str, float]:
    """The costs that the code is held to."""
    found: dict[str, float] = json.loads(COMMITTED.read_text(encoding="utf-8"))
    return found


def differences(costs: dict[str, float], agreed: dict[str, float]) -> list[str]:
    """What to say of each cost that is more than :data:`TOLERANCE` away from what was agreed, or was not agreed on."""
    found = []
    for name in sorted(costs.keys() | agreed.keys()):
        if name not in costs or name not in agreed:
            found.append(f"{name} is {'measured' if name in costs else 'committed'} only")
        elif abs(change := costs[name] / agreed[name] - 1) > TOLERANCE:
            better = "cheaper: commit to it, so that it stays so" if change < 0 else "dearer: mend it, or argue for it"
            found.append(f"{name} takes {costs[name]:.2f} calls, committed are {agreed[name]:.2f}: {better}")
    return found


def table(costs: dict[str, float], agreed: dict[str, float]) -> str:
    """Both side by side, a line each."""
    lines = [f"{name:17} {calls:7.2f} calls, committed {agreed.get(name, 0.0):7.2f}" for name, calls in costs.items()]
    return "\n".join(lines)


def _under_callgrind(size: int) -> tuple[int, int]:
    """Instructions and packets of a process that moves ``size`` bytes."""
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={os.devnull}", sys.executable]
    run = subprocess.run(
        [*command, "-m", "benchmarks.guard", "--transfer", str(size)],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"Collected : (\d+)", run.stderr)
    assert found is not None, run.stderr
    return int(found[1]), int(run.stdout)


def instructions() -> float:
    """Machine instructions a packet of bulk data costs, sent, received and acknowledged; needs valgrind."""
    (few, packets), (many, more) = (_under_callgrind(size) for size in (1_000_000, 4_000_000))
    return (many - few) / (more - packets)


def main() -> None:
    """Print both, or write the measured costs down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard", description=__doc__)
    parser.add_argument("--write", action="store_true", help="commit to what is measured now")
    parser.add_argument("--instructions", action="store_true", help="count machine instructions, under valgrind")
    parser.add_argument("--transfer", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.transfer is not None:
        print(transfer(_pair(), arguments.transfer, lambda _: None))
        return
    if arguments.instructions:
        print(f"{instructions():,.0f} instructions a packet, sent, received and acknowledged")
        return
    costs = measure()
    if arguments.write:
        COMMITTED.write_text(json.dumps(costs, indent=2) + "\n", encoding="utf-8")
    agreed = committed()
    print(table(costs, agreed))
    sys.exit("\n".join(differences(costs, agreed)) or None)


if __name__ == "__main__":
    main()
