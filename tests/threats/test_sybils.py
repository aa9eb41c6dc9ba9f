"""Sybils: forty nodes in two /24s whose ids, made by grinding keys, lie nearer to a content than anybody honest."""

from __future__ import annotations

from tests.dht.scenarios import sybils


def test_the_limit_per_prefix_keeps_sybils_from_eclipsing_a_content() -> None:
    assert sybils(cap=True) >= 0.95


def test_without_that_limit_they_do() -> None:
    assert sybils(cap=False, networks=11) < 0.1
