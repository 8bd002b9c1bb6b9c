"""A small training that test_survival.py kills: python survivor.py FOLDER EPOCHS [MOMENT].

It goes on where there is a checkpoint, and spends half of its time on writing them. At MOMENT, which lies in the writing
of its second checkpoint, it kills itself.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from minimask import checkpoint, data, files, recipes, runs

#: The call at each moment, which of its times, and whether the kill comes before it, after it, or halfway.
MOMENTS = {"half of the arrays": (files, "write_arrays", 2, "half"),
           "before the disk has it": (os, "fsync", 3, "before"),  # of the file and of the folder, in turn
           "before the rename": (os, "replace", 2, "before"),
           "after the rename": (os, "replace", 2, "after")}


def kill_at(moment: str) -> None:
    """Replaces the moment's call by one that kills this process."""
    owner, name, at, when = MOMENTS[moment]
    real, calls = getattr(owner, name), []

    def call(*arguments):
        if not str(arguments[-1]).endswith(".json"):  # a record is renamed, too
            calls.append(1)
        if len(calls) < at:
            return real(*arguments)
        if when == "half":
            archive, arrays = arguments
            real(archive, dict(list(arrays.items())[:len(arrays) // 2]))
            archive.fp.flush()
        elif when == "after":
            real(*arguments)
        return os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, call)


def main(folder: Path, epochs: int, moment: str | None = None) -> None:
    checkpoint.SHARE = 0.5
    if moment:
        kill_at(moment)
    recipe = replace(recipes.find("digits"), epochs=epochs, schedule_settings={"epochs": 2.0}, wd=0.1,
                     source_settings={"tau": 0.005})  # units die from epoch 3 on
    resume = (folder / runs.CHECKPOINT).exists()
    runs.run(recipe, data.digits(), 0, folder, overwrite=not resume, resume=resume, every=0.0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
