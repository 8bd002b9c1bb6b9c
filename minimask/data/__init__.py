"""Data sets (sets.py) from files that are checked (files.py), fetched on demand (fetch.py, download.py, archive.py).

images.py reads what `minimask predict` is given.
"""

from .files import DataError
from .preprocess import PREPROCESSINGS, Preprocess, refuse_faint, refuse_no_numbers, standardise
from .sets import (DATASETS, OUTLINES, Dataset, augment, blank, cifar10, cifar100, digits, fashion_mnist, load,
                   mnist, outline, validation)

__all__ = ["DATASETS", "OUTLINES", "PREPROCESSINGS", "DataError", "Dataset", "Preprocess", "augment", "blank",
           "cifar10", "cifar100", "digits", "fashion_mnist", "load", "mnist", "outline", "refuse_faint",
           "refuse_no_numbers", "standardise", "validation"]
