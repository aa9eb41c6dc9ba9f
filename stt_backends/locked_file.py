"""Opening a file of this user's that several processes share, under a lock.

Rule: whoever has it open alone may write it or put another in its place, and what it is was checked before it is read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from stt_core.errors import StoreError


def open_locked(
    path: Path, flags: int, lock: Callable[[int], object], *, forbidden: int, foreign: str, open_to: str
) -> int:
    """The descriptor of ``path``, made with mode 0600 where it isn't there, once ``lock`` has locked it.

    ``flags`` are those of ``os.open`` beside what is always wanted, ``forbidden`` the mode bits that it may not have.

    :raises StoreError: ``foreign`` where it isn't a regular file of this user's, ``open_to`` where others may use it.
        ``OSError`` where it can't be opened.
    """
    while True:
        file = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            lock(file)
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                raise StoreError(foreign)
            if found.st_mode & forbidden:
                raise StoreError(open_to)
            try:
                same = os.stat(path).st_ino == found.st_ino
            except FileNotFoundError:
                same = False
            if same:
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # another has written it anew meanwhile
