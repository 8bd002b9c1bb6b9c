"""Data sets (sets.py) from files that are checked (files.py), fetched on demand (fetch.py, download.py, archive.py).

own.py makes them of arrays and tables that users have, folder.py of folders of pictures, named.py finds one by its
name. preprocess.py is what is done to images before a net sees them. images.py reads what `minimask predict` is given.
"""

from .files import DataError
from .named import KINDS, VALIDATION, blank, kind_of, load, outline, refuse_other
from .preprocess import PREPROCESSINGS, Preprocess, fitted, refuse_faint, refuse_no_numbers, standardise
from .sets import DATASETS, OUTLINES, Dataset, augment, cifar10, cifar100, digits, fashion_mnist, mnist, validation

__all__ = ["DATASETS", "KINDS", "OUTLINES", "PREPROCESSINGS", "VALIDATION", "DataError", "Dataset", "Preprocess",
           "augment", "blank", "cifar10", "cifar100", "digits", "fashion_mnist", "fitted", "from_arrays", "from_csv",
           "from_folder", "from_npz", "kind_of", "load", "mnist", "outline", "refuse_faint", "refuse_no_numbers",
           "refuse_other", "standardise", "validation"]


def __getattr__(name: str) -> object:
    """Readers of what users have, which are imported when somebody has something: `import minimask` stays quick."""
    if name in ("from_arrays", "from_csv", "from_npz", "from_folder"):
        import importlib

        return getattr(importlib.import_module(f"{__name__}.{'folder' if name == 'from_folder' else 'own'}"), name)
    raise AttributeError(f"minimask.data has no {name!r}")
