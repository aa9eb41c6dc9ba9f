"""Which ``errno`` of a UDP socket means what.

Rule: the network and other processes can cause most of these, so none of those may end a node. UDP may lose any
datagram at any time, therefore "it was lost" is always a truthful answer, and the sender's loss recovery does the
rest. Only an error that must be our own mistake (a closed descriptor, a wrong type) is raised.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from enum import Enum


class Verdict(Enum):
    """What to do about a failed system call."""

    WAIT = "wait"
    """Nothing can be moved now; wait until the socket is ready."""
    RETRY = "retry"
    """May be the belated news of an earlier datagram, which the call delivered *instead of* doing its work: with
    IP_RECVERR (and always on Windows, as error 10054) an ICMP message fails the next call, whomever that is for. Try
    again once; the second time it is about this datagram, and that is lost."""
    LOST = "lost"
    """This datagram is gone; count it and go on."""


_TABLE = {
    Verdict.WAIT: ("EAGAIN", "EWOULDBLOCK"),
    Verdict.RETRY: (
        "ECONNREFUSED",  # ICMP port unreachable
        "ECONNRESET",  # Windows' word for the same (10054)
        "ENETRESET",  # Windows: ICMP time exceeded (10052)
        "EHOSTUNREACH",  # ICMP, or our own routing table
        "ENETUNREACH",
        "EHOSTDOWN",
        "ENONET",
        "EMSGSIZE",  # ICMP "fragmentation needed", or this datagram is larger than the interface takes
        "EPROTO",  # ICMP parameter problem
        "ENOPROTOOPT",  # ICMP protocol unreachable
        "EOPNOTSUPP",
        "EACCES",  # ICMPv6 "administratively prohibited", or a broadcast address
    ),
    Verdict.LOST: (
        "ENOBUFS",  # the interface's queue is full: macOS and BSD; Linux with IP_RECVERR
        "ENOMEM",
        "EPERM",  # a packet filter said no
        "ENETDOWN",
        "EADDRNOTAVAIL",  # our address went away
        "EAFNOSUPPORT",  # an IPv6 destination on a host without IPv6
        "EINVAL",  # port 0, a source that can't reach that network: a forged source address leads here
        "EIO",
    ),
}

VERDICTS: dict[int, Verdict] = {
    number: verdict
    for verdict, names in _TABLE.items()
    for name in names
    if (number := getattr(errno, name, None)) is not None  # not every system has all of them
}
"""From ``errno`` to verdict; an errno that isn't here is our own mistake and is raised."""

SEGMENTATION_ERRNOS = frozenset({errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.EOPNOTSUPP})
"""What a segmented send fails with when the route or the driver can't do it: EIO (no checksum offload, IPsec),
EINVAL or, from Linux 6.14 on, EMSGSIZE (a segment larger than the MTU). Each has other causes, too."""

_REFUSALS = frozenset({errno.ECONNREFUSED, errno.ENOPROTOOPT})
_ICMP_ORIGINS = frozenset({2, 3})  # SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6
_EXTENDED_ERROR = struct.Struct("=IB")  # the head of struct sock_extended_err: errno, origin (linux/errqueue.h)


def is_refusal(ancillary: Iterable[tuple[int, int, bytes]]) -> bool:
    """Whether a message of the error queue says that nothing listens at its destination.

    Others (no route, time exceeded, our own EMSGSIZE) may pass with time and say nothing about the peer.

    :param ancillary: as ``socket.recvmsg(…, MSG_ERRQUEUE)`` returns it: (level, type, data).
    """
    for _level, _kind, data in ancillary:
        if len(data) >= _EXTENDED_ERROR.size:
            number, origin = _EXTENDED_ERROR.unpack_from(data)
            if origin in _ICMP_ORIGINS and number in _REFUSALS:
                return True
    return False
