"""Trained nets that come with the package, some kilobytes each: zoo.load("fcn", seed=1). `minimask zoo` lists them."""

from .nets import ENDING, Entry, entries, find, load, masked, path_of

__all__ = ["ENDING", "Entry", "entries", "find", "load", "masked", "path_of"]
