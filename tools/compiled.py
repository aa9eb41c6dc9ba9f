"""The optional compiled wheel: a build hook of hatchling that runs mypyc over the hot modules of the core.

Rule: off unless asked for by ``HATCH_BUILD_HOOK_ENABLE_CUSTOM=true``, and then all or nothing: a module that does not
compile ends the build. Which modules, and why these, stands in pyproject.toml, under ``hooks.custom``. The wheel holds
their sources too, so that traces show lines; Python prefers the compiled file beside them. Nothing is written into the
source tree, which stays what it is: pure.
"""

from __future__ import annotations

import shutil
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

GROUP = "stt_core"
"""Names the one library that holds all the code, ``stt_core__mypyc``; the modules' own files only refer to it."""


class CompiledModules(BuildHookInterface):  # hatchling looks for the one subclass in this file
    """Puts compiled modules into a wheel, beside their sources."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; ``build_data`` learns of the results, and that the wheel is for this Python and machine only.

        An editable installation is left as it is: there the source is what should run.
        """
        if version == "editable":
            return
        self._folder = TemporaryDirectory(prefix="stt-compiled-")  # until the wheel is written: see finalize
        folder = Path(self._folder.name).resolve()
        shutil.copytree(Path(self.root, "stt_core"), folder / "stt_core")
        with chdir(folder):
            built = compile_modules(self.config["modules"])
        build_data["force_include"].update({str(folder / "built" / name): name for name in built})
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was built: it is in the wheel now."""
        if version != "editable":
            self._folder.cleanup()


def compile_modules(names: list[str]) -> list[str]:
    """Compile the modules of these dotted names, whose sources are below the current directory, into ``built``.

    Returns the paths of the results, relative to that. What the compiler doesn't accept ends the process.
    """
    # They come with the build's own environment, and only where the hook is on.
    from mypyc.build import mypycify  # noqa: PLC0415
    from setuptools import Distribution  # noqa: PLC0415
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415

    files = [f"{name.replace('.', '/')}.py" for name in names]
    # No configuration: how strictly sources are checked is the linter's affair, and was settled before.
    extensions = mypycify(["--config-file=", *files], group_name=GROUP)
    command = build_ext(Distribution({"name": GROUP, "ext_modules": extensions}))
    command.build_lib, command.build_temp = "built", "objects"
    command.ensure_finalized()
    command.run()
    return [str(path.relative_to("built")) for path in Path("built").rglob("*") if path.is_file()]
