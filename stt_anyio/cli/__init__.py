"""The ``stt`` command: ``send``, ``recv``, ``publish``, ``fetch``, ``forward``, ``serve``, ``demo`` and ``dht``.

Rule: one line on stderr for each thing that goes wrong, a distinct exit code, the trace only with ``--debug``. Secrets
come from the environment, a file or a prompt, never from an argument, which everybody on the machine could read.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from stt_anyio.cli.failure import Failure, failure_of
from stt_anyio.cli.interrupts import Interrupted, signals
from stt_anyio.cli.output import emit, prepare_streams
from stt_anyio.cli.summary import Summary


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (``sys.argv`` without its first, where none is given) as this process; the exit code."""
    prepare_streams()
    signals.heed()
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except Interrupted as interruption:  # while the outcome was told
        return int(interruption.failure.code)
    finally:
        signals.disregard()


def _run(arguments: Sequence[str]) -> int:
    summary = Summary()
    # Looked for like this because the result is promised where the rest of the arguments makes no sense, too.
    wants_json = "--json" in arguments
    try:
        from stt_anyio.cli.arguments import parse  # late: a signal during these imports is one like any other

        parsed = parse(arguments)
        parsed.run(parsed, summary)
    except SystemExit:  # --help, --version
        wants_json = False
    except Interrupted as interruption:
        summary.interrupt(interruption.failure)
    except Exception as error:  # noqa: BLE001 - told, bugs too
        summary.fail(failure_of(error))
    try:
        emit(summary.as_json() if wants_json else "")
    except Failure as failure:
        summary.fail(failure)
    return int(summary.code)
