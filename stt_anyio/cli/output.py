"""Standard output and error, whatever became of them.

Rule: the result goes to stdout, all words for people to stderr. A stderr that can't be written (a closed pipe, a full
device, a terminal that hung up) loses the words and nothing else: there is nobody left to tell. A stdout that can't be
written is a failure, unless its reader left, which is the reader's choice.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress

from stt_anyio.cli.failure import Exit, Failure
from stt_anyio.cli.names import for_display


class _Lossy(io.FileIO):
    """Writes what can be written and forgets the rest."""

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override] # what a text layer passes
        with suppress(OSError):
            super().write(data)
        return len(data)


def prepare_streams() -> None:
    """Make the rule true, before the first word."""
    # Or else the next file or socket to be opened gets the number, and what is meant for people.
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8", write_through=True)
    sys.stderr = io.TextIOWrapper(
        _Lossy(2, "w", closefd=False),  # a buffer would keep what couldn't be written
        encoding=getattr(sys.stderr, "encoding", "utf-8"),
        errors="backslashreplace",
        write_through=True,
    )


def say(text: str) -> None:
    """One line for people, on stderr, with nothing in it that could steer their terminal."""
    print(for_display(text), file=sys.stderr, flush=True)


def emit(text: str = "") -> None:
    """Write ``text`` to stdout, and everything before it that still waits there.

    :raises Failure: if it can't be written, for another reason than that the reader has gone.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What couldn't be written is still in the buffer, and Python would stumble over it once more at its end.
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, 1)
        os.close(devnull)
        if not isinstance(error, BrokenPipeError):
            raise Failure(Exit.INTEGRITY, f"can't write to standard output: {error.strerror}") from error
