"""What stands in for a UDP socket where a node has none: nothing arrives, and what is sent is lost."""

from __future__ import annotations

from typing import Any, NoReturn

from stt_backends.udp_address import Address
from stt_core.errors import ConfigurationError


class AbsentSocket:
    """Has what a :class:`~stt_backends.driver.Driver` uses of a :class:`~stt_backends.udp.UdpSocket`.

    ``address`` is where the node listens by other means.
    """

    receive_buffer = 212_992
    dont_fragment = True
    holding = drained = False
    reads = 0
    troubles = 0

    def __init__(self, address: Address) -> None:
        self.address = address
        self.too_big: list[tuple[Address, int]] = []

    def fileno(self) -> int:
        """No descriptor: -1."""
        return -1

    def canonical(self, address: tuple[Any, ...]) -> NoReturn:
        """Nobody is reached this way.

        :raises ConfigurationError: always.
        """
        raise ConfigurationError(
            f"the address is {address!r}, expected a URL such as ws://{address[0]}:{address[1]}/: "
            "this node has no UDP socket (its transport is 'websocket')"
        )

    def receive(self, most: int = 1) -> None:
        """Nothing waits."""

    def receive_error(self) -> None:
        """Nothing was refused."""

    def send(self, data: bytes, segment_size: int, address: Any, ecn: int = 0) -> bool:
        """Lose it."""
        return True

    def close(self) -> None:
        """There is nothing to close."""
