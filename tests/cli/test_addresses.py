"""Addresses as people write them, there and back."""

from __future__ import annotations

import pytest

from stt_anyio.cli.addresses import parse_address, resolve, spelled


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:1", "127.0.0.1", 1),
        ("[::1]:65535", "::1", 65535),
        ("[fe80::1%eth0]:4433", "fe80::1%eth0", 4433),
        ("machine.example:4433", "machine.example", 4433),
    ],
)
def test_an_address_means_what_it_says(text: str, host: str, port: int) -> None:
    assert parse_address(text) == (host, port)
    assert spelled(host, port) == text


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", ("127.0.0.1", 5)), ("::1", ("::1", 5, 0, 0))])
def test_a_numeric_host_is_its_own_address(host: str, address: tuple[object, ...]) -> None:
    assert resolve(host, 5) == [address]
