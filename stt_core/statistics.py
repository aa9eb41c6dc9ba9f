"""What sessions and endpoints have counted and measured of themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from stt_core.channel import Channel


@dataclass(frozen=True, slots=True)
class SessionStatistics:
    """A snapshot. Sizes in bytes (datagrams as sent, without UDP and IP headers), times in seconds."""

    bytes_sent: int
    bytes_received: int
    packets_sent: int
    packets_received: int
    packets_lost: int
    packets_forged: int
    datagrams_dropped: int
    rtt: float
    rtt_variance: float
    rtt_minimum: float
    cwnd: int
    bytes_in_flight: int
    datagram_size: int
    keep_alives_answered: int

    @classmethod
    def of(cls, channel: Channel) -> Self:
        """Read them off a session's channel."""
        rtt = channel.recovery.rtt
        return cls(
            bytes_sent=channel.outbound.bytes_sent,
            bytes_received=channel.bytes_received,
            packets_sent=channel.outbound.packets_sent,
            packets_received=channel.packets_received,
            packets_lost=channel.recovery.packets_lost,
            packets_forged=channel.protection.failed,
            datagrams_dropped=channel.datagrams.dropped,
            rtt=rtt.smoothed,
            rtt_variance=rtt.variance,
            rtt_minimum=rtt.minimum,
            cwnd=channel.recovery.congestion.cwnd,
            bytes_in_flight=channel.recovery.bytes_in_flight,
            datagram_size=channel.datagram_size,
            keep_alives_answered=channel.keep_alive.answered,
        )

    @property
    def loss(self) -> float:
        """The share of sent packets that were declared lost, 0 to 1."""
        return self.packets_lost / self.packets_sent if self.packets_sent else 0.0


@dataclass(slots=True)
class EndpointStatistics:
    """Counters since the endpoint was made. Datagrams unless the name says otherwise."""

    received: int = 0
    sent: int = 0
    malformed: int = 0
    unknown_cid: int = 0
    resets_sent: int = 0
    resets_received: int = 0
    sessions_opened: int = 0
    sessions_refused: int = 0
