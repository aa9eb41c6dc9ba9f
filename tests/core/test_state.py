"""The transition tables: what can follow what, and that nothing else can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from stt_core.state import (
    FALLBACK,
    RECEIVE,
    SEND,
    SESSION,
    FallbackState,
    FallbackTrigger,
    ReceiveState,
    ReceiveTrigger,
    SendState,
    SendTrigger,
    SessionState,
    SessionTrigger,
    advance,
)

TABLES: list[tuple[Mapping[Any, Any], Any, Any, Any, set[Any]]] = [
    (SESSION, SessionState, SessionTrigger, SessionState.INIT, {SessionState.CLOSED}),
    (SEND, SendState, SendTrigger, SendState.OPEN, {SendState.DATA_ACKED, SendState.RESET_ACKED}),
    (RECEIVE, ReceiveState, ReceiveTrigger, ReceiveState.OPEN, {ReceiveState.DATA_READ, ReceiveState.RESET_READ}),
    (FALLBACK, FallbackState, FallbackTrigger, FallbackState.DIRECT, set()),
]
NAMES = ["session", "send", "receive", "fallback"]


@pytest.mark.parametrize(("table", "states", "triggers", "first", "last"), TABLES, ids=NAMES)
class TestTables:
    def test_every_state_can_be_reached(
        self, table: Mapping[Any, Any], states: Any, triggers: Any, first: Any, last: set[Any]
    ) -> None:
        reached = {first}
        for _ in states:
            reached |= {after for (before, _), after in table.items() if before in reached}
        assert reached == set(states)

    def test_what_is_over_stays_over_and_everything_else_can_end(
        self, table: Mapping[Any, Any], states: Any, triggers: Any, first: Any, last: set[Any]
    ) -> None:
        assert {state for state in states if not any(before is state for before, _ in table)} == last
        ending = set(last) or {first}  # where nothing is ever over, all lead back to the beginning
        for _ in states:
            ending |= {before for (before, _), after in table.items() if after in ending}
        assert ending == set(states)

    def test_every_trigger_is_used(
        self, table: Mapping[Any, Any], states: Any, triggers: Any, first: Any, last: set[Any]
    ) -> None:
        assert {trigger for _, trigger in table} == set(triggers)

    def test_what_the_table_does_not_hold_is_a_bug_and_raises(
        self, table: Mapping[Any, Any], states: Any, triggers: Any, first: Any, last: set[Any]
    ) -> None:
        for state in states:
            for trigger in triggers:
                if (state, trigger) in table:
                    assert advance(table, state, trigger) is table[state, trigger]
                else:
                    with pytest.raises(LookupError):
                        advance(table, state, trigger)


def test_a_session_that_is_alive_can_always_be_lost() -> None:
    for state in set(SessionState) - {SessionState.CLOSED}:
        assert advance(SESSION, state, SessionTrigger.LOST) is SessionState.CLOSED
