"""A non-blocking UDP socket that moves datagrams by the batch.

Rule: nothing here waits, resolves names or retries for ever. A ready socket means: call :meth:`UdpSocket.receive` until
it says None (or a bounded number of times, and while it is ``holding``), then :meth:`UdpSocket.receive_error` until it
says None; otherwise the system keeps reporting the socket ready.

One system call carries up to 64 equal-sized datagrams each way where Linux offers it (UDP_SEGMENT since 4.18, UDP_GRO
since 5.0): from Python that is ten times the throughput of one datagram per call, and more. Everywhere else, and where
a route or a driver turns out not to support it, the same calls send and receive one by one.
"""

from __future__ import annotations

import errno
import functools
import logging
import socket
import struct
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from stt_backends.buffers import grant_buffer
from stt_backends.heap import keep_heap
from stt_backends.udp_address import Address, canonical, for_ipv6, resolve_numeric
from stt_backends.udp_errors import SEGMENTATION_ERRNOS, VERDICTS, Verdict, is_refusal
from stt_core.errors import ConfigurationError

logger = logging.getLogger("stt.udp")

MAX_SEGMENTS = 64
"""Datagrams in one segmented send: Linux' own limit before 6.9 (UDP_MAX_SEGMENTS), and enough."""
MAX_BATCH = 65_507
"""Bytes in one send, segmented or not: 65,535 less the IPv4 and UDP headers."""
DEFAULT_BUFFER = 4 * 1024 * 1024
"""What is asked of the system for each direction; a default buffer holds less than a batch or two."""

_LINUX = sys.platform == "linux"
# Linux' numbers; Python 3.11's socket module has none of these (include/uapi/linux/{udp,in,in6}.h).
_SOL_UDP = 17
_UDP_SEGMENT = 103
_UDP_GRO = 104
_SOL_IP = 0
_IP_TOS = 1
_IP_MTU_DISCOVER = 10
_IP_RECVERR = 11
_IP_RECVTOS = 13
_SOL_IPV6 = 41
_IPV6_MTU_DISCOVER = 23
_IPV6_RECVERR = 25
_IPV6_RECVTCLASS = 66
_IPV6_TCLASS = 67
_PMTUDISC_PROBE = 3
_ECN_BITS = 3
_MSG_ERRQUEUE = 0x2000
_MSG_TRUNC = int(socket.MSG_TRUNC)  # an IntFlag takes 4 µs to say no
_CONTROL_SPACE = 3 * socket.CMSG_SPACE(4) if hasattr(socket, "CMSG_SPACE") else 0
_ERROR_SPACE = 512

_LARGEST = 65_536
"""Room for any datagram or batch of such that one system call brings."""
_GATHERED = 4 * _LARGEST
"""Bytes that :meth:`UdpSocket.receive` gathers before the last call's, where large ones come."""
_MAX_TOO_BIG = 16
"""Refused sizes kept until they are asked for."""
_MAX_REFUSED = 16
"""Likewise, destinations."""
_ATTEMPTS = 64
# What one call may throw away before it gives way to the caller's loop. A flood of empty datagrams, or of ICMP
# messages, must not keep it here; the socket stays ready, so the next call goes on.

_Read = tuple[int, int, int, Address, int]
"""Where it begins and ends in the buffer, the size of its datagrams, where they came from, their ECN codepoint."""


