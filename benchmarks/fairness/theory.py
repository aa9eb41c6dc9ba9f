"""What published models let a flow have, in datagrams of a window on average."""

from __future__ import annotations

from math import inf, sqrt

from benchmarks.fairness.road import DATAGRAM, Road
from stt_core.frames import DATA_HEADER
from stt_core.outbound import OVERHEAD

BODY = DATAGRAM - OVERHEAD - DATA_HEADER.size
"""Bytes of the application's in a full datagram of STT."""
ACK_DELAY = 0.025


def reno(loss: float, rtt: float) -> float:
    """Padhye, Firoiu, Towsley and Kurose (1998), equation 30, each datagram acknowledged for itself; the timeout is the
    probe timeout of RFC 9002. Without that it would be Mathis' sqrt(3/2 / loss), to which RFC 9438 fits its
    Reno-friendly region.
    """
    if not loss:
        return inf
    timeout = rtt + max(rtt / 8, 0.001) + ACK_DELAY
    silence = timeout * min(1.0, 3 * sqrt(3 * loss / 8)) * loss * (1 + 32 * loss**2)
    return rtt / (rtt * sqrt(2 * loss / 3) + silence)


def cubic(loss: float, rtt: float) -> float:
    """RFC 9438 section 5.1 with the constants it recommends, or what Reno has where that is more (section
    4.3). It is RFC 8312's response function, too, and so that of quinn, which uses the same constants.
    """
    return max(1.054 * (rtt / loss) ** 0.75, reno(loss, rtt)) if loss else inf


def rate(window: float, road: Road) -> float:
    """What so many datagrams a round trip carry of the application's, in Mbit/s; never more than the link does."""
    trip = road.rtt + DATAGRAM / road.rate
    return min(window * BODY / trip * 8 / 1e6, link(road))


def link(road: Road) -> float:
    """What the link carries of the application's, in Mbit/s: what is not lost of all that passes it."""
    return road.mbits * BODY / DATAGRAM * (1 - road.loss)
