"""The chapter's ``CryptoSessionContinuity``, but for the waits: which session a token means, and how to ask for it.

Rule: by a ticket where this process has one that may still be good, so that streams go on; by the seeds alone where it
hasn't, and then as the newest device, which all others give way to.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from typing import Any, Final, Generic, NamedTuple, TypeVar

from stt_backends.adapter.node import BaseNode
from stt_backends.adapter.session import BaseSession
from stt_core.config import check_bytes
from stt_core.errors import CloseReason, ConfigurationError, SessionClosedError, StateError
from stt_core.resumption.continuity import ContinuityContent, ContinuityToken, continuity_id
from stt_core.types import Role

LONGEST: Final = 86400
"""Seconds that a session can be resumed for at most: no ticket and no detached session lasts longer."""

NodeT = TypeVar("NodeT", bound=BaseNode[Any])
SessionT = TypeVar("SessionT", bound=BaseSession[Any, Any])


class Plan(NamedTuple):
    """How to resume: with ``token``, or by the seeds where it is None; not at all where ``afresh``."""

    peer_node_id: bytes
    token: bytes | None
    afresh: bool


class BaseContinuity(Generic[NodeT, SessionT]):
    """Sessions of ``node`` that are named by seeds.

    :param node: a node with a ``node_seed``, by which its peers know it again. The chapter gives its ``stc_wrapper``
        here: what holds the seeds and does the cryptography is the node.
    :param resumption_timeout: seconds for which the tokens made here are good, a day at most.
    :param clock: the time in seconds since 1970.
    :raises ConfigurationError: on a wrong timeout.
    """

    def __init__(
        self, node: NodeT, resumption_timeout: float = LONGEST, *, clock: Callable[[], float] = time.time
    ) -> None:
        if not 1 <= resumption_timeout <= LONGEST:
            raise ConfigurationError(f"resumption_timeout is {resumption_timeout!r}, expected 1 to {LONGEST} seconds")
        self.node = node
        self._lifetime = int(resumption_timeout)
        self._clock = clock
        self._sessions: dict[bytes, SessionT | None] = {}
        """The newest session with each peer that a resumable one was asked for with."""
        node.on_session_established(self._on_established)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.node!r}, {len(self._sessions)} resumable>"

    def create_resumable_session(
        self, peer_node_id: bytes, node_seed: bytes | None = None, shared_seed: bytes | None = None
    ) -> tuple[bytes, ContinuityToken]:
        """The id of our session with that peer, 8 bytes, and a token that resumes it; before connecting, or after.

        Both come from the node's seeds, which need not be given; those that are must be the node's. The id is the same
        on every device with these seeds, and other than a ``session_id``, it stays the same.

        :raises ConfigurationError: on other seeds, or on a node without a ``node_seed``.
        :raises StateError: before the node is started.
        """
        check_bytes("peer_node_id", peer_node_id, 1, 255)
        own = _seed_of(self.node)
        _check_same("node_seed", node_seed, own)
        _check_same("shared_seed", shared_seed, self.node.endpoint.config.shared_seed)
        if peer_node_id not in self._sessions:
            ours = [session for session in self.node.get_active_sessions() if _is_ours(session, peer_node_id)]
            self._sessions[peer_node_id] = ours[-1] if ours else None
        session_id = continuity_id(own, peer_node_id)
        content = ContinuityContent(session_id, peer_node_id, self._clock(), self._lifetime)
        return session_id, content.seal(own)

    def _plan(self, resume_token: bytes, node: NodeT) -> Plan:
        """What ``resume_session`` is to do at ``node``.

        :raises ConfigurationError: if the token is none, or belongs to another seed; ``StateError`` if it is too early.
        """
        content = ContinuityContent.of(resume_token, _seed_of(node))
        peer = content.peer_node_id
        session = self._sessions.get(peer)
        afresh = not content.is_good(self._clock())
        # Who was superseded holds a ticket that another device has made worthless; the seeds are as good as ever.
        if afresh or session is None or _was_superseded(session):
            return Plan(peer, None, afresh)
        token = session.resumption_token
        if token is None and session.alive:
            # By the seeds it would be taken over from ourselves, and its streams would end.
            raise StateError("the session has no ticket yet: the peer gives one a round trip after it was made")
        return Plan(peer, token, afresh=False)

    def _keep(self, plan: Plan, session: SessionT) -> SessionT:
        self._sessions[plan.peer_node_id] = session
        return session

    def _on_established(self, session: SessionT) -> None:
        peer = session.peer_node_id
        if peer in self._sessions and _is_ours(session, peer):
            self._sessions[peer] = session


def _seed_of(node: BaseNode[Any]) -> bytes:
    config = node.endpoint.config
    if config.node_seed is None or not config.keep_identity:
        raise ConfigurationError("a session that is named by seeds takes a node with a node_seed")
    return config.node_seed


def _check_same(name: str, given: bytes | None, own: bytes) -> None:
    if given is not None:
        check_bytes(name, given, 1, 1024, secret=True)
        if not hmac.compare_digest(given, own):
            raise ConfigurationError(f"{name} is another than the node's")


def _is_ours(session: BaseSession[Any, Any], peer_node_id: bytes) -> bool:
    """Whether we made it, so that it is for us to resume."""
    return session.core.role is Role.INITIATOR and session.peer_node_id == peer_node_id


def _was_superseded(session: BaseSession[Any, Any]) -> bool:
    error = session.core.error
    return isinstance(error, SessionClosedError) and error.reason is CloseReason.SUPERSEDED
