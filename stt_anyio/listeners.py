"""What is accepted, one after the other, as anyio's ``Listener``: sessions of a node, streams of a session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Generic, TypeVar

import anyio
import anyio.abc
import anyio.lowlevel

ResourceT = TypeVar("ResourceT")


class Listener(anyio.abc.Listener[ResourceT], Generic[ResourceT]):
    """Closing it ends its own ``serve`` and leaves the node or session open."""

    def __init__(
        self, accept: Callable[[], Awaitable[ResourceT]], attributes: Callable[[], Mapping[Any, Callable[[], Any]]]
    ) -> None:
        self._accept = accept
        self._attributes = attributes
        self._closed = False
        self._scopes: set[anyio.CancelScope] = set()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """Those of what it accepts from."""
        return self._attributes()

    async def serve(self, handler: Callable[[ResourceT], Any], task_group: anyio.abc.TaskGroup | None = None) -> None:
        """Start ``handler`` for each one accepted, in ``task_group``; closing what it was given is up to it.

        :raises anyio.ClosedResourceError: once this listener is closed; otherwise as what it accepts from.
        """
        async with AsyncExitStack() as stack:
            if task_group is None:
                task_group = await stack.enter_async_context(anyio.create_task_group())
            while True:
                task_group.start_soon(handler, await self._next())

    async def _next(self) -> ResourceT:
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                if self._closed:
                    await anyio.lowlevel.checkpoint()
                else:
                    return await self._accept()
            finally:
                self._scopes.discard(scope)
        raise anyio.ClosedResourceError

    async def aclose(self) -> None:
        """Accept no more."""
        self._closed = True
        for scope in self._scopes:
            scope.cancel()
        await anyio.lowlevel.checkpoint()
