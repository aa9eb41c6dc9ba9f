"""The ticket store in Redis, over a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import redis

from stt_backends.redis_tickets import FIRST_PAUSE, LONGEST_PAUSE, RedisTicketStore
from stt_core.errors import ConfigurationError, StoreError
from stt_core.resumption import KEY_LIFE
from tests.fleet.server import RedisServer

WALL = 1_700_000_000.0


def ticket(number: int) -> bytes:
    return number.to_bytes(16, "big")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def test_two_that_share_it_have_one_key_and_spend_a_ticket_once(server: RedisServer) -> None:
    one, other = RedisTicketStore(server.url), RedisTicketStore(server.url)
    one.check()
    key = one.current(WALL)
    assert other.current(WALL) == key
    assert not other.is_spent(ticket(1), WALL)
    assert one.spend(ticket(1), WALL + 100, WALL)
    assert other.is_spent(ticket(1), WALL)
    assert not other.spend(ticket(1), WALL + 100, WALL)
    assert not one.spend(ticket(1), WALL + 100, WALL)


def test_services_of_other_names_have_other_keys(server: RedisServer) -> None:
    one, other = RedisTicketStore(server.url, name="one"), RedisTicketStore(server.url, name="other")
    assert one.current(WALL) != other.current(WALL)
    assert one.spend(ticket(1), WALL + 100, WALL)
    assert other.spend(ticket(1), WALL + 100, WALL)


def test_a_key_makes_tickets_for_12_hours_and_its_tickets_are_accepted_for_24_more(server: RedisServer) -> None:
    one, other = RedisTicketStore(server.url), RedisTicketStore(server.url)
    keys = [one.current(WALL + number * KEY_LIFE) for number in range(5)]
    assert len(set(keys)) == 5
    now = WALL + 4 * KEY_LIFE
    assert [other.find(key.key_id, now) is not None for key in keys] == [False, False, True, True, True]
    assert other.current(now) == keys[-1]
    assert other.find(b"none", now) is None


def test_a_key_that_a_clock_before_ours_made_is_found(server: RedisServer) -> None:
    slot = WALL // KEY_LIFE * KEY_LIFE
    before, behind = RedisTicketStore(server.url), RedisTicketStore(server.url)
    behind.current(slot - 1)
    key = before.current(slot + 1)
    assert behind.find(key.key_id, slot - 1) == key


def test_what_it_remembers_expires_by_itself_and_never_too_soon(server: RedisServer) -> None:
    store = RedisTicketStore(server.url)
    store.current(WALL)
    store.spend(ticket(1), WALL + 86400, WALL)
    store.spend(ticket(2), WALL - 1, WALL)
    raw = redis.Redis.from_url(server.url)
    key, *spent = f"{{stt}}:key:{int(WALL // KEY_LIFE)}", *(f"{{stt}}:spent:{ticket(n).hex()}" for n in (1, 2))
    names = ("{stt}:since", key, *spent)
    ages = [raw.pttl(name) for name in names]
    assert raw.dbsize() == len(names)
    raw.close()
    assert ages[0] == -1
    assert ages[1] > 36 * 3600 * 1000
    assert 86_400_000 < ages[2] <= 86_700_000
    assert 0 < ages[3] <= 300_000


def test_a_redis_that_does_not_answer_is_left_alone_ever_longer(server: RedisServer) -> None:
    clock = Clock()
    store = RedisTicketStore(server.url, timeout=0.01, clock=clock)
    key = store.current(WALL)
    server.pause()
    for pause in (FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE):
        with pytest.raises(StoreError, match="doesn't answer"):
            store.spend(ticket(1), WALL + 100, WALL)
        clock.now += pause - 0.001
        with pytest.raises(StoreError, match="not asked again"):
            store.is_spent(ticket(1), WALL)
        clock.now += 0.001
    assert store.current(WALL) == key  # which takes no question
    server.unpause()
    assert not store.is_spent(ticket(2), WALL)
    server.kill()
    for _ in range(9):
        with pytest.raises(StoreError, match="doesn't answer"):
            store.is_spent(ticket(2), WALL)
        clock.now += LONGEST_PAUSE


def test_a_connection_that_was_closed_meanwhile_is_opened_again_at_once(server: RedisServer) -> None:
    store = RedisTicketStore(server.url)
    server.kill()
    server.start("--appendonly", "yes")
    key = store.current(WALL)
    assert store.spend(ticket(1), WALL + 100, WALL)
    server.kill()
    server.start("--appendonly", "yes")
    assert not store.spend(ticket(1), WALL + 100, WALL)
    assert RedisTicketStore(server.url).current(WALL) == key


def test_where_redis_has_lost_its_memory_all_tickets_are_void(server: RedisServer) -> None:
    one, other = RedisTicketStore(server.url), RedisTicketStore(server.url)
    key = one.current(WALL)
    assert other.current(WALL) == key
    assert one.spend(ticket(1), WALL + 100, WALL)
    server.kill()
    server.start()
    with pytest.raises(StoreError, match="lost which"):
        other.is_spent(ticket(1), WALL)
    with pytest.raises(StoreError, match="lost which"):
        one.spend(ticket(1), WALL + 100, WALL)
    assert one.find(key.key_id, WALL) is None
    fresh = one.current(WALL)
    assert fresh != key
    assert other.current(WALL) == fresh
    assert other.find(key.key_id, WALL) is None
    assert not one.is_spent(ticket(2), WALL)


def test_a_redis_that_forgets_under_pressure_is_no_store(server: RedisServer) -> None:
    raw = redis.Redis.from_url(server.url)
    raw.config_set("maxmemory-policy", "volatile-lru")
    RedisTicketStore(server.url).check()  # it has no limit, and nothing to forget for
    raw.config_set("maxmemory", 100_000_000)
    raw.close()
    with pytest.raises(StoreError, match="noeviction"):
        RedisTicketStore(server.url).check()


def test_something_else_under_its_name_is_an_error_and_stays(server: RedisServer) -> None:
    raw = redis.Redis.from_url(server.url)
    name = f"{{stt}}:key:{int(WALL // KEY_LIFE)}"
    raw.set(name, b"somebody else's")
    with pytest.raises(StoreError, match="no ticket key"):
        RedisTicketStore(server.url).current(WALL)
    assert raw.get(name) == b"somebody else's"
    raw.close()


def test_a_password_that_is_wrong_shows_nowhere(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    raw = redis.Redis.from_url(server.url)
    raw.config_set("requirepass", "right")
    raw.close()
    store = RedisTicketStore(server.url.replace("unix://", "unix://:wrong-one@"))
    with pytest.raises(StoreError) as refused:
        store.check()
    for shown in (repr(store), str(refused.value), repr(refused.value.__cause__), caplog.text):
        assert "wrong-one" not in shown
    assert "doesn't answer" in caplog.text


@pytest.mark.parametrize(
    "arguments", [{"url": "http://x"}, {"timeout": 0}, {"timeout": 60}, {"name": ""}, {"name": "{x"}]
)
def test_wrong_arguments_are_the_callers_mistake(arguments: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        RedisTicketStore(**{"url": "redis://127.0.0.1", **arguments})  # type: ignore[arg-type]


def test_processes_spend_each_ticket_once(server: RedisServer) -> None:
    program = (
        "import sys; from stt_backends.redis_tickets import RedisTicketStore;"
        f"store = RedisTicketStore(sys.argv[1], timeout=10); store.current({WALL});"
        f"print(sum(store.spend(n.to_bytes(16, 'big'), {WALL} + 100, {WALL}) for n in range(200)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, server.url], stdout=subprocess.PIPE, text=True, env=environment
        )
        for _ in range(3)
    ]
    spent = [int(process.communicate(timeout=60)[0]) for process in running]
    assert sum(spent) == 200
