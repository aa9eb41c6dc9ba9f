"""Frames to datagrams and back: one binary message is one datagram.

Rule: a frame is judged by its header, before anything of it is kept (RFC 6455 section 5.2). The one kind that carries
all the weight, a binary message in one frame, is read and written here, as wsproto takes several times as long for it;
every other kind, control frames and fragments, goes to wsproto, whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from struct import Struct
from typing import Final

from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from stt_backends.websocket.errors import CloseCode, FrameViolation
from stt_backends.websocket.masking import masker
from stt_core.config import MAX_DATAGRAM

MAX_FRAME: Final = 14 + MAX_DATAGRAM
"""Bytes of the largest frame: its header is 2 to 14 bytes."""
MAX_ASIDES: Final = 1024
"""Frames other than whole datagrams between two datagrams, before they count as a flood."""

_BINARY: Final = 0x82
"""FIN and the opcode of a binary message: all of it in this frame, no extension (RFC 6455 section 5.2)."""
_OPCODE: Final = 0x0F
_CONTROL: Final = 0x08
_TEXT: Final = 0x01
_MASKED: Final = 0x80
_SHORT: Final = 125
"""Lengths up to here stand in the second byte; 126 and 127 there announce two and eight more."""
_KEYS_AT_ONCE: Final = 64
_COPIED: Final = 4096
"""Bytes up to which a payload is copied behind its header, so that the system is given one piece."""

Datagram = bytes | bytearray | memoryview

_TINY_HEAD = Struct(">BB")
_HEAD = Struct(">BBH")
_LONG_HEAD = Struct(">BBQ")


class Framing:
    """One connection's frames, after the upgrade.

    ``client`` tells which side this is: a client masks what it sends, and a server must not. ``entropy`` gives the
    masking keys, which nobody may foresee: else a hostile application chose what is on the wire (section 10.3).
    """

    __slots__ = (
        "_asides", "_client", "_entropy", "_fragments", "_keys", "_mask", "_pong", "_rare", "closed_by_peer", "rest",
    )  # fmt: skip

    def __init__(self, *, client: bool, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._client = client
        self._entropy = entropy
        self._keys = b""
        self._mask = masker()
        self._rare = FrameProtocol(client, [])
        self._fragments: bytearray | None = None
        self._pong: bytes | None = None
        self._asides = 0
        self.closed_by_peer: tuple[int, str] | None = None
        """The code and reason of the peer's Close frame, once it has come; nothing after it counts."""
        self.rest = b""
        """The beginning of a frame that is not whole yet, less than :data:`MAX_FRAME` bytes."""

    # --- what leaves

    def encode(self, datagram: bytes) -> tuple[bytes | bytearray, ...]:
        """A datagram as a message: the frame's header and its payload, small ones in one piece."""
        size = len(datagram)
        masks = _MASKED if self._client else 0
        if size <= _SHORT:
            head = _TINY_HEAD.pack(_BINARY, masks | size)
        elif size < 1 << 16:
            head = _HEAD.pack(_BINARY, masks | 126, size)
        else:
            head = _LONG_HEAD.pack(_BINARY, masks | 127, size)
        if not masks:
            return (head + datagram,) if size <= _COPIED else (head, datagram)
        key = self._next_key()
        head += key
        payload = self._mask(datagram, key)
        return (head + payload,) if size <= _COPIED else (head, payload)

    def _next_key(self) -> bytes:
        keys = self._keys or self._entropy(4 * _KEYS_AT_ONCE)
        self._keys = keys[4:]
        return keys[:4]

    def close(self, code: int, reason: str = "") -> bytes:
        """A Close frame; a long reason is cut."""
        return bytes(self._rare.close(code, reason))

    def take_pong(self) -> bytes | None:
        """The answer to the newest Ping not answered yet: answering that one is enough (section 5.5.3)."""
        payload, self._pong = self._pong, None
        return None if payload is None else bytes(self._rare.pong(payload))

    # --- what arrives

    def receive_untrusted(self, buffer: bytearray, size: int, found: list[Datagram]) -> None:
        """Add the datagrams in the first ``size`` bytes of ``buffer`` to ``found``: :attr:`rest` and what was read
        behind it. Each is valid until ``buffer`` is written to again; what was not whole yet is the new :attr:`rest`.

        :raises Violation: a :class:`~stt_backends.websocket.errors.FrameViolation`, after the datagrams before it.
        """
        view = memoryview(buffer)
        start = 0
        while self.closed_by_peer is None and size - start >= 2:
            first = buffer[start]
            body, length = self._judge_untrusted(first, buffer, start, size)
            end = body + length
            if not body or end > size:
                break
            if first != _BINARY or self._fragments is not None:
                whole = self._rare_frame_untrusted(bytes(view[start:end]), first)
                if whole is not None:
                    found.append(whole)
            else:
                self._asides = 0
                payload = view[body:end]
                found.append(payload if self._client else self._mask(payload, buffer[body - 4 : body]))
            start = end
        self.rest = b"" if start == size or self.closed_by_peer is not None else bytes(view[start:size])

    def _judge_untrusted(self, first: int, buffer: bytearray, start: int, size: int) -> tuple[int, int]:
        """Where the payload of the frame at ``start`` begins, or 0 if its header isn't whole, and its length."""
        second = buffer[start + 1]
        if (second >= _MASKED) == self._client:
            wrong = "is masked, and servers may not" if self._client else "isn't masked, and clients must"
            raise FrameViolation(CloseCode.PROTOCOL_ERROR, f"a frame {wrong}")
        if first & _OPCODE == _TEXT:
            raise FrameViolation(CloseCode.UNSUPPORTED_DATA, "a text message, expected binary ones")
        length = second & ~_MASKED
        body = start + 2
        if length > _SHORT:
            if first & _CONTROL:
                raise FrameViolation(CloseCode.PROTOCOL_ERROR, "a control frame above 125 bytes")
            least, body = (_SHORT + 1, start + 4) if length == 126 else (1 << 16, start + 10)
            if body > size:
                return 0, 0
            length = int.from_bytes(buffer[start + 2 : body], "big")
            if length < least:
                raise FrameViolation(CloseCode.PROTOCOL_ERROR, "a length in more bytes than it takes")
        if length > MAX_DATAGRAM:
            raise FrameViolation(
                CloseCode.MESSAGE_TOO_BIG, f"a frame of {length} bytes, expected {MAX_DATAGRAM} at most"
            )
        return body + (0 if self._client else 4), length

    def _rare_frame_untrusted(self, frame: bytes, first: int) -> bytearray | None:
        """Anything but a binary message in one frame; returns the message it completes, if it does."""
        self._asides += 1
        if self._asides > MAX_ASIDES:
            raise FrameViolation(CloseCode.POLICY_VIOLATION, f"{MAX_ASIDES} frames and no datagram among them")
        self._rare.receive_bytes(frame)
        message = None
        try:
            for piece in self._rare.received_frames():
                if piece.opcode is Opcode.PING:
                    assert isinstance(piece.payload, bytes)
                    self._pong = piece.payload
                elif piece.opcode is Opcode.CLOSE:
                    assert isinstance(piece.payload, tuple)
                    self.closed_by_peer = (int(piece.payload[0]), piece.payload[1])
                elif piece.opcode is Opcode.BINARY:
                    assert isinstance(piece.payload, bytes)
                    message = self._add_fragment(piece.payload, last=piece.message_finished)
        except ParseFailed as error:
            raise FrameViolation(int(error.code), str(error)) from error
        return message

    def _add_fragment(self, payload: bytes, *, last: bool) -> bytearray | None:
        fragments = bytearray() if self._fragments is None else self._fragments
        if len(fragments) + len(payload) > MAX_DATAGRAM:
            raise FrameViolation(CloseCode.MESSAGE_TOO_BIG, f"a message above {MAX_DATAGRAM} bytes")
        fragments += payload
        self._fragments = None if last else fragments
        if not last:
            return None
        self._asides = 0
        return fragments
