"""Which sessions an endpoint has, and what is kept in tables for each: routes, timers, what it shares with others.

Rule: no call scans all sessions. What is noted of a session when it is made, or given keys, is taken out when it is
over, in one place.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from stt_core.agenda import Agenda
from stt_core.budget import RemoteBudget
from stt_core.config import EndpointConfig
from stt_core.context import Context
from stt_core.events import PathReleased
from stt_core.links import Links
from stt_core.recovery.reliable import BOUNDLESS
from stt_core.routes import Routes
from stt_core.session import Session
from stt_core.state import SessionState
from stt_core.types import Entropy, Path, Role, SessionKey


class Register:
    """One endpoint's sessions. ``sessions`` holds all that anybody may still ask for."""

    __slots__ = (
        "_context", "_departed", "_keys", "_lingering", "_on_over", "agenda", "budgets", "connecting", "links", "live",
        "routes", "sessions",
    )  # fmt: skip

    def __init__(self, config: EndpointConfig, entropy: Entropy, on_over: Callable[[Session], None]) -> None:
        self._on_over = on_over
        self.sessions: dict[SessionKey, Session] = {}
        self.routes = Routes(config, entropy, self.sessions)
        self.links = Links()
        self.live: set[SessionKey] = set()
        """Those that are neither over nor detached."""
        self.connecting: dict[Path, set[SessionKey]] = {}
        self.budgets: dict[Path, RemoteBudget] = {}
        self.agenda = Agenda(self.sessions)
        self._lingering: dict[SessionKey, Session] = {}
        """Over, but answering stragglers for some PTOs yet; oldest first."""
        self._departed: set[SessionKey] = set()
        """Over and forgotten, but for those who have yet to hear of it."""
        self._keys = count(1)

    def attach(self, context: Context) -> None:
        """What the sessions share; it is made after, because it tells them of this."""
        self._context = context

    @property
    def has_room(self) -> bool:
        """Whether another session may be made."""
        return len(self.live) < self._context.config.max_sessions

    def add(self, role: Role, path: Path, cid: bytes) -> Session:
        """A session is being made on ``path``, with ``cid`` as its own."""
        session = Session(self._context, SessionKey(next(self._keys)), role, path, cid)
        self.sessions[session.key] = session
        self.live.add(session.key)
        self.routes.sessions[cid] = session
        if role is Role.INITIATOR:
            self.connecting.setdefault(path, set()).add(session.key)
        if path.reliable:
            self.links.claim(path, session.key)
        return session

    def touch(self, session: Session) -> None:
        """After anything happened to a session: forget it, or see to its timer and to those it held up."""
        if session.state is SessionState.CLOSED or session.finished:
            self._put_away(session)
        else:
            self.agenda.put(session)
        budget = session.budget
        if budget is not None and (budget.blocked or budget.woken):
            if not session.queued:
                budget.woken.discard(session.key)  # it had its turn, whatever came of it
            self._wake_next(budget)

    def _wake_next(self, budget: RemoteBudget) -> None:
        """Each that had its turn wakes the next: to wake all would be to poll all for each that may send."""
        while budget.has_news:
            del budget.blocked[key := next(iter(budget.blocked))]
            if (waiting := self.sessions.get(key)) is not None:
                budget.woken.add(key)
                waiting.mark_ready()
                break

    def _put_away(self, session: Session) -> None:
        """A session that is over lingers for a while, then it is forgotten."""
        if session.key in self.live and session.state is SessionState.CLOSED:
            self.live.discard(session.key)
            self._context.session_ids.discard(session.session_id)
            self.no_longer_connecting(session)
            if not session.finished:
                self._linger(session)
        if session.finished:
            self._remove(session)
            return
        self.agenda.put(session)

    def _remove(self, session: Session) -> None:
        if session.key in self._departed:
            return
        # Events that name it may wait still, and whoever takes them may ask for it: see Endpoint.next_event.
        self._departed.add(session.key)
        self._lingering.pop(session.key, None)
        self.unroute(session)
        self._on_over(session)

    def unroute(self, session: Session) -> None:
        """Nothing comes to this session any more, and it sends nothing: it is over, or its keys are."""
        self.routes.forget(session)
        for path in self.links.owned(session.key):
            self._context.events.append(PathReleased(path))
        budget = session.budget
        if budget is not None:
            self._leave(session.key, budget)

    def _leave(self, key: SessionKey, budget: RemoteBudget) -> None:
        budget.forget(key)
        if not budget.sessions and budget.path is not None:
            self.budgets.pop(budget.path, None)
        self._wake_next(budget)

    def budget_for(self, key: SessionKey, path: Path, hint: int) -> RemoteBudget:
        """What session ``key`` shares with all others to the same socket, whose buffer is ``hint`` bytes."""
        before = self.sessions[key].budget
        if before is not None:
            self._leave(key, before)
        if path.reliable:
            return RemoteBudget(BOUNDLESS)  # no socket's buffer overflows, and what waits in it is TCP's affair
        budget = self.budgets.get(path)
        if budget is None:
            budget = self.budgets[path] = RemoteBudget(hint, path)
        budget.limit = hint // 2
        budget.sessions.add(key)
        return budget

    def bury(self) -> None:
        """Everybody has heard of those that are over: forget them for good."""
        for key in self._departed:
            self.sessions.pop(key, None)
        self._departed.clear()

    def _linger(self, session: Session) -> None:
        """As many as may live may linger, for they hold memory too; the oldest makes room."""
        self._lingering[session.key] = session
        if len(self._lingering) > self._context.config.max_sessions:
            oldest = next(iter(self._lingering.values()))
            oldest.abandon("made room")
            self._remove(oldest)

    def no_longer_connecting(self, session: Session) -> None:
        """Its handshake is over, one way or the other."""
        connecting = self.connecting.get(session.first_path)
        if connecting is not None:
            connecting.discard(session.key)
            if not connecting:
                del self.connecting[session.first_path]

    def owns_nonce(self, nonce: bytes) -> bool:
        """Whether a HELLO is one of ours, thrown back at us."""
        return any(self.sessions[key].owns_nonce(nonce) for keys in self.connecting.values() for key in keys)
