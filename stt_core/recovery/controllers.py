"""The congestion controllers there are, by the names that a configuration may give."""

from __future__ import annotations

from stt_core.recovery.congestion import CongestionController
from stt_core.recovery.cubic import Cubic
from stt_core.recovery.newreno import NewReno

_CONTROLLERS: dict[str, type[Cubic | NewReno]] = {"cubic": Cubic, "newreno": NewReno}


def make_controller(name: str, datagram_size: int) -> CongestionController:
    """A fresh controller for a path that carries datagrams of ``datagram_size`` bytes.

    ``name`` is one of :attr:`stt_core.config.EndpointConfig.congestion`.
    """
    return _CONTROLLERS[name](datagram_size)
