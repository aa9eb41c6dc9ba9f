"""Where the shared seed of a command comes from.

Rule: it is had before the event loop runs, so that the prompt can be left, and shown nowhere.
"""

from __future__ import annotations

import getpass
import logging
import os
import sys

from stt_anyio.cli.failure import Exit, Failure
from stt_anyio.cli.output import say
from stt_backends.seed import FILE_VARIABLE, SEED_VARIABLE, load_shared_seed
from stt_core.handshake import weak_seed_reason


def shared_seed() -> bytes:
    """The seed from the environment, a file or, on a terminal, a prompt; never from the command line.

    :raises Failure: or ``ConfigurationError`` if there is none.
    """
    prompt = _typed_seed if sys.stdin is not None and sys.stdin.isatty() else None
    if prompt is None and not os.environ.get(SEED_VARIABLE) and not os.environ.get(FILE_VARIABLE):
        raise Failure(
            Exit.USAGE,
            f"no shared seed: set {SEED_VARIABLE} to it, or {FILE_VARIABLE} to the name of a file that holds it; both "
            "sides need the same one",
        )
    warnings = logging.StreamHandler(sys.stderr)
    warnings.setFormatter(logging.Formatter("stt: warning: %(message)s"))
    logger = logging.getLogger("stt.seed")
    logger.addHandler(warnings)
    try:
        seed = load_shared_seed(os.environ, prompt)
    finally:
        logger.removeHandler(warnings)
    weakness = weak_seed_reason(seed)
    if weakness is not None:
        say(f"stt: warning: the shared seed is weak: {weakness}")
    return seed


def _typed_seed() -> str:
    typed = None
    try:
        typed = getpass.getpass("shared seed: ")
    except EOFError:
        raise Failure(Exit.USAGE, "no seed was typed") from None
    except UnicodeDecodeError:  # which carries what was typed
        raise Failure(Exit.USAGE, "what was typed is not text") from None
    finally:
        if typed is None and sys.stderr.isatty():
            print(file=sys.stderr)  # end the line of the prompt
    return typed
