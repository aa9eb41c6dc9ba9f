"""Fuzzing: bytes chosen by nobody, at every place where bytes of strangers or of a hostile peer come in.

Rule: a target is a plain function ``target_<name>(data: bytes) -> None`` that raises where an invariant is broken, and
is a pure function of ``data``. ``python -m fuzz --seconds N [target …]`` lets a fuzzer choose the bytes; the tests
replay ``fuzz/corpus/<name>/`` and some hundred mutations of it, with nothing installed.
"""
