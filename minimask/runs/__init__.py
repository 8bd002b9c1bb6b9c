"""Runs: one in its folder (folder.py), many at a time (sweep.py, cluster.py), and what they came to.

records.py finds and checks what runs have left, report.py makes tables and a page of it, compare.py lays two masks
side by side.
"""

from .folder import (CHECKPOINT, FILES, LOG, called, claim, drawn, finished, load, loss_of, name_of, peek, read_record,
                     run, save, write_pictures, write_record)
from .images import dataset_of, prepare_of

__all__ = ["CHECKPOINT", "FILES", "LOG", "called", "claim", "dataset_of", "drawn", "finished", "load", "loss_of",
           "name_of", "peek", "prepare_of", "read_record", "run", "save", "write_pictures", "write_record"]
