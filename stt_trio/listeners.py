"""What is accepted, one after the other, as trio's ``Listener``: sessions of a node, streams of a session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

ResourceT = TypeVar("ResourceT", bound=trio.abc.AsyncResource)


class Listener(trio.abc.Listener[ResourceT], Generic[ResourceT]):
    """For :func:`trio.serve_listeners`. Closing it ends its own ``accept`` and leaves the node or session open."""

    def __init__(self, accept: Callable[[], Awaitable[ResourceT]]) -> None:
        self._accept = accept
        self._closed = False
        self._scopes: set[trio.CancelScope] = set()

    async def accept(self) -> ResourceT:
        """The next one.

        :raises trio.ClosedResourceError: once this listener is closed; otherwise as what it accepts from.
        """
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                if self._closed:
                    await trio.lowlevel.checkpoint()
                else:
                    return await self._accept()
            finally:
                self._scopes.discard(scope)
        raise trio.ClosedResourceError("this listener was closed")

    async def aclose(self) -> None:
        """Accept no more."""
        self._closed = True
        for scope in self._scopes:
            scope.cancel()
        await trio.lowlevel.checkpoint()