class UdpSocket:
    """One bound UDP socket.

    :param bind_address: numeric; ``"0.0.0.0"`` is every IPv4 interface, ``"::"`` every interface at all.
    :param port: 0 lets the system choose, see :attr:`address`.
    :param reuse_port: let other processes of the same user bind the same port; the system spreads peers over them.
    :param recv_buffer_size: bytes to ask for; None asks for 4 MiB. What was granted is in :attr:`receive_buffer`.
    :param send_buffer_size: likewise, :attr:`send_buffer`.
    :param dual_stack: an IPv6 socket also carries IPv4; those peers appear under their IPv4 addresses.
    :param offload: False for one plain ``sendto`` or ``recvfrom`` per datagram.
    :param report_errors: False to hear of no ICMP refusal.
    :param sock: an already bound datagram socket to take over, in place of making one.

    Addresses are as ``stt_backends.udp_address`` describes. The descriptor is not inherited by programs started later.

    :raises ConfigurationError: if the address isn't numeric, the port out of range, or ``reuse_port`` not to be had.
    :raises OSError: if binding fails; the message names the address.
    """

    __slots__ = (
        "_control",
        "_control_size",
        "_deaf",
        "_ecn",
        "_errors_pending",
        "_held",
        "_ipv6",
        "_read",
        "_refused",
        "_report_errors",
        "_rest",
        "_segment_limit",
        "_sendmsg",
        "_sendto",
        "_socket",
        "_view",
        "address",
        "discarded",
        "dont_fragment",
        "drained",
        "losses",
        "reads",
        "receive_buffer",
        "send_buffer",
        "too_big",
        "troubles",
    )

    def __init__(
        self,
        bind_address: str = "0.0.0.0",
        port: int = 0,
        *,
        reuse_port: bool = False,
        recv_buffer_size: int | None = None,
        send_buffer_size: int | None = None,
        dual_stack: bool = True,
        offload: bool = True,
        report_errors: bool = True,
        sock: socket.socket | None = None,
    ) -> None:
        if sock is None:
            sock = _bound(bind_address, port, reuse_port=reuse_port, dual_stack=dual_stack)
        sock.setblocking(False)
        self._socket = sock
        self._ipv6 = sock.family == socket.AF_INET6
        self.address: Address = canonical(sock.getsockname())
        """Where the socket is bound, with the real port."""
        self.receive_buffer = _grant(sock, socket.SO_RCVBUF, recv_buffer_size)
        """Bytes the system lets wait in the socket. On Linux each datagram counts with its bookkeeping, and this is
        twice what was asked for on that account."""
        self.send_buffer = _grant(sock, socket.SO_SNDBUF, send_buffer_size)
        """Likewise, for what waits to leave."""
        self.discarded = 0
        """Datagrams received but thrown away: empty, cut short, or from port 0, where no reply can go."""
        self.losses: dict[int, int] = {}
        """Sends that failed, by ``errno``; to the protocol these are lost on the way."""
        self.too_big: list[tuple[Address, int]] = []
        """Where the system refused to send datagrams of which size (EMSGSIZE); for the caller to take out."""
        self.dont_fragment = _forbid_fragments(sock)
        """Whether what is too large for the path gets lost rather than cut in pieces: a search for the path's MTU
        needs that (RFC 9000 section 14)."""
        self._ecn, self._errors_pending = 0, False
        self.troubles = 0  # errors the system reported: at each, some event loops stop watching the socket
        self._deaf = False
        self._refused: list[Address] = []
        self._report_errors = report_errors and _enable_error_queue(sock)
        self._view = memoryview(bytearray(_LARGEST))
        self.reads = 0
        """System calls that brought what :meth:`receive` returned last."""
        self.drained = False
        """Whether it found then that nothing more waits."""
        self._held: _Read | None = None  # of another kind than what was read before it
        self._read: Callable[[memoryview], tuple[int, list[tuple[int, int, bytes]], int, Any]]
        # Marks cost a look at each batch; on the loopback nobody sets them.
        marks = not _is_loopback(self.address) and _enable_marks(sock)
        if (offload and _enable(sock, _SOL_UDP, _UDP_GRO)) or marks:
            self._read = functools.partial(_read_with_news, sock)
        else:
            self._read = functools.partial(_read_one, sock)
        # The largest datagram for which segmentation is tried. A datagram too large for one route says nothing about
        # smaller ones, so this shrinks step by step, and is 0 when segmentation as such doesn't work.
        self._segment_limit = MAX_BATCH if offload and _LINUX else 0
        self._control: tuple[tuple[int, int, bytes], ...] = ()
        self._control_size = 0
        self._sendmsg = sock.sendmsg if hasattr(sock, "sendmsg") else None
        self._sendto = sock.sendto
        self._rest: tuple[bytes, int] | None = None  # a batch of which a part has gone, and its first byte not sent

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<UdpSocket {self.address[0]} port {self.address[1]}{'' if self.fileno() >= 0 else ' closed'}>"

    def fileno(self) -> int:
        """The descriptor to wait on; -1 once closed."""
        return self._socket.fileno()

    def close(self) -> None:
        """Give the descriptor back. May be called again."""
        self._rest = None
        self._socket.close()

    def canonical(self, address: tuple[Any, ...]) -> Address:
        """The form under which :meth:`receive` will report this peer; for use at connect, not per datagram.

        :param address: ``(host, port)`` or IPv6's four items; the host numeric, ``%scope`` allowed.
        :raises ConfigurationError: if the host isn't numeric or this socket's family can't reach it.
        """
        host = f"{address[0]}"
        family, raw = resolve_numeric("the peer's address", host, address[1])
        if len(address) == 4 and family == socket.AF_INET6 and not raw[3]:
            raw = (*raw[:3], address[3])
        found = canonical(raw)
        if ":" in found[0] and not self._ipv6:
            raise ConfigurationError(f"{found[0]} is an IPv6 address, and this socket is bound to {self.address[0]}")
        if ":" not in found[0] and self._ipv6 and self._socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
            raise ConfigurationError(f"{found[0]} is an IPv4 address, and this socket carries IPv6 only")
        if not found[1]:
            raise ConfigurationError("the peer's address: the port is 0, expected 1 to 65535")
        return found

    def receive(self, most: int = 1) -> tuple[memoryview, int, Address, int] | None:
        """What is next: ``(data, segment_size, address, ecn)``, or None if nothing waits.

        ``data`` holds one datagram, or several of ``segment_size`` bytes back to back (the last may be shorter), all
        from ``address`` and with the same ECN codepoint, 0 to 3 (RFC 3168 section 5). Up to ``most`` system calls bring
        it; the first datagram of another kind ends it, and is what the next call begins with. It is valid until then:
        the buffer is used again.

        :raises OSError: only for what must be our own mistake, such as a closed socket.
        """
        found, self._held = self._held, None
        if found is None:
            found = self._read_at(0)
            if found is None:
                return None
        start, stop, segment_size, address, ecn = found
        self.reads, self.drained = 1, False
        if most > 1 and stop - start > _LARGEST // 2 and len(self._view) == _LARGEST:
            self._make_room(stop)
        while self.reads < most and len(self._view) - stop >= _LARGEST and not (stop - start) % segment_size:
            found = self._read_at(stop)
            if found is None:
                self.drained = True
                break
            self.reads += 1
            if found[2:] != (segment_size, address, ecn):
                self._held = found
                break
            stop = found[1]
        return self._view[start:stop], segment_size, address, ecn

    @property
    def holding(self) -> bool:
        """Whether :meth:`receive` has read more than it returned: call it again, the system won't say so."""
        return self._held is not None

    def _make_room(self, size: int) -> None:
        """Have a buffer in which several large reads can be gathered, with the ``size`` bytes that this one has."""
        keep_heap()
        buffer = bytearray(_GATHERED + _LARGEST)
        buffer[:size] = self._view[:size]
        self._view = memoryview(buffer)

    def _read_at(self, start: int) -> _Read | None:
        """What one system call brings, into the buffer from ``start`` on, where there must be :data:`_LARGEST` bytes
        left; None if nothing waits."""
        view = self._view[start:]
        for _ in range(_ATTEMPTS):
            try:
                size, control, flags, address = self._read(view)
            except BlockingIOError:
                return None
            except OSError as error:
                self._note(error)
                continue
            # A source port of 0 is legal in UDP and can't be answered (the send would fail with EINVAL).
            if not size or flags & _MSG_TRUNC or not address[1]:
                self.discarded += 1
                continue
            if self._ipv6:
                address = canonical(address)
            segment_size, ecn = _ancillary(control, size) if control else (size, 0)
            return start, start + size, segment_size, address, ecn
        return None

    def send(self, data: bytes, segment_size: int, address: Address, ecn: int = 0) -> bool:
        """Send ``data`` as datagrams of ``segment_size`` bytes (the last may be shorter) to a canonical address, with
        the ECN codepoint ``ecn``.

        True: the batch is out of the caller's hands, sent or, as UDP may at any time, lost (:attr:`losses` counts what
        the system said). False: the system takes no more at present; wait until the socket is writable, then call again
        *with the same object*, and sending goes on behind what had already gone. Calling with another drops that rest.

        :raises ValueError: if ``segment_size`` isn't positive.
        :raises OSError: only for what must be our own mistake, such as a closed socket.
        """
        target = for_ipv6(address) if self._ipv6 else address
        if ecn != self._ecn:
            self._mark(ecn)
        if self._rest is None:
            size = len(data)
            try:
                if size <= segment_size:
                    self._sendto(data, target)
                    return True
                if segment_size <= self._segment_limit and size <= MAX_BATCH and size <= segment_size * MAX_SEGMENTS:
                    self._send_segmented(data, segment_size, target)
                    return True
            except BlockingIOError:
                return False
            except OSError:
                # Perhaps the news of an earlier datagram; the careful way tries again, and judges.
                self._errors_pending = True
                self.troubles += 1
        return self._send_carefully(data, segment_size, target)

    def _mark(self, ecn: int) -> None:
        """Let what is sent from now on bear ``ecn``: a socket's setting, as it rarely changes."""
        self._ecn = ecn
        # A dual-stack socket wants both; where there is neither, packets go without, and the peer's counts say so.
        _enable(self._socket, _SOL_IP, _IP_TOS, ecn)
        if self._ipv6:
            _enable(self._socket, _SOL_IPV6, _IPV6_TCLASS, ecn)

    def receive_error(self) -> Address | None:
        """The next destination of ours at which, an ICMP message says, nothing listens; None if no more are known.

        Free when there is nothing to fetch. Anyone who can guess both ports can forge such a message, so it is a hint
        for connections that have not heard from the peer yet, and nothing more. Linux only: elsewhere always None.
        """
        if self._refused:
            return self._refused.pop(0)
        return self._next_refusal() if self._errors_pending and self._report_errors else None

    def _next_refusal(self) -> Address | None:
        for _ in range(_ATTEMPTS):
            try:
                _, control, _, address = self._socket.recvmsg(0, _ERROR_SPACE, _MSG_ERRQUEUE)
            except BlockingIOError:
                self._errors_pending = False
                return None
            except OSError as error:
                self._note(error)
                continue
            if is_refusal(control):
                return canonical(address)
        return None

    def _set_deaf(self, deaf: bool) -> None:
        """While deaf, no ICMP message fails a call: what fails then is this host's own word.

        Anybody who knows one port can send such messages, as fast as the line allows, and each would fail a call.
        Those that wait are lost, refusals excepted.
        """
        if deaf == self._deaf or not self._report_errors:
            return
        self._deaf = deaf
        if deaf:
            while len(self._refused) < _MAX_REFUSED and (refused := self._next_refusal()) is not None:
                self._refused.append(refused)
        _enable_error_queue(self._socket, not deaf)
        if deaf:
            self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # which takes back the one that waits

    def _note(self, error: OSError) -> None:
        """Pass over what the network did, raise what we did."""
        if error.errno not in VERDICTS:
            raise error
        self._errors_pending = True
        self.troubles += 1

    def _send_segmented(self, chunk: bytes | memoryview, segment_size: int, target: tuple[Any, ...]) -> None:
        if segment_size != self._control_size:
            self._control = ((_SOL_UDP, _UDP_SEGMENT, struct.pack("=H", segment_size)),)
            self._control_size = segment_size
        assert self._sendmsg is not None  # segmentation is for Linux, which has it
        self._sendmsg((chunk,), self._control, 0, target)

    def _send_carefully(self, data: bytes, segment_size: int, target: tuple[Any, ...]) -> bool:
        """Go on where the last call stopped, by as many system calls as it takes, and decide what errors mean.

        Each piece is tried once more on an error that may be an earlier datagram's, and from then on the socket is deaf
        to such. A segmented piece that fails is sent unsegmented, and only if *that* works was segmentation to blame,
        and is given up: otherwise one unreachable or forged address would take it from everybody.
        """
        if segment_size < 1:
            raise ValueError(f"segment_size is {segment_size}, expected at least 1")
        try:
            return self._send_pieces(data, segment_size, target)
        finally:
            self._set_deaf(False)

    def _send_pieces(self, data: bytes, segment_size: int, target: tuple[Any, ...]) -> bool:
        if len(data) > MAX_BATCH:
            keep_heap()
        rest, self._rest = self._rest, None
        start = rest[1] if rest is not None and rest[0] is data else 0
        limit = self._segment_limit
        suspect = 0
        retried = -1
        stragglers = 1  # a message may have been on its way through the system when the socket went deaf
        view = memoryview(data)
        while start < len(data):
            segmented = segment_size <= limit and len(data) - start > segment_size
            stop = start + segment_size * (min(MAX_SEGMENTS, MAX_BATCH // segment_size) if segmented else 1)
            try:
                if stop - start > segment_size:
                    self._send_segmented(view[start:stop], segment_size, target)
                else:
                    self._sendto(view[start:stop], target)
            except BlockingIOError:
                self._rest = (data, start)
                return False
            except OSError as error:
                number = error.errno or 0
                self._note(error)
                if VERDICTS[number] is Verdict.RETRY and (retried != start or stragglers):
                    stragglers -= retried == start
                    retried = start
                    self._set_deaf(True)
                    continue
                if stop - start > segment_size and number in SEGMENTATION_ERRNOS:
                    suspect, limit = number, 0
                    continue
                self.losses[number] = self.losses.get(number, 0) + 1
                if number == errno.EMSGSIZE and len(self.too_big) < _MAX_TOO_BIG:
                    refused = (canonical(target), min(segment_size, len(data) - start))
                    if refused not in self.too_big:
                        self.too_big.append(refused)
            else:
                if suspect:
                    self._give_up_segmentation(suspect, segment_size)
                    suspect = 0
            start = stop
        return True

    def _give_up_segmentation(self, number: int, segment_size: int) -> None:
        """``number`` met a batch whose datagrams did leave one by one: no more of it after EIO, else none so large."""
        self._segment_limit = 0 if number == errno.EIO else min(self._segment_limit, segment_size - 1)
        logger.info(
            "segmentation offload failed on %s port %s for datagrams of %d bytes (%s): these are now sent one by one",
            *self.address[:2],
            segment_size,
            errno.errorcode[number],
        )


def _read_with_news(sock: socket.socket, buffer: memoryview) -> tuple[int, list[tuple[int, int, bytes]], int, Any]:
    """One datagram, or as many as UDP_GRO put together, and what the system has to say of it."""
    return sock.recvmsg_into([buffer], _CONTROL_SPACE)


def _read_one(sock: socket.socket, buffer: memoryview) -> tuple[int, list[tuple[int, int, bytes]], int, Any]:
    """One datagram in the shape of ``recvmsg_into``; the buffer is larger than any, so none is cut short."""
    size, address = sock.recvfrom_into(buffer)
    return size, [], 0, address


def _ancillary(control: list[tuple[int, int, bytes]], size: int) -> tuple[int, int]:
    """The datagrams' size that UDP_GRO reports (``size`` if it reports none: a single datagram), and the ECN bits."""
    segment_size, ecn = size, 0
    for level, kind, value in control:
        if level == _SOL_UDP:
            if kind == _UDP_GRO:
                segment_size = int.from_bytes(value[:4], sys.byteorder) or size
        elif kind == (_IP_TOS if level == _SOL_IP else _IPV6_TCLASS):
            ecn = int.from_bytes(value, sys.byteorder) & _ECN_BITS
    return segment_size, ecn


def _bound(host: str, port: int, *, reuse_port: bool, dual_stack: bool) -> socket.socket:
    family, address = resolve_numeric("bind_address", host, port)
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual_stack else 1)
        if reuse_port:
            if not hasattr(socket, "SO_REUSEPORT"):
                raise ConfigurationError("reuse_port is True, expected False: this system can't share a UDP port")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"can't listen on {host} UDP port {port}: {error.strerror}") from error
    except ConfigurationError:
        sock.close()
        raise
    return sock


