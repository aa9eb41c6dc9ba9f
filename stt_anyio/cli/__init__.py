"""The ``stt`` command: ``send``, ``recv`` and ``demo``.

Rule: one line on stderr for what goes wrong, a distinct exit code, the trace only with ``--debug``. Secrets come from
the environment, a file or a prompt, never from an argument, which everybody on the machine could read.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import anyio

from stt_anyio.cli.commands import Summary, receive, send
from stt_anyio.cli.demo import demo
from stt_anyio.cli.failure import Exit, Failure, failure_of

_SEED_HELP = (
    "The shared seed is taken from STT_SHARED_SEED, from the file named by STT_SEED_FILE, or asked for on a terminal."
)


def _version() -> str:
    try:
        return version("stt-transport")
    except PackageNotFoundError:
        return "unknown (not installed)"


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0, at most 3600")
    return seconds


def _size(text: str) -> int:
    size = _number(text)
    if not 0 <= size <= 1024 * 1024:
        raise argparse.ArgumentTypeError(f"{size} is not between 0 and 1048576")
    return size


def _port(text: str) -> int:
    port = _number(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is not between 0 and 65535")
    return port


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stt", description="Move files privately between two machines that share a seed.", epilog=_SEED_HELP
    )
    parser.add_argument("--version", action="version", version=f"stt {_version()}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="end with one line of JSON on stdout")
    common.add_argument("--debug", action="store_true", help="show logs, and the trace of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    sender = commands.add_parser("send", parents=[common], help="send files to a receiver", epilog=_SEED_HELP)
    sender.add_argument("files", nargs="+", metavar="FILE")
    sender.add_argument("address", metavar="HOST:PORT")
    sender.add_argument("--timeout", type=_seconds, default=10.0, help="seconds to wait for the receiver (default 10)")
    sender.set_defaults(run=send)

    receiver = commands.add_parser("recv", parents=[common], help="store files that are sent", epilog=_SEED_HELP)
    receiver.add_argument("directory", nargs="?", default=".", metavar="DIR")
    receiver.add_argument("--bind", default="0.0.0.0", metavar="ADDR", help="address to listen on (default all)")
    receiver.add_argument("--port", type=_port, default=0, help="UDP port to listen on (default any free one)")
    receiver.add_argument("--once", action="store_true", help="exit after one session")
    receiver.set_defaults(run=receive)

    shown = commands.add_parser("demo", parents=[common], help="see a file cross between two processes")
    shown.add_argument("--size", type=_size, default=64, metavar="MB", help="MiB to move (default 64)")
    shown.set_defaults(run=demo)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Usage errors leave through ``SystemExit(2)``."""
    parsed = _parser().parse_args(arguments)
    if parsed.debug:
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    summary = Summary()
    failure: Failure | None = None
    try:
        anyio.run(parsed.run, parsed, summary)
    except KeyboardInterrupt:
        failure = Failure(Exit.INTERRUPTED, "interrupted")
    except Exception as error:
        if parsed.debug:
            logging.getLogger("stt.cli").exception("the command failed")
        failure = failure_of(error)
        if failure is None:
            raise
    message = None if failure is None else str(failure)
    if parsed.json:
        print(summary.as_json(ok=failure is None, error=message), flush=True)
    if message is not None:
        print(f"stt: {message}", file=sys.stderr, flush=True)
    return int(Exit.DONE if failure is None else failure.code)
