"""The DHT in networks of many nodes: it scales, survives churn, and gets past the dead and past liars."""

from __future__ import annotations

from tests.dht.scenarios import bad_company, churn, growth, joining


def test_look_ups_take_a_logarithm_of_hops() -> None:
    figures = {nodes: growth(nodes, lookups=30) for nodes in (60, 250, 1000)}
    assert all(figure.success == 1.0 for figure in figures.values())
    assert all(figure.queries < 25 for figure in figures.values())
    assert figures[60].hops <= figures[250].hops <= figures[1000].hops < 2


def test_a_network_that_grew_by_joining_answers_as_well_as_one_that_was_set_up() -> None:
    joined = joining(100)
    assert joined.success == 1.0
    assert joined.queries < 25


def test_records_are_found_while_a_third_of_the_network_is_replaced_every_ten_minutes() -> None:
    assert churn(80, minutes=10, lookups=100).success >= 0.99


def test_a_fifth_of_the_nodes_may_be_dead() -> None:
    assert bad_company(150, dead=0.2, lying=0.0).success >= 0.99


def test_a_fifth_of_the_nodes_may_lie() -> None:
    figures = bad_company(150, dead=0.0, lying=0.2)
    assert figures.success >= 0.99
    assert figures.queries < 60


def test_the_dead_and_the_lying_together() -> None:
    assert bad_company(300, dead=0.1, lying=0.1, lookups=30).success >= 0.99