def _enable(sock: socket.socket, level: int, option: int, value: int = 1) -> bool:
    """Switch one of Linux' options on; False where there is none."""
    if not _LINUX:
        return False
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        return False
    return True


def _enable_error_queue(sock: socket.socket, on: bool = True) -> bool:
    """Without it Linux tells an unconnected socket of no ICMP message. A dual-stack socket wants both."""
    enabled = _enable(sock, _SOL_IP, _IP_RECVERR, on)
    if sock.family == socket.AF_INET6:
        enabled = _enable(sock, _SOL_IPV6, _IPV6_RECVERR, on) or enabled
    return enabled


def _enable_marks(sock: socket.socket) -> bool:
    """Have the ECN bits of what arrives reported."""
    enabled = _enable(sock, _SOL_IP, _IP_RECVTOS)
    if sock.family == socket.AF_INET6:
        enabled = _enable(sock, _SOL_IPV6, _IPV6_RECVTCLASS) or enabled
    return enabled


def _forbid_fragments(sock: socket.socket) -> bool:
    """Set "don't fragment", and leave the finding of a size that fits to us (RFC 8899 section 3)."""
    if sock.family == socket.AF_INET6:
        _enable(sock, _SOL_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)  # for IPv4 peers of a dual-stack socket
        return _enable(sock, _SOL_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
    return _enable(sock, _SOL_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)


def _is_loopback(address: Address) -> bool:
    return address[0].startswith("127.") or address[0] == "::1"


def _grant(sock: socket.socket, option: int, wanted: int | None) -> int:
    return grant_buffer(sock, option, DEFAULT_BUFFER if wanted is None else wanted)
