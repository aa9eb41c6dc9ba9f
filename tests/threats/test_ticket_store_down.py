"""Threat "spent token", while nobody can tell which are: no streams go on, and nobody is let in by a token alone."""

from __future__ import annotations

from typing import Any

import pytest

from stt_core.errors import CloseReason
from stt_core.events import SessionClosed
from stt_core.state import SessionState
from stt_core.types import Resumed
from tests.core.test_resuming import ALICES, FailingStore, Resumable, restarted, token_of, with_store


def story(**alice: Any) -> tuple[Resumable, FailingStore, bytes]:
    """A session that is detached at both ends, and its token; Bob's store can be made to fail."""
    store = FailingStore()
    pair = Resumable(alice=alice)
    pair.bob.endpoint = with_store("bob", store, resumable=True)
    ours, _ = pair.connect()
    pair.rest()
    token = token_of(ours)
    pair.cut()
    return pair, store, token


def test_a_token_alone_opens_nothing_and_disturbs_nobody() -> None:
    pair, store, token = story()
    store.failing = "is_spent"
    thief = restarted(pair, "alice")
    assert pair.resume(token, thief).resumed is Resumed.NO
    assert pair.bob.endpoint.statistics()["detached"] == 1
    store.failing = ""
    assert pair.resume(token).resumed is Resumed.FULL


def test_whose_identity_is_proven_is_known_by_it_and_goes_on_with_no_streams() -> None:
    pair, store, token = story(node_seed=ALICES)
    store.failing = "is_spent"
    session = pair.resume(token)
    assert session.resumed is Resumed.IDENTITY
    pair.rest()
    assert [event.reason for event in pair.bob.told(SessionClosed)] == [CloseReason.SUPERSEDED]
    assert session.state is SessionState.ESTABLISHED
    assert pair.bob.endpoint.statistics()["store_failures"] == 1


def test_a_thief_without_that_identity_is_a_stranger() -> None:
    pair, store, token = story(node_seed=ALICES)
    store.failing = "is_spent"
    thief = restarted(pair, "alice", node_seed=b"the thief's own seed of an identity")
    assert pair.resume(token, thief).resumed is Resumed.NO
    assert pair.bob.endpoint.statistics()["detached"] == 1


@pytest.mark.parametrize("alice", [{}, {"node_seed": ALICES}], ids=["a token", "a proven identity"])
def test_a_token_spent_before_opens_no_streams_then_or_later(alice: dict[str, Any]) -> None:
    pair, store, stolen = story(**alice)
    assert pair.resume(stolen).resumed is Resumed.FULL
    pair.rest()
    pair.cut()
    for failing in ("is_spent", "spend", ""):
        store.failing = failing
        assert pair.resume(stolen, restarted(pair, "alice")).resumed is Resumed.NO
    assert pair.bob.endpoint.statistics()["detached"] == 1
