"""The command line: what may be said, and what ``--help`` says about it."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any, NoReturn

from stt_anyio.cli.commands import receive, send
from stt_anyio.cli.content import fetch, publish
from stt_anyio.cli.demo import demo
from stt_anyio.cli.dht import ACTIONS, dht
from stt_anyio.cli.failure import Exit, Failure
from stt_anyio.cli.forward import forward, serve
from stt_anyio.cli.output import emit
from stt_backends.adapter.building import TRANSPORTS

MAX_DEMO = 1024 * 1024
"""MiB: a TiB."""
_EPILOG = """\
The shared seed is taken from STT_SHARED_SEED, from the file named by STT_SEED_FILE, or asked for on a terminal. It is
never an argument, which every user of the machine could read.

exit codes:
    0  done: every file is stored
    1  a bug in this program
    2  usage: arguments, seed, files that can't be read, a port that can't be had
    3  the other side can't be reached, or was lost
    4  the other side holds another seed
    5  integrity or disk: a file was refused, couldn't be stored, or changed under way
  129, 130, 143  ended by a signal: hangup, Ctrl-C, kill
Of several failures the first counts; each gets its line on stderr.
"""


class _Parser(argparse.ArgumentParser):
    """Mistakes are told in one line, as all failures are."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            **settings, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )

    def error(self, message: str) -> NoReturn:
        raise Failure(Exit.USAGE, f"{message} (see {self.prog} --help)")


