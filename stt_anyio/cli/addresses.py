"""Where the other side is: ``HOST:PORT`` as people write it, and what that means to a socket."""

from __future__ import annotations

import socket
from queue import SimpleQueue
from threading import Thread
from typing import Any

from stt_anyio.cli.failure import Exit, Failure
from stt_backends.adapter.connecting import split_address
from stt_backends.websocket.url import is_url, parse_url
from stt_core.errors import ConfigurationError

Address = tuple[Any, ...]
"""As ``socket`` has it: ``(host, port)``, with two more items for IPv6."""


def parse_address(text: str) -> tuple[str, int]:
    """``HOST:PORT`` or ``[IPV6]:PORT``.

    :raises Failure: if it is neither.
    """
    try:
        return split_address(text)
    except ConfigurationError as error:
        raise Failure(Exit.USAGE, str(error)) from error


def parse_destination(text: str) -> tuple[str, int] | str:
    """``HOST:PORT``, or a ``ws://`` or ``wss://`` URL, which is returned as it is.

    :raises Failure: if it is none of these.
    """
    if not is_url(text):
        return parse_address(text)
    try:
        return str(parse_url(text))
    except ConfigurationError as error:
        raise Failure(Exit.USAGE, str(error)) from error


def parse_fallback(text: str | None) -> str | None:
    """What ``--fallback`` says: a URL.

    :raises Failure: if it says anything else.
    """
    if text is not None and not is_url(text):
        raise Failure(Exit.USAGE, f"--fallback is '{text}', expected a ws:// or wss:// URL")
    return None if text is None else str(parse_destination(text))


def spelled(host: str, port: int) -> str:
    """The way back from :func:`parse_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def resolve(host: str, port: int) -> list[Address]:
    """The addresses of ``host`` to try in turn: one per family, IPv4 first, which is what receivers listen on unless
    they were told to do otherwise.

    :raises Failure: if it has none.
    """
    # The system's resolver can hang for a minute and no signal ends it: so it runs where nobody has to wait for it.
    answers: SimpleQueue[list[Address] | Failure] = SimpleQueue()
    Thread(target=lambda: answers.put(_look_up(host, port)), daemon=True).start()
    answer = answers.get()
    if isinstance(answer, Failure):
        raise answer
    return answer


def _look_up(host: str, port: int) -> list[Address] | Failure:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError as error:
        return Failure(Exit.UNREACHABLE, f"can't resolve '{host}': {error.strerror or error}")
    except UnicodeError:
        return Failure(Exit.USAGE, f"'{host}' is not a host name")
    first: dict[int, Address] = {}
    for family, _, _, _, address in found:
        first.setdefault(family, address)
    usable = [first[family] for family in (socket.AF_INET, socket.AF_INET6) if family in first]
    return usable or Failure(Exit.UNREACHABLE, f"'{host}' has no IPv4 and no IPv6 address")
