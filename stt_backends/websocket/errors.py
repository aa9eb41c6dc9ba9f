"""What the other end of a connection did wrong, by layer, with what it is told of it."""

from __future__ import annotations

from enum import IntEnum

from stt_core.errors import ErrorCode, Violation


class CloseCode(IntEnum):
    """Status codes of a Close frame that we send (RFC 6455 section 7.4.1)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_PAYLOAD = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009


class FrameViolation(Violation):
    """A frame that breaks RFC 6455 or our limits; the connection ends with ``close_code``."""

    def __init__(self, close_code: int, reason: str) -> None:
        super().__init__(ErrorCode.PROTOCOL_VIOLATION, reason)
        self.close_code = close_code


class UpgradeRefused(Violation):
    """A request that we answer with an HTTP error: ``response`` is that answer, whole."""

    def __init__(self, status: int, phrase: str, reason: str, headers: str = "") -> None:
        super().__init__(ErrorCode.PROTOCOL_VIOLATION, reason)
        self.status = status
        body = f"{reason}\n"
        self.response = (
            f"HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body.encode())}\r\nConnection: close\r\n{headers}\r\n{body}"
        ).encode()


class UpgradeFailed(Violation):
    """The server's answer, or the proxy's, is no way to a WebSocket; ``status`` is its HTTP status, or 0."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(ErrorCode.PROTOCOL_VIOLATION, reason)
        self.status = status


class TlsFailed(Violation):
    """TLS could not be agreed on, or what came is no TLS."""

    def __init__(self, reason: str) -> None:
        super().__init__(ErrorCode.PROTOCOL_VIOLATION, reason)
