"""What every test shares. Imports nothing but pytest: the core's tests run where nothing else is installed."""

from __future__ import annotations

import signal
from typing import Any

import pytest

# What was started in the background, or under nohup, ignores some signals, and so would all that the tests start.
for _number, _usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGTERM, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)

BACKENDS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="asyncio+uvloop"),
    pytest.param(("trio", {}), id="trio"),
]


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The event loop under a test marked ``anyio``: each such test runs on all three."""
    backend: tuple[str, dict[str, Any]] = request.param
    return backend