class _Version(argparse.Action):
    """Looks the version up only when it is asked for, which takes a while."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        try:
            version = metadata.version("stt-transport")
        except metadata.PackageNotFoundError:
            version = "unknown (not installed)"
        emit(f"stt {version}\n")
        parser.exit()


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _seconds(text: str, most: int = 3600) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0, at most {most}")
    return seconds


def _rate(text: str) -> float:
    number, factor = text, 1
    if text[-1:].upper() in _FACTORS:
        number, factor = text[:-1], _FACTORS[text[-1].upper()]
    try:
        rate = float(number) * factor
    except ValueError:
        rate = 0.0
    if not 1 <= rate <= 10**12:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes a second, such as 500K or 10M")
    return rate


_FACTORS = {"K": 10**3, "M": 10**6, "G": 10**9}


def _day(text: str) -> float:
    return _seconds(text, 86400)


def _size(text: str) -> int:
    size = _number(text)
    if not 0 <= size <= MAX_DEMO:
        raise argparse.ArgumentTypeError(f"{size} is not between 0 and {MAX_DEMO}")
    return size


def _port(text: str) -> int:
    port = _number(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is not between 0 and 65535")
    return port


def _path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("a path is empty")
    return text


def _host(text: str) -> str:
    return text.removeprefix("[").removesuffix("]")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """What the command line says; ``run`` in it is the command's function. Where ``--debug`` is given, logs begin.

    :raises Failure: if it says nothing that makes sense. ``SystemExit``: after ``--help`` and ``--version``.
    """
    parsed = _parser().parse_args(arguments)
    if parsed.debug:
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    return parsed


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="stt", description="Move files and TCP connections privately between two machines that share a seed."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    common = _Parser(add_help=False)
    common.add_argument("--json", action="store_true", help="end with one line of JSON on stdout, whatever happens")
    common.add_argument("--debug", action="store_true", help="show logs, and the traces of errors")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    sender = commands.add_parser("send", parents=[common], help="send files to a receiver")
    sender.add_argument("files", type=_path, nargs="+", metavar="FILE")
    sender.add_argument(
        "address", metavar="HOST:PORT", help="of the receiver (an IPv6 address in [brackets]), or its ws:// URL"
    )
    _add_timeout(sender, "receiver")
    _add_fallback(sender)
    sender.add_argument(
        "--retry",
        type=_day,
        default=0.0,
        metavar="SECONDS",
        help="how long to look for a receiver that was lost under way, and go on (default not at all)",
    )
    sender.set_defaults(run=send)

    receiver = commands.add_parser("recv", parents=[common], help="store files that are sent")
    receiver.add_argument(
        "directory", type=_path, nargs="?", default=".", metavar="DIR", help="where to (default here)"
    )
    _add_listening(receiver)
    receiver.add_argument("--once", action="store_true", help="exit after one session")
    receiver.set_defaults(run=receive)

    _add_forwarding(commands, common)

    shown = commands.add_parser(
        "demo", parents=[common], help="see a file cross between two processes, and UDP cut half-way"
    )
    shown.add_argument("--size", type=_size, default=64, metavar="MB", help="MiB to move (default 64)")
    shown.set_defaults(run=demo)

    asking = commands.add_parser("dht", parents=[common], help="ask a DHT who is there, and who provides what")
    asking.add_argument(
        "action",
        choices=ACTIONS,
        help="ping: is HOST:PORT a node, and which; find: the nodes nearest to an ID; providers: who has content ID",
    )
    asking.add_argument("what", metavar="HOST:PORT|ID", help="an ID is 64 hex digits")
    _add_bootstrap(asking, "a node to begin with; may be repeated")
    asking.set_defaults(run=dht)
    _add_content(commands, common)
    return parser


def _add_content(commands: Any, common: argparse.ArgumentParser) -> None:
    """``publish`` and ``fetch``."""
    publisher = commands.add_parser("publish", parents=[common], help="serve a file to all who fetch it by its id")
    publisher.add_argument("file", type=_path, metavar="PATH")
    publisher.add_argument(
        "--port", type=_port, default=0, help="port to be found and fetched from at (default any free one)"
    )
    publisher.add_argument(
        "--upload-limit",
        type=_rate,
        metavar="RATE",
        help="bytes a second that all who fetch are sent together; 500K and 10M are 500,000 and 10,000,000",
    )
    publisher.set_defaults(run=publish)

    fetcher = commands.add_parser("fetch", parents=[common], help="fetch a file by its id from all who have some of it")
    fetcher.add_argument("content", metavar="ID", help="64 hex digits, as 'stt publish' says")
    fetcher.add_argument("-o", "--output", type=_path, required=True, metavar="FILE", help="where to store it")
    fetcher.add_argument(
        "--timeout",
        type=_seconds,
        default=30.0,
        metavar="SECONDS",
        help="how long to go on while nobody brings anything (default 30)",
    )
    fetcher.set_defaults(run=fetch)
    for each in (publisher, fetcher):
        _add_bind(each)
        _add_bootstrap(each, "a node of the DHT to begin with; may be repeated")
        each.add_argument(
            "--private",
            action="store_true",
            help="a DHT among those who hold the seed, and nobody else; for all of them, or for none",
        )
    publisher.add_argument(
        "--store", type=_path, metavar="DIR", help="keep the content there (default: a temporary directory)"
    )
    fetcher.add_argument(
        "--store",
        type=_path,
        metavar="DIR",
        help="keep what was fetched there (default: FILE.stt, which is removed when FILE is whole)",
    )


def _add_timeout(parser: argparse.ArgumentParser, who: str) -> None:
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help=f"how long to wait for the {who} (default 10)",
    )


def _add_fallback(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fallback",
        metavar="URL",
        help="ws:// or wss:// URL to go on by where UDP doesn't get through any more (default ws://HOST:PORT/)",
    )


def _add_bind(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bind", type=_host, default="0.0.0.0", metavar="ADDR", help="address to listen on (default all of IPv4)"
    )


def _add_bootstrap(parser: argparse.ArgumentParser, help_text: str) -> None:
    parser.add_argument("--bootstrap", action="append", default=[], metavar="HOST:PORT", help=help_text)


def _add_listening(parser: argparse.ArgumentParser) -> None:
    _add_bind(parser)
    parser.add_argument("--port", type=_port, default=0, help="port to listen on (default any free one)")
    parser.add_argument(
        "--transport", choices=TRANSPORTS, default="udp", help="what to listen by (default udp); both share the port"
    )


def _add_forwarding(commands: Any, common: argparse.ArgumentParser) -> None:
    serving = commands.add_parser("serve", parents=[common], help="connect those who hold the seed to TCP ports")
    serving.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="what may be connected to from here, spelled as forward spells it; may be repeated; nothing else is",
    )
    _add_listening(serving)
    serving.add_argument(
        "--keep",
        type=_day,
        default=3600.0,
        metavar="SECONDS",
        help="how long the connections of a client that fell silent are kept for it (default 3600)",
    )
    serving.set_defaults(run=serve)

    forwarding = commands.add_parser("forward", parents=[common], help="make a TCP port of the other side one of here")
    forwarding.add_argument("local_port", type=_port, metavar="LOCALPORT", help="to listen on; 0 is any free one")
    forwarding.add_argument(
        "address",
        metavar="HOST:PORT",
        help="where 'stt serve' listens (an IPv6 address in [brackets]), or its ws:// URL",
    )
    forwarding.add_argument(
        "target", metavar="REMOTEHOST:REMOTEPORT", help="what to connect to from there; it must be allowed there"
    )
    forwarding.add_argument(
        "--bind", type=_host, default="127.0.0.1", metavar="ADDR", help="address to listen on (default 127.0.0.1)"
    )
    _add_fallback(forwarding)
    _add_timeout(forwarding, "other side")
    forwarding.set_defaults(run=forward)
