"""Packet protection: plaintexts to datagrams and back, by the column, and the key updates in between.

Rule: a call takes a whole batch, and the loop over its packets is one comprehension or one ``map`` per column; nothing
is called once per packet but the AEAD itself. Only an opened packet changes anything here: a forged one is counted.

The packet (docs/protocol.md, "Protected packet") is 13 header bytes, which are the associated data, the ciphertext and
a 16-byte tag. Key updates follow RFC 9001 section 6: the next read key is ready ahead of time, a flipped phase bit
counts only once a packet has opened under it, and the previous read key serves lower packet numbers for three PTO.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Final, NamedTuple, cast

from stt_core.crypto import Crypto
from stt_core.errors import ErrorCode, Violation
from stt_core.keys import CidMask, SessionSecrets, TrafficKeys
from stt_core.packet import KEY_PHASE_BIT, SHORT_FIRST_BYTE, SHORT_HEADER, TAG
from stt_core.types import Role, Suite

_M32: Final = 0xFFFF_FFFF
_HALF: Final = 1 << 31
_NONCE: Final = 12
_FIRST_BYTES: Final = {phase: bytes((SHORT_FIRST_BYTE | phase,)) for phase in (0, KEY_PHASE_BIT)}
_INITIAL_PTO: Final = 1.0
"""Before the first sample: 333 ms and four times half of it (RFC 9002 section 6.2.2)."""


class KeyLimits(NamedTuple):
    """When to move to the next keys, and when to give up.

    At ``packets`` or ``size`` (bytes) sealed under one key, or after ``seconds``, it is time for the next one. Where
    the peer lets none come, ``most`` is what a key may seal: AES-GCM's confidentiality limit of 2^23 packets, less what
    saying so takes. ``forgeries`` is ChaCha20-Poly1305's integrity limit (RFC 9001 section 6.6).
    """

    packets: int = 1 << 22
    size: int = 1 << 35
    seconds: float = 3600.0
    forgeries: int = 1 << 36
    most: int = (1 << 23) - (1 << 10)


_USUAL: Final = KeyLimits()


class _ReadKey:
    """The AEAD of one key phase, bound for reading."""

    __slots__ = ("decrypt", "iv")

    def __init__(self, decrypt: Callable[[bytes, bytes | memoryview, bytes], bytes], iv: int) -> None:
        self.decrypt = decrypt
        self.iv = iv


class Protection:
    """Both directions of one session's packet keys.

    ``next_number`` is the next packet number to seal (raise it by one to skip a number), ``largest_opened`` the largest
    that ever opened (-1 before), ``failed`` the number of packets that did not open. Set ``pto`` (seconds) as the
    round-trip estimate moves. ``spent`` is true once the send key has sealed nearly all it may: the session must close
    with AEAD_LIMIT, for which there is room still. Which packets were seen before is not kept here: a replay opens
    again, see :class:`stt_core.ranges.ReceivedPackets`.
    """

    __slots__ = (
        "_boundary", "_crypto", "_current", "_encrypt", "_invalid_tag", "_iv", "_limits", "_next",
        "_next_keys", "_phase_ends", "_previous", "_previous_largest", "_read_phase", "_sealed",
        "_sealed_bytes", "_send_first", "_send_keys", "_send_phase", "_suite", "_wanted", "confirmed", "failed",
        "largest_opened", "next_number", "previous_until", "pto", "spent",
    )  # fmt: skip

    def __init__(
        self, crypto: Crypto, suite: Suite, secrets: SessionSecrets, role: Role, limits: KeyLimits | None = None
    ) -> None:
        self._crypto = crypto
        self._suite = suite
        self._limits = _USUAL if limits is None else limits
        self._invalid_tag = crypto.invalid_tag
        self.next_number = 0
        self.largest_opened = -1
        self.failed = 0
        self.pto = _INITIAL_PTO

        self._send_phase = 0
        self.confirmed = False
        """Whether the peer has acknowledged a packet under the current send keys."""
        self._use_send_keys(secrets.traffic(role))
        self._phase_ends = -inf  # known once there is a time: at the first seal
        self._wanted = False

        read_keys = secrets.traffic(role.other)
        self._read_phase = 0
        self._current = self._read_key(read_keys)
        self._next_keys = read_keys.updated()
        # The next AEAD is bound when a flipped phase is first seen: it costs memory in sessions that never update.
        self._next: _ReadKey | None = None
        self._previous: _ReadKey | None = None
        self.previous_until = inf
        """When the previous read key is due to go, monotonic seconds; infinite where there is none."""
        self._previous_largest = -1
        self._boundary = 0

    def __repr__(self) -> str:
        return f"<Protection next={self.next_number} largest={self.largest_opened} phase={self._send_phase}>"

    @property
    def exhausted(self) -> bool:
        """Whether so many packets failed to open that the session must close with AEAD_LIMIT."""
        return self.failed >= self._limits.forgeries

    @property
    def phase(self) -> int:
        """How many times the send keys have been updated."""
        return self._send_phase

    # --- sending

    def seal(self, plains: Sequence[bytes], cid: CidMask, now: float) -> bytes:
        """Seal ``plains`` under the numbers from ``next_number`` on; the datagrams come back to back.

        Each datagram is 29 bytes longer than its plaintext. ``cid`` is the mask of the cid they are addressed to.
        """
        count = len(plains)
        if count == 1:
            return self.seal_one(plains[0], cid, now)
        limits = self._limits
        if now >= self._phase_ends or self._sealed >= limits.packets or self._sealed_bytes >= limits.size:
            self._consider_update(now)
        first = self.next_number
        iv = self._iv
        flip = (self._send_phase & 1) ^ cid.phase
        prefix = ((SHORT_FIRST_BYTE | flip * KEY_PHASE_BIT) << 64 | int.from_bytes(cid.cid, "big")) << 32
        wire = (first + cid.mask) & _M32
        if wire + count <= _M32:
            heads = [n.to_bytes(SHORT_HEADER, "big") for n in range(prefix + wire, prefix + wire + count)]
        else:  # the 32 bits on the wire wrap inside this batch
            wires = range(wire, wire + count)
            heads = [(prefix + (n & _M32)).to_bytes(SHORT_HEADER, "big") for n in wires]
        nonces = [(iv ^ number).to_bytes(_NONCE, "big") for number in range(first, first + count)]
        parts = [b""] * (2 * count)
        parts[::2] = heads
        parts[1::2] = map(self._encrypt, nonces, plains, heads)
        data = b"".join(parts)
        self.next_number = first + count
        self._sealed += count
        self._sealed_bytes += len(data)
        return data

    def seal_one(self, plain: bytes, cid: CidMask, now: float) -> bytes:
        """:meth:`seal` of a single packet, without the columns."""
        limits = self._limits
        if now >= self._phase_ends or self._sealed >= limits.packets or self._sealed_bytes >= limits.size:
            self._consider_update(now)
        number = self.next_number
        phase = KEY_PHASE_BIT if (self._send_phase & 1) ^ cid.phase else 0
        head = _FIRST_BYTES[phase] + cid.cid + ((number + cid.mask) & _M32).to_bytes(4, "big")
        data = head + self._encrypt((self._iv ^ number).to_bytes(_NONCE, "big"), plain, head)
        self.next_number = number + 1
        self._sealed += 1
        self._sealed_bytes += len(data)
        return data

    def on_acked(self, largest_acked: int, now: float) -> None:
        """The peer acknowledged our packet ``largest_acked``: the current send keys may be confirmed by it.

        :raises Violation: KEY_UPDATE, where the peer acknowledges packets under our new keys while it still sends
            under its old ones (RFC 9001 section 6.2).
        """
        if self.confirmed or largest_acked < self._send_first:
            return
        if self._read_phase < self._send_phase:
            raise Violation(ErrorCode.KEY_UPDATE, "the peer acknowledged new keys under its old ones")
        self.confirmed = True

    def update_keys(self, now: float) -> None:
        """Move to the next send keys as soon as the protocol allows, at once where it does.

        Two updates may not follow each other before the first is acknowledged and its old keys are gone
        (RFC 9001 sections 6.1 and 6.5).
        """
        self._wanted = True
        self._consider_update(now)

    def _consider_update(self, now: float) -> None:
        limits = self._limits
        if self._phase_ends == -inf:
            self._phase_ends = now + limits.seconds
        due = now >= self._phase_ends or self._sealed >= limits.packets or self._sealed_bytes >= limits.size
        self._discard_previous(now)
        if (due or self._wanted) and self.confirmed and self._previous is None:
            self._update_send_keys(now)
        elif self._wanted:
            self._phase_ends = min(self._phase_ends, now)  # ask again at every seal
        self.spent = self._sealed >= limits.most

    def _update_send_keys(self, now: float) -> None:
        self._send_phase += 1
        self._wanted = False
        self._use_send_keys(self._send_keys.updated())
        self._phase_ends = now + self._limits.seconds

    def _use_send_keys(self, keys: TrafficKeys) -> None:
        self._send_keys = keys
        self._encrypt = self._crypto.aead(self._suite, keys.key).encrypt
        self._iv = keys.iv
        self._send_first = self.next_number
        self.confirmed = False
        self._sealed = 0
        self._sealed_bytes = 0
        self.spent = False

    # --- receiving

    def open(
        self,
        first_byte: int,
        wires: Sequence[int],
        aads: Sequence[bytes],
        ciphertexts: Sequence[bytes | memoryview],
        cid: CidMask,
        now: float,
    ) -> tuple[Sequence[int], list[bytes]]:
        """Open packets that share their first byte and cid: ``(packet numbers, plaintexts)`` of those that are genuine.

        The columns are as long as each other: the 32-bit numbers on the wire, the 13-byte headers, the ciphertexts with
        their tags. The order is kept, forgeries are left out and counted.

        :raises Violation: KEY_UPDATE, where genuine packets break the rules of key updates.
        """
        base = self.largest_opened + 1 - _HALF
        shift = cid.mask + base
        numbers: Sequence[int]
        first = wires[0]
        if wires[-1] - first == len(wires) - 1 and wires == tuple(range(first, first + len(wires))):
            number = base + ((first - shift) & _M32)
            numbers = range(number, number + len(wires))
        else:
            numbers = [base + ((wire - shift) & _M32) for wire in wires]
        if first_byte & ~KEY_PHASE_BIT != SHORT_FIRST_BYTE:
            self.failed += len(numbers)
            return [], []
        flip = bool(first_byte & KEY_PHASE_BIT) ^ cid.phase
        if flip == self._read_phase & 1:
            return self._open_current(numbers, aads, ciphertexts)
        return self._open_flipped(numbers, aads, ciphertexts, now)

    def open_one(self, datagram: bytes | memoryview, cid: CidMask, now: float) -> tuple[int, bytes] | None:
        """Open a single packet: ``(packet number, plaintext)``, or None for a forgery, which is counted.

        :raises Violation: as :meth:`open`.
        """
        if len(datagram) < SHORT_HEADER + TAG:
            self.failed += 1
            return None
        first_byte = datagram[0]
        aad = bytes(datagram[:SHORT_HEADER])
        ciphertext = datagram[SHORT_HEADER:]
        wire = int.from_bytes(aad[9:], "big")
        base = self.largest_opened + 1 - _HALF
        number = base + ((wire - cid.mask - base) & _M32)
        flip = (self._read_phase & 1) ^ cid.phase
        if first_byte != SHORT_FIRST_BYTE | flip * KEY_PHASE_BIT or number < 0 or self._previous is not None:
            numbers, plains = self.open(first_byte, (wire,), (aad,), (ciphertext,), cid, now)
            return (numbers[0], plains[0]) if plains else None
        # What nearly every single packet is, without the columns.
        key = self._current
        try:
            plain = key.decrypt((key.iv ^ number).to_bytes(_NONCE, "big"), ciphertext, aad)
        except self._invalid_tag:
            self.failed += 1
            return None
        if number > self.largest_opened:  # noqa: PLR1730 - once a packet
            self.largest_opened = number
        return number, plain

    def _open_current(
        self, numbers: Sequence[int], aads: Sequence[bytes], ciphertexts: Sequence[bytes | memoryview]
    ) -> tuple[Sequence[int], list[bytes]]:
        iv = self._current.iv
        try:
            nonces = [(iv ^ number).to_bytes(_NONCE, "big") for number in numbers]
        except OverflowError:
            return self._without_negative(numbers, aads, ciphertexts)
        plains: list[bytes | None] = []
        opened = map(self._current.decrypt, nonces, ciphertexts, aads)
        extend = plains.extend  # the list's own: mypyc's, which plains.extend(…) becomes, keeps nothing when it fails
        forged = 0
        while True:
            try:
                extend(opened)
                break
            except self._invalid_tag:  # extend() keeps what came before, and the map goes on after
                plains.append(None)
                forged += 1
        if forged:
            self.failed += forged
            numbers = [number for number, plain in zip(numbers, plains, strict=True) if plain is not None]
            genuine = [plain for plain in plains if plain is not None]
        else:
            genuine = cast("list[bytes]", plains)
        if numbers:
            if self._previous is not None:
                self._lower_boundary(min(numbers))
            highest = numbers[-1] if type(numbers) is range else max(numbers)
            self.largest_opened = max(self.largest_opened, highest)
        return numbers, genuine

    def _without_negative(
        self, numbers: Sequence[int], aads: Sequence[bytes], ciphertexts: Sequence[bytes | memoryview]
    ) -> tuple[Sequence[int], list[bytes]]:
        """No packet below 0 was ever sent: only a forger's header decodes to one."""
        kept = [i for i, number in enumerate(numbers) if number >= 0]
        self.failed += len(numbers) - len(kept)
        return self._open_current([numbers[i] for i in kept], [aads[i] for i in kept], [ciphertexts[i] for i in kept])

    def _open_flipped(
        self, numbers: Sequence[int], aads: Sequence[bytes], ciphertexts: Sequence[bytes | memoryview], now: float
    ) -> tuple[Sequence[int], list[bytes]]:
        """The phase bit is not the current one: late packets of the phase before, a key update, or forgeries."""
        self._discard_previous(now)
        opened: list[int] = []
        plains: list[bytes] = []
        for i, number in enumerate(numbers):
            if number < self._boundary:
                plain = self._try(self._previous, number, aads[i], ciphertexts[i])
                if plain is not None:
                    self._previous_largest = max(self._previous_largest, number)
            else:
                plain = self._try_update(number, aads[i], ciphertexts[i], now)
            if plain is None:
                self.failed += 1
                continue
            opened.append(number)
            plains.append(plain)
            if number >= self._boundary:  # updated: this phase is now the current one for the rest of the batch
                rest, more = self._open_current(numbers[i + 1 :], aads[i + 1 :], ciphertexts[i + 1 :])
                return [*opened, *rest], plains + more
        return opened, plains

    def _try(self, key: _ReadKey | None, number: int, aad: bytes, ciphertext: bytes | memoryview) -> bytes | None:
        if key is None or number < 0:
            return None
        try:
            return key.decrypt((key.iv ^ number).to_bytes(_NONCE, "big"), ciphertext, aad)
        except self._invalid_tag:
            return None

    def _try_update(self, number: int, aad: bytes, ciphertext: bytes | memoryview, now: float) -> bytes | None:
        if self._next is None:
            self._next = self._read_key(self._next_keys)
        plain = self._try(self._next, number, aad, ciphertext)
        if plain is not None:
            self._commit_update(number, now)
        elif self._try(self._previous, number, aad, ciphertext) is not None:
            raise Violation(ErrorCode.KEY_UPDATE, "old keys under a number above that of newer ones")
        return plain

    def _commit_update(self, number: int, now: float) -> None:
        """A packet opened under the next keys: the peer has updated, and so do we, before we send anything more."""
        if number <= self.largest_opened:
            raise Violation(ErrorCode.KEY_UPDATE, "new keys under a number below that of older ones")
        if self._send_phase == self._read_phase and not self._sealed:
            raise Violation(ErrorCode.KEY_UPDATE, "a key update before the last one was acknowledged")
        self._previous = self._current
        self.previous_until = now + 3 * self.pto
        self._previous_largest = self.largest_opened
        self._boundary = number
        self._current = self._next if self._next is not None else self._read_key(self._next_keys)
        self._next_keys = self._next_keys.updated()
        self._next = None
        self._read_phase += 1
        self.largest_opened = number
        if self._send_phase < self._read_phase:
            self._update_send_keys(now)

    def _lower_boundary(self, number: int) -> None:
        """A packet of the current phase opened: numbers from it on can't belong to the phase before."""
        if number < self._boundary:
            if number < self._previous_largest:
                raise Violation(ErrorCode.KEY_UPDATE, "new keys under a number below that of older ones")
            self._boundary = number

    def _read_key(self, keys: TrafficKeys) -> _ReadKey:
        return _ReadKey(self._crypto.aead(self._suite, keys.key).decrypt, keys.iv)

    # --- time

    def handle_timer(self, now: float) -> None:
        """Let go of the previous read key, if its three PTO are over."""
        self._discard_previous(now)

    def _discard_previous(self, now: float) -> None:
        if self._previous is not None and now >= self.previous_until:
            self._previous = None
            self.previous_until = inf
