"""A node's ``connect`` and ``resume``: from the addresses of a name to a session, or to the reason why there is none.

Rule: the core makes one session with one address. Here is decided which addresses are tried and when, and that exactly
one session comes of it: what the others lead to is closed, and nobody hears of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from stt_backends.adapter.connecting import Connecting, Destination
from stt_backends.adapter.opening import Opening
from stt_backends.adapter.racing import ATTEMPT_DELAY, Found, interleaved
from stt_backends.driver import Driver
from stt_backends.websocket.link import Link
from stt_core.config import check_seconds
from stt_core.errors import (
    ConfigurationError,
    ConnectError,
    ConnectionRefusedError,
    ConnectionTimeoutError,
    SessionClosedError,
    STTError,
)
from stt_core.types import SessionKey

if TYPE_CHECKING:
    from stt_backends.adapter.calling import BaseCaller
    from stt_backends.adapter.session import BaseSession

SessionT = TypeVar("SessionT", bound="BaseSession[Any, Any]")

_ELSEWHERE = (ConnectionRefusedError, ConnectionTimeoutError)
"""What may be otherwise at another address of the same name; a wrong seed is not."""


class Dialer(Generic[SessionT]):
    """All that a node has under way."""

    def __init__(self, node: BaseCaller[Any]) -> None:
        self.attempt_delay = ATTEMPT_DELAY
        self._node = node
        self._all: set[Connecting[SessionT]] = set()
        self._by_key: dict[SessionKey, Connecting[SessionT]] = {}
        self._spare: set[SessionKey] = set()
        """Handshakes that another address was faster than, and that are not over yet."""

    # --- beginning

    def connect(
        self,
        driver: Driver,
        destination: Destination,
        found: Found,
        peer_node_id: bytes | None,
        peer_key: bytes | None,
        timeout: float | None,
    ) -> Connecting[SessionT]:
        """Ask for a session with the node at any of the addresses found; :meth:`end` must follow."""
        begin = partial(driver.endpoint.connect, peer_node_id=peer_node_id, peer_key=peer_key)
        return self._begin(driver, begin, destination, found, timeout)

    def resume(
        self,
        driver: Driver,
        token: bytes | None,
        destination: Destination,
        found: Found,
        peer_node_id: bytes | None,
        peer_key: bytes | None,
        timeout: float | None,
        *,
        takeover: bool,
    ) -> Connecting[SessionT]:
        """Ask the node at the first of the addresses found to go on; :meth:`end` must follow.

        By UDP no other is tried: a token is good for one attempt.
        """
        resume = driver.endpoint.resume
        begin = partial(resume, token, peer_node_id=peer_node_id, peer_key=peer_key, takeover=takeover)
        return self._begin(driver, begin, destination, found, timeout, most=1)

    def _begin(
        self,
        driver: Driver,
        begin: Callable[..., SessionKey],
        destination: Destination,
        found: Found,
        timeout: float | None,
        most: int | None = None,
    ) -> Connecting[SessionT]:
        if self._node.stopping:
            raise self._node.stopped_error()
        addresses = [] if destination.url else self._reachable(destination.host, found)[:most]
        seconds = driver.endpoint.config.handshake_timeout if timeout is None else timeout
        check_seconds("timeout", seconds)
        connecting: Connecting[SessionT] = Connecting(
            self._node.make_parking_lot(), driver, begin, driver.clock() + seconds, addresses
        )
        self._all.add(connecting)
        try:
            if destination.url is None:
                self._try_next(connecting)
            else:
                opened = partial(self._on_opened, connecting)
                connecting.targets = destination.targets(found)
                connecting.opening = Opening(
                    driver, connecting.targets, connecting.deadline, opened, self.attempt_delay
                )
                connecting.opening.begin()
                self._node.wake_pump()
        except BaseException:
            self.end(connecting)
            raise
        return connecting

    def _reachable(self, host: str, found: Found) -> list[tuple[Any, ...]]:
        """Those of the addresses found that the UDP socket's family reaches, as it knows them.

        :raises ConfigurationError: if there are none but others.
        :raises ConnectError: if there are none.
        """
        reachable: list[tuple[Any, ...]] = []
        refusal: STTError = ConnectError(f"can't resolve {host!r}: there is no address")
        for _, address in interleaved(found):
            try:
                reachable.append(self._node.socket.canonical(address))
            except ConfigurationError as error:
                refusal = error
        if not reachable:
            raise refusal
        return reachable

    def _try_next(self, connecting: Connecting[SessionT]) -> None:
        """Begin a handshake with the next address, unless one that was begun is being answered.

        :raises STTError: if it can't be begun.
        """
        driver = connecting.driver
        connecting.call_off()
        answered = any(driver.endpoint.session(key).challenged for key in connecting.keys)
        address = None if answered else connecting.addresses.popleft()
        if connecting.addresses:
            connecting.alarm = driver.hub.call_at(
                driver.clock() + self.attempt_delay, partial(self._try_another, connecting)
            )
        if address is not None:
            self._begin_handshake(connecting, address, "udp")

    def _try_another(self, connecting: Connecting[SessionT]) -> None:
        try:
            self._try_next(connecting)
        except STTError as error:
            self._fail(connecting, error)

    def _begin_handshake(self, connecting: Connecting[SessionT], address: tuple[Any, ...], transport: str) -> None:
        now = connecting.driver.clock()
        timeout = max(connecting.deadline - now, 0.001)
        with self._node.errors.translated:
            key = connecting.begin(address, now=now, transport=transport, timeout=timeout)
        connecting.keys[key] = address
        self._by_key[key] = connecting
        self._node.kick()

    def _on_opened(self, connecting: Connecting[SessionT], link: Link) -> None:
        if link.failure is not None:
            connecting.fail(link.failure)
        elif not (connecting.done or self._node.stopping):
            connecting.opening = None
            assert isinstance(link.path.address, tuple)
            try:
                self._begin_handshake(connecting, link.path.address, "websocket")
            except STTError as error:
                connecting.fail(error)
                connecting.driver.hub.abandon(link)

    # --- what the core says

    def is_spare(self, key: SessionKey) -> bool:
        """Whether this session, which was just made, is one too many."""
        spare = key in self._spare
        self._spare.discard(key)
        return spare

    def on_made(self, key: SessionKey, session: SessionT) -> None:
        """A handshake led to a session, or an earlier one goes on by it."""
        connecting = self._by_key.get(key)
        if connecting is None:
            return
        targets = connecting.targets or self._node.beside(connecting.keys[key])
        if targets:
            session.detour(connecting.driver).targets = targets
        connecting.succeed(session, key)
        connecting.call_off()
        for other in connecting.keys.keys() - {key}:
            self._drop(connecting, other)

    def on_failed(self, key: SessionKey, error: STTError) -> None:
        """A handshake failed."""
        self._spare.discard(key)
        connecting = self._by_key.pop(key, None)
        if connecting is None:
            return
        connecting.keys.pop(key, None)
        self._fail(connecting, error)

    def _fail(self, connecting: Connecting[SessionT], error: STTError) -> None:
        """One of the ways is closed; with a wrong seed all are."""
        if connecting.done:
            return
        if isinstance(error, _ELSEWHERE):
            if connecting.addresses and connecting.deadline > connecting.driver.clock():
                self._try_another(connecting)
                return
            if connecting.keys:
                return
        connecting.call_off()
        connecting.fail(error)
        for key in list(connecting.keys):
            self._drop(connecting, key)

    def _drop(self, connecting: Connecting[SessionT], key: SessionKey) -> None:
        connecting.keys.pop(key, None)
        self._by_key.pop(key, None)
        self._spare.add(key)
        connecting.driver.endpoint.session(key).close()
        self._node.kick()

    # --- the end

    def give_up(self, connecting: Connecting[SessionT]) -> None:
        """Nobody wants this session any more, whether or not it has been made in the meantime. One that was there
        before stays."""
        endpoint = connecting.driver.endpoint
        if connecting.session is not None:
            if connecting.session.core.key == connecting.key:
                connecting.session.core.close()
        elif connecting.failure is None:
            for key in connecting.keys:
                endpoint.session(key).close()
            if connecting.opening is not None:
                connecting.opening.abandon()
        self._node.kick()

    def end(self, connecting: Connecting[SessionT]) -> None:
        """Nobody waits for it any more."""
        connecting.call_off()
        self._all.discard(connecting)
        for key in connecting.keys:
            self._by_key.pop(key, None)

    def fail_all(self) -> None:
        """The node stops."""
        for connecting in list(self._all):
            connecting.call_off()
            if connecting.opening is not None:
                connecting.opening.abandon()
            connecting.fail(SessionClosedError("the node was stopped"))
