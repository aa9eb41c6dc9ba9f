"""What a behaviour needs of the event loop under it, and how a list of them is run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self, TypeVar

LIMIT: Final = 30.0
"""Seconds after which a behaviour that hangs has failed. Nothing waits for them to pass."""

SubjectT = TypeVar("SubjectT")


class Scope(Protocol):
    """A cancel scope, as anyio and trio have it."""

    @property
    def cancelled_caught(self) -> bool:
        """Whether it ended what was inside."""
        ...

    def cancel(self) -> None:
        """End what is inside."""
        ...


class Group(Protocol):
    """A nursery, or a task group."""

    @property
    def cancel_scope(self) -> Scope:
        """Around all of its tasks."""
        ...

    def start_soon(self, run: Callable[..., Awaitable[Any]], /, *args: Any) -> None:
        """Run ``run(*args)`` as a task of the group."""
        ...


@dataclass(frozen=True, slots=True)
class Stack:
    """One adapter's event loop library, and the exceptions its users expect."""

    end: type[Exception]
    """From ``receive``, once the peer has ended the stream and everything was read."""
    closed: type[Exception]
    """From what this side has closed."""
    broken: type[Exception]
    """From what the peer has ended."""
    busy: type[Exception]
    """From what another task is at."""
    open_group: Callable[[], AbstractAsyncContextManager[Any]]
    """Gives a :class:`Group`."""
    fail_after: Callable[[float], AbstractContextManager[Any]]
    """A time limit, in seconds."""
    cancel_scope: Callable[[], AbstractContextManager[Any]]
    """Gives a :class:`Scope`."""
    wait_all_tasks_blocked: Callable[[], Awaitable[None]]
    """Until every other task waits for something."""
    checkpoint: Callable[[], Awaitable[None]]
    """Let the others have a turn."""


Behaviour = Callable[[Stack, SubjectT], Awaitable[None]]
"""Takes the stack and what makes what is under test; raises ``AssertionError`` where that behaves otherwise."""


async def check(stack: Stack, behaviours: Iterable[Behaviour[SubjectT]], subject: SubjectT) -> None:
    """Hold ``subject`` to all of ``behaviours``, one after the other, each within :data:`LIMIT` seconds."""
    for behaviour in behaviours:
        with stack.fail_after(LIMIT):
            await behaviour(stack, subject)


class Expect:
    """``with Expect(kind):`` what is inside must raise that; the exception is at ``error`` then."""

    __slots__ = ("_kind", "error")

    def __init__(self, kind: type[BaseException]) -> None:
        self._kind = kind
        self.error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if error is None:
            raise AssertionError(f"nothing was raised, expected {self._kind.__name__}")
        self.error = error
        return isinstance(error, self._kind)


async def block(stack: Stack, group: Group, run: Callable[..., Awaitable[Any]], *args: Any) -> None:
    """Run this in ``group``, as far as it gets by itself."""
    group.start_soon(run, *args)
    await stack.wait_all_tasks_blocked()
