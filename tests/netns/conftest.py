"""A network of namespaces for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.netns.network import JUMBO, Network, check_tools


@pytest.fixture(scope="session")
def tools() -> None:
    """Fails, and skips nothing, where namespaces can't be made."""
    check_tools()


@pytest.fixture
def network(tools: None) -> Iterator[Network]:
    """Two hosts and a router, all links of MTU 1500, gone after the test."""
    yield from _made(1500)


@pytest.fixture
def jumbo(tools: None) -> Iterator[Network]:
    """The same with links of MTU 9000."""
    yield from _made(JUMBO)


@pytest.fixture(scope="module")
def hosts(tools: None) -> Iterator[Network]:
    """The same as ``network`` for all tests of a file, which leave it as it is: to remove one takes a second."""
    yield from _made(1500)


def _made(mtu: int) -> Iterator[Network]:
    network = Network(mtu)
    try:
        yield network
    finally:
        network.close()
