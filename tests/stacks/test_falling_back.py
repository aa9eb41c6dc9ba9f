"""UDP that falls silent, and connections that break, on all four stacks: sessions go round and lose nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from stt_backends.behaviours.moves import begin_traffic
from stt_backends.websocket.link import Link
from tests.stacks.test_behaviours import Kind, kind
from tests.support.relay import RelayProcess

__all__ = ["kind"]


def url_of(node: Any) -> str:
    return f"ws://127.0.0.1:{node.port}/"


def until(kind: Kind, holds: Callable[[], bool]) -> Awaitable[None]:
    async def wait() -> None:
        while not holds():
            await kind.stack.checkpoint()

    return wait()


def break_connections(node: Any) -> None:
    hub = node._driver.hub
    for source in hub.sources:
        if isinstance(source, Link):
            source.abort("the network is gone")
            hub._after(source, node.clock())


def test_udp_that_falls_silent_is_left_for_a_connection(kind: Kind) -> None:
    async def main(stack: Any, make: Any) -> None:
        async with make(transport="both") as server, make() as client:
            with RelayProcess(("127.0.0.1", server.port)) as relay:
                here = await client.connect(relay.address)
                await here.allow_fallback(url_of(server))
                there = await server.accept()
                async with stack.open_group() as group:
                    up, down = begin_traffic(stack, group, here, there)
                    await up.go_on()
                    relay.silence()
                    await until(kind, lambda: here.path.transport == there.path.transport == "websocket")
                    await up.go_on()
                    await down.go_on()
                    await up.stop()
                    await down.stop()

    kind.check(main, kind.make_node)


def test_a_connection_that_breaks_is_replaced_by_another(kind: Kind) -> None:
    async def main(stack: Any, make: Any) -> None:
        async with make(transport="websocket") as server, make() as client:
            here = await client.connect(url_of(server))
            there = await server.accept()
            async with stack.open_group() as group:
                up, down = begin_traffic(stack, group, here, there)
                for _ in range(3):
                    await up.go_on()
                    before = here.path
                    break_connections(client)
                    await until(kind, lambda before=before: here.path != before)  # type: ignore[misc]
                await down.go_on()
                await up.stop()
                await down.stop()

    kind.check(main, kind.make_node)


def test_a_connection_that_the_application_chose_is_not_left_for_udp(kind: Kind) -> None:
    """Unlike one that was gone round by: the core asks UDP nothing then."""

    async def main(stack: Any, make: Any) -> None:
        async with make(transport="both") as server, make(transport="both") as client:
            here = await client.connect(("127.0.0.1", server.port))
            await here.migrate(url_of(server))
            fallback = here.core._channel.migration._fallback
            assert fallback.home == ("udp", ("127.0.0.1", server.port))
            assert fallback.due_at == float("inf")

    kind.check(main, kind.make_node)
