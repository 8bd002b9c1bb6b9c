"""A lesson's script as a notebook, with the standard library alone: building a wheel calls it, too (hatch_build.py).

The scripts are in jupytext's percent format, of which they use three lines: `# %% [markdown]` begins a cell whose text
is commented out, `# %%` one of code, and what follows in the line is `name=JSON`, metadata of the cell.
"""

from __future__ import annotations

import json
import re
from typing import Any

LESSON = r"(\d\d_\w+)\.py"  # the name of a lesson's script
HEAD = re.compile(r"^# %%(?P<markdown> \[markdown\])?(?P<metadata>(?: \w+=.*)?)$", re.MULTILINE)


def notebook(script: str) -> str:
    """The text of a script -> the text of a notebook without output; its names of lessons are those of notebooks."""
    heads = list(HEAD.finditer(script))
    cells: list[dict[str, Any]] = []
    for number, (head, following) in enumerate(zip(heads, [*heads[1:], None])):
        text = script[head.end():following.start() if following else None].strip("\n")
        pairs = re.fullmatch(r" (\w+)=(.*)", head["metadata"])
        metadata = {pairs[1]: json.loads(pairs[2])} if pairs else {}
        if head["markdown"]:
            text = as_notebooks(re.sub(r"(?m)^# ?", "", text))
            cells.append({"cell_type": "markdown", "id": f"cell-{number}", "metadata": metadata,
                          "source": _lines(text)})
        else:
            cells.append({"cell_type": "code", "execution_count": None, "id": f"cell-{number}", "metadata": metadata,
                          "outputs": [], "source": _lines(text)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    made = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def as_notebooks(text: str) -> str:
    """The text with every name of a lesson's script as that of its notebook."""
    return re.sub(LESSON, r"\1.ipynb", text)


def cells(text: str) -> list[str]:
    """What a notebook says, cell by cell, without what running it has added; [] for what is none."""
    try:
        return ["".join(cell["source"]) for cell in json.loads(text)["cells"]]
    except (ValueError, KeyError, TypeError):
        return []


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)
