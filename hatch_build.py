"""What the wheel gets beside what lies here: every lesson as a notebook, ready to open."""

import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Notebooks(BuildHookInterface):
    """Makes tutorials/NN_*.ipynb out of the scripts, which are their only source."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before the build: writes them, and says where they belong."""
        root = Path(self.root)
        specification = importlib.util.spec_from_file_location("notebook", root / "minimask/testing/notebook.py")
        assert specification is not None and specification.loader is not None
        converter = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(converter)
        self.made = Path(tempfile.mkdtemp(prefix="minimask-notebooks-"))
        for script in sorted((root / "tutorials").glob("[0-9][0-9]_*.py")):
            made = self.made / f"{script.stem}.ipynb"
            made.write_text(converter.notebook(script.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
            build_data["force_include"][str(made)] = f"minimask/tutorials/{made.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """After it: they are in the wheel."""
        shutil.rmtree(self.made, ignore_errors=True)
