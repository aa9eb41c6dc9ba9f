"""What an object keeps, whether Python or mypyc made its class."""

from __future__ import annotations


def names_of(thing: object) -> list[str]:
    """The names of the attributes of an object of a class with ``__slots__``, or of a compiled one, which has none."""
    kinds = type(thing).__mro__
    names = {name for kind in kinds for name in vars(kind).get("__mypyc_attrs__", vars(kind).get("__slots__", ()))}
    assert names, f"{type(thing).__name__} keeps nothing"
    return sorted(names)
