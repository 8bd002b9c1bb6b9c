"""A trained net as one small file: written and read (file.py); its header (header.py), its codecs (ternary.py)."""

from .file import HEADER_LIMIT, Exported, ExportError, dense_weights, encoded, load, read, save

__all__ = ["HEADER_LIMIT", "ExportError", "Exported", "dense_weights", "encoded", "load", "read", "save"]
