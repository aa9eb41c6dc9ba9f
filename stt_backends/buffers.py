"""The system's buffers of a socket: asked for, and what was granted read back."""

from __future__ import annotations

import logging
import socket
import sys
from typing import Final, NamedTuple

from stt_core.errors import ConfigurationError

logger = logging.getLogger("stt.udp")

_LINUX: Final = sys.platform == "linux"
_LIMITS: Final = {socket.SO_RCVBUF: "rmem_max", socket.SO_SNDBUF: "wmem_max"}
"""The settings that bound them on Linux."""

_warned: set[int] = set()


def grant_buffer(sock: socket.socket, option: int, asked: int) -> int:
    """Ask for a buffer (SO_RCVBUF or SO_SNDBUF), take what there is, return what it came to in bytes; say once in the
    log if it is less.

    :raises ConfigurationError: unless 1 to 2^31 - 1 bytes are asked for.
    """
    if not 1 <= asked < 2**31:
        raise ConfigurationError(f"a socket buffer of {asked} bytes was asked for, expected 1 to {2**31 - 1}")
    size = asked
    while size:
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, size)
            break
        except OSError:  # Linux cuts a request down to its limit in silence, BSD and macOS refuse it
            size //= 2
    granted = sock.getsockopt(socket.SOL_SOCKET, option)
    usable = granted // 2 if _LINUX else granted
    if usable < asked and option not in _warned:
        _warned.add(option)
        hint = f" (the limit is the setting net.core.{_LIMITS[option]})" if _LINUX else ""
        logger.warning("asked for a socket buffer of %d bytes, got %d: bursts may be lost%s", asked, usable, hint)
    return granted


class Buffers(NamedTuple):
    """What an application asked for, in bytes; None leaves it to TCP, which fits its buffers to each connection."""

    receive: int | None = None
    send: int | None = None

    def apply(self, sock: socket.socket) -> None:
        """Ask for them; a listening socket hands them down to what it accepts.

        :raises ConfigurationError: as :func:`grant_buffer`.
        """
        if self.receive is not None:
            grant_buffer(sock, socket.SO_RCVBUF, self.receive)
        if self.send is not None:
            grant_buffer(sock, socket.SO_SNDBUF, self.send)


AS_FITS: Final = Buffers()
"""What TCP thinks best."""
