"""Every failing scenario says how to play it again, whatever it failed with."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.sim.lab import Lab


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    Lab.latest = None
    try:
        return (yield)
    except BaseException:
        latest: Lab | None = Lab.latest  # made while the test ran
        if latest is not None:
            item.add_report_section("call", "replay", latest.replay)
        raise
    finally:
        Lab.latest = None
