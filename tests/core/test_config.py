"""Settings are checked where they are made, and say what is wrong with them."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from stt_core.config import MAX_DATAGRAM, EndpointConfig
from stt_core.errors import ConfigurationError, STTError

SEED = b"a seed that nobody must see"


def made(**changes: Any) -> EndpointConfig:
    return EndpointConfig(**{"shared_seed": SEED, "node_id": b"me", **changes})


def test_a_seed_and_a_label_are_enough() -> None:
    config = made()
    assert (config.keep_alive_interval, config.keep_alive_timeout) == (10.0, 30.0)
    assert (config.stream_window, config.session_window) == (256 * 1024, 1024 * 1024)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("shared_seed", b""),
        ("shared_seed", bytes(1025)),
        ("node_id", b""),
        ("node_id", bytes(256)),
        ("node_seed", bytes(15)),
        ("handshake_timeout", 0.0),
        ("handshake_timeout", float("nan")),
        ("keep_alive_interval", 0.0),
        ("keep_alive_timeout", -1.0),
        ("max_ack_delay", 1.1),
        ("max_udp_payload", 1199),
        ("max_udp_payload", MAX_DATAGRAM + 1),
        ("receive_buffer_hint", 0),
        ("max_sessions", 0),
        ("max_streams", 0),
        ("stream_window", 100),
        ("session_window", 4096),
        ("max_window", 4096),
        ("max_stream_window", 4096),
        ("max_stream_window", 2**25),
        ("max_message", 0),
        ("send_buffer", 0),
        ("datagram_queue", 0),
    ],
)
def test_a_setting_out_of_range_is_named_with_its_range(setting: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=rf"{setting} is .*expected .* to ") as caught:
        made(**{setting: value})
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, STTError)


def test_only_the_congestion_controllers_there_are_can_be_asked_for() -> None:
    assert made().congestion == "cubic"
    assert made(congestion="newreno").congestion == "newreno"
    with pytest.raises(ConfigurationError, match=r"congestion is 'vegas', expected cubic or newreno"):
        made(congestion="vegas")


def test_a_timeout_that_no_keep_alive_could_prevent_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="dies before its first keep-alive"):
        made(keep_alive_interval=10.0, keep_alive_timeout=10.0)


def test_a_configuration_does_not_change_behind_an_endpoints_back() -> None:
    with pytest.raises(FrozenInstanceError):
        made().max_sessions = 5  # type: ignore[misc]


def test_seeds_are_not_shown() -> None:
    shown = repr(made(node_seed=b"the identity's own secret"))
    assert "nobody must see" not in shown
    assert "own secret" not in shown
