"""Where the shared seed comes from when the program doesn't pass one.

Rule: never from a command line argument, which every user of the machine can read, and never from a default. The seed
is returned and nothing else: no message, log record or traceback of this module contains any part of it.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Mapping

from stt_core.errors import ConfigurationError

logger = logging.getLogger("stt.seed")

SEED_VARIABLE = "STT_SHARED_SEED"
"""Holds the seed itself, as UTF-8 text."""
FILE_VARIABLE = "STT_SEED_FILE"
"""Names a file that holds the seed: any bytes, less one newline at the end."""
MAX_SEED = 1024
"""Bytes; the limit of ``EndpointConfig.shared_seed``."""


def load_shared_seed(environ: Mapping[str, str], prompt: Callable[[], str] | None = None) -> bytes:
    """The shared seed, 1 to 1024 bytes, from the first of these that is there and not empty.

    1. ``STT_SHARED_SEED``: the seed. Bytes that aren't UTF-8 pass as they are.
    2. ``STT_SEED_FILE``: the name of a file, pipe or device to read it from. One newline at its end (LF or CRLF), which
       editors and ``echo`` add, is not part of the seed. A file that everybody on the machine may read is used, with a
       warning in the log.
    3. ``prompt()``, if given: asks the user and returns what they typed, such as ``getpass.getpass``.

    :param environ: ``os.environ``, or any mapping.
    :raises ConfigurationError: if no seed is to be had, naming both variables; if the file can't be read or the seed is
        empty or too long, naming where it came from.
    """
    if text := environ.get(SEED_VARIABLE):
        return _encoded(text, SEED_VARIABLE)
    if path := environ.get(FILE_VARIABLE):
        return _from_file(path)
    if prompt is not None:
        return _encoded(prompt(), "the seed that was typed")
    raise ConfigurationError(
        f"no shared seed: pass shared_seed=, set {SEED_VARIABLE} to the seed, or set {FILE_VARIABLE} to the name of a "
        "file that holds it; both sides need the same one"
    )


def _encoded(text: str, source: str) -> bytes:
    try:
        seed = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        seed = None  # and out of the handler: that exception carries the whole text, and would be shown as the cause
    if seed is None:
        raise ConfigurationError(f"{source} is not text that UTF-8 can encode")
    return _checked(seed, source)


def _from_file(path: str) -> bytes:
    source = f"the file {path!r} named by {FILE_VARIABLE}"
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            # Not the whole: it may be a device without an end. Two more bytes are the newline's.
            content = file.read(MAX_SEED + 3)
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "not a valid file name"
        raise ConfigurationError(f"{source} can't be read: {reason}") from error
    # Windows has no such bits: Python makes them up there.
    if os.name == "posix" and stat.S_ISREG(mode) and mode & stat.S_IROTH:
        logger.warning("%s can be read by every user of this machine: chmod 600 it", source)
    return _checked(content.removesuffix(b"\n").removesuffix(b"\r") if content.endswith(b"\n") else content, source)


def _checked(seed: bytes, source: str) -> bytes:
    if not seed:
        raise ConfigurationError(f"{source} is empty, expected 1 to {MAX_SEED} bytes")
    if len(seed) > MAX_SEED:
        raise ConfigurationError(f"{source} is too long, expected 1 to {MAX_SEED} bytes")
    return seed
