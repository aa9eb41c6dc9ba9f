"""``stt forward`` and ``stt serve``: TCP connections through one session, as ``ssh -L`` has it.

Rule: each connection is a stream of its own, and its end is its own: the session goes on, and so do the others. The
side that serves connects to nothing but what it was told to allow.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from stt_anyio import ByteStream, MessageStream, SessionClosedError, STTError, STTNode, STTSession
from stt_anyio.cli.addresses import Address, parse_destination, parse_fallback, resolve, spelled
from stt_anyio.cli.failure import Exit, Failure, failure_of
from stt_anyio.cli.interrupts import signals
from stt_anyio.cli.line import Line
from stt_anyio.cli.output import say
from stt_anyio.cli.seed import shared_seed
from stt_anyio.cli.sessions import candid, named, next_stream, reached, running_node, say_interrupted, way_round
from stt_anyio.cli.summary import Summary
from stt_anyio.cli.tcp import Relay, TcpStream, accept, dial, listen
from stt_core.config import KIB, MIB
from stt_core.errors import Violation
from stt_core.forwarding import WORDS, Admission, Refusal, Target, parse_request_untrusted
from stt_core.state import SessionState

MAX_CONNECTIONS = 400
"""At once, on either side: each takes a descriptor, and most systems give 1024 to a process."""
SETTINGS: dict[str, Any] = {
    "resumable": True,
    # More streams than connections: what is too many is refused with a reason, and not left to wait.
    "max_streams": 2 * MAX_CONNECTIONS,
    # What waits for slow readers: a few of them must not take all there is for the others.
    "stream_window": 256 * KIB,
    "max_stream_window": 2 * MIB,
    "session_window": 64 * MIB,
    "max_window": 64 * MIB,
    "send_buffer": 256 * KIB,
    "detached_memory": 256 * MIB,
}


class _Tally:
    """What was carried, for the last line."""

    def __init__(self) -> None:
        self.connections = 0
        self.refused = 0
        self.sent = 0
        self.received = 0

    def add(self, relay: Relay) -> None:
        """One connection is over."""
        self.connections += 1
        self.sent += relay.outward
        self.received += relay.inward

    def details(self, **more: Any) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "connections": self.connections,
            "refused": self.refused,
            "bytes_sent": self.sent,
            "bytes_received": self.received,
            **more,
        }


# --- the side that is connected to


def forward(arguments: argparse.Namespace, summary: Summary) -> None:
    """``stt forward``: carry what connects to a port here, until interrupted."""
    where = parse_destination(arguments.address)
    target = Target.parse(arguments.target)
    detour = parse_fallback(arguments.fallback)
    host, port = _numeric(arguments.bind), arguments.local_port
    seed = shared_seed()
    addresses: Sequence[Address | str] = [where] if isinstance(where, str) else resolve(*where)
    forwarder = _Forwarder(target, summary)
    signals.run(lambda: forwarder.run(seed, addresses, arguments.timeout, host, port, detour))


def _numeric(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        raise Failure(Exit.USAGE, f"--bind is '{host}', expected a numeric IPv4 or IPv6 address") from None


class _Forwarder:
    """Takes connections to ``target`` and carries them."""

    def __init__(self, target: Target, summary: Summary) -> None:
        self._target = target
        self._summary = summary
        self._tally = _Tally()
        self._admission = Admission([target], MAX_CONNECTIONS)

    async def run(
        self,
        seed: bytes,
        addresses: Sequence[Address | str],
        timeout: float,
        host: str,
        port: int,
        detour: str | None,
    ) -> None:
        """Listen at ``host`` and ``port``, connect, and carry until cancelled."""
        try:
            listener = listen(host, port)
        except OSError as error:
            raise Failure(Exit.USAGE, f"can't listen on {host} TCP port {port}: {error.strerror}") from error
        with listener:
            async with reached(seed, addresses, timeout, accept=False, **SETTINGS) as (session, address):
                line = Line(session, address, detour or way_round(address))
                say(f"listening on {spelled(*listener.getsockname()[:2])}")
                say(f"forwarding to {self._target} by way of {named(address)}")
                try:
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(line.keep)
                        while True:
                            self._take(tasks, line, await accept(listener, _tell_exhausted))
                finally:
                    self._summary.details = self._tally.details(
                        resumed=line.resumed, renewed=line.renewed, transport=line.current.path.transport
                    )
                    await say_interrupted(line.current)

    def _take(self, tasks: TaskGroup, line: Line, tcp: TcpStream) -> None:
        refusal = self._admission.admit(self._target)
        if refusal is not None:
            self._refuse(tcp, f"there are {self._admission.most} already")
            return
        tasks.start_soon(self._carry, line, tcp)

    def _refuse(self, tcp: TcpStream, reason: str) -> None:
        self._tally.refused += 1
        say(f"stt: refused a connection to {self._target}: {reason}")
        tcp.reset()

    async def _carry(self, line: Line, tcp: TcpStream) -> None:
        try:
            try:
                session = await line.session()
                stream = await session.open_stream_when_possible(purpose=self._target.purpose, mode="bytes")
            except (Failure, STTError) as error:
                self._refuse(tcp, str(failure_of(error)))
                return
            except BaseException:
                tcp.reset()
                raise
            assert isinstance(stream, ByteStream)
            await self._relay(Relay(tcp, stream))
        finally:
            self._admission.release()

    async def _relay(self, relay: Relay) -> None:
        try:
            await relay.run()
        finally:
            self._tally.add(relay)
        if relay.code in WORDS:
            say(f"stt: a connection to {self._target} was reset: {WORDS[Refusal(relay.code)]}")
        elif isinstance(relay.failure, SessionClosedError):
            say(f"stt: a connection to {self._target} was reset: {failure_of(relay.failure)}")


def _tell_exhausted(error: OSError) -> None:
    say(f"stt: can't take another connection for now: {error.strerror}")


# --- the side that connects

_REASONS = {
    Refusal.NOT_ALLOWED: "it is not allowed",
    Refusal.TOO_MANY: "there are as many already as can be",
}


def serve(arguments: argparse.Namespace, summary: Summary) -> None:
    """``stt serve``: connect those who hold the seed to what is allowed, until interrupted."""
    server = Server([Target.parse(text) for text in arguments.allow], summary)
    seed = shared_seed()
    host, port, transport, keep = arguments.bind, arguments.port, arguments.transport, arguments.keep
    signals.run(lambda: server.run(seed, bind_address=host, port=port, transport=transport, detached_timeout=keep))


class Server:
    """Connects streams to the targets that are allowed, at most ``most`` at once."""

    def __init__(self, allowed: Sequence[Target], summary: Summary, most: int = MAX_CONNECTIONS) -> None:
        self._allowed = allowed
        self._summary = summary
        self._tally = _Tally()
        self._admission = Admission(allowed, most)
        self._open: Counter[STTSession] = Counter()
        """Connections by the sessions they came through."""
        self._silent: dict[STTSession, None] = {}
        """Sessions whose peer fell silent, the first of them first; some may be back."""

    async def run(self, seed: bytes, **settings: Any) -> None:
        """Listen, and serve until cancelled."""
        try:
            async with running_node(seed, **SETTINGS, **settings) as node:
                node.on_session_closed(
                    lambda session_id, reason: None if session_id else say("refused a peer that holds another seed")
                )
                say(f"listening on {spelled(settings['bind_address'], node.port)}")
                say(f"allowed: {', '.join(map(str, self._allowed)) or 'nothing; --allow HOST:PORT allows a target'}")
                await self.serve(node)
        finally:
            self._summary.details = self._tally.details()

    async def serve(self, node: STTNode) -> None:
        """Serve all who connect to ``node``, until it stops."""
        node.on_session_detached(self._on_silence)
        await node.serve(self._take_all)

    def _on_silence(self, session: STTSession) -> None:
        self._silent.pop(session, None)
        self._silent[session] = None
        say("a client fell silent; its connections are kept")

    async def _make_room(self) -> None:
        """Give up the connections of clients that have been silent for longest, as far as others need the room."""
        while self._admission.full and self._silent:
            session = next(iter(self._silent))
            del self._silent[session]
            if session.state is SessionState.DETACHED and self._open[session]:
                say("a client that is silent is given up: others need the room")
                await session.close(linger=0)
                while self._open[session]:
                    await anyio.lowlevel.checkpoint()

    async def _take_all(self, session: STTSession) -> None:
        """Every stream of one session, all at once; its end is no end of the command's."""
        try:
            async with candid(session), anyio.create_task_group() as tasks:
                while (stream := await next_stream(session)) is not None:
                    tasks.start_soon(self._take, stream)
        except Exception as error:  # noqa: BLE001 - told, bugs too
            failure = failure_of(error)
            if failure.code is Exit.BUG:
                self._summary.fail(failure)
            else:
                say(f"a client is gone: {failure}")
        finally:
            self._silent.pop(session, None)
            del self._open[session]

    async def _take(self, stream: ByteStream | MessageStream) -> None:
        try:
            target = parse_request_untrusted(stream.purpose)
        except Violation as violation:
            self._refuse(stream, Refusal.NOT_ALLOWED, f"refused a stream: {violation.reason}")
            return
        if not isinstance(stream, ByteStream):
            self._refuse(stream, Refusal.NOT_ALLOWED, "refused a stream of messages")
            return
        refusal = self._admission.admit(target)
        if refusal is Refusal.TOO_MANY:
            await self._make_room()
            refusal = self._admission.admit(target)
        if refusal is not None:
            self._refuse(stream, refusal, f"refused a connection to {target}: {_REASONS[refusal]}")
            return
        self._open[stream.session] += 1
        try:
            await self._connect(stream, target)
        finally:
            self._open[stream.session] -= 1
            self._admission.release()

    def _refuse(self, stream: ByteStream | MessageStream, code: Refusal, reason: str) -> None:
        self._tally.refused += 1
        say(f"stt: {reason}")
        stream.reset(code)

    async def _connect(self, stream: ByteStream, target: Target) -> None:
        try:
            tcp = await dial(target)
        except OSError as error:
            self._refuse(stream, Refusal.UNREACHABLE, f"can't reach {target}: {error.strerror or 'no answer'}")
            return
        except BaseException:
            stream.reset(Refusal.BROKEN)
            raise
        relay = Relay(tcp, stream)
        try:
            await relay.run()
        finally:
            self._tally.add(relay)
