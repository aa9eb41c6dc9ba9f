"""Print the requirements of the named dependency groups of pyproject.toml, one a line, for ``pip install -r``.

pip 23 cannot read ``[dependency-groups]`` (PEP 735); Python 3.11 can. This keeps one list of what developing needs.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any


def requirements(groups: dict[str, list[Any]], name: str, within: tuple[str, ...] = ()) -> list[str]:
    """The requirement lines of group ``name``, its included groups unfolded.

    :raises ValueError: for an unknown group, a group that includes itself, or an entry that is neither a
        requirement nor an include.
    """
    if name not in groups:
        raise ValueError(f"no dependency group {name!r}; there are: {', '.join(sorted(groups))}")
    if name in within:
        raise ValueError(f"dependency groups include each other: {' -> '.join((*within, name))}")
    lines: list[str] = []
    for entry in groups[name]:
        if isinstance(entry, str):
            lines.append(entry)
        elif isinstance(entry, dict) and set(entry) == {"include-group"}:
            lines += requirements(groups, entry["include-group"], (*within, name))
        else:
            raise ValueError(f"dependency group {name!r} has an entry that is not understood: {entry!r}")
    return lines


def main(names: list[str]) -> None:
    """Print the union of the groups ``names``, in order, without duplicates."""
    pyproject = Path(__file__).resolve().parent.parent / "pyproject.toml"
    groups = tomllib.loads(pyproject.read_text(encoding="utf-8"))["dependency-groups"]
    for line in dict.fromkeys(line for name in names for line in requirements(groups, name)):
        print(line)


if __name__ == "__main__":
    main(sys.argv[1:])
