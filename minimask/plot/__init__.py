"""Pictures (extra ``plot``): figures (pictures.py), the tape as Mermaid text (mermaid.py), pages of HTML (page.py)."""

from ..errors import MissingMatplotlib
from ..display import HIDDEN, INVERTED, KEPT
from .mermaid import graph
from .pictures import (COLOURS, MARKERS, accuracy_against_weights, mask_colours, mask_legend, masks, new_figure, png,
                       show, svg, training)

__all__ = ["COLOURS", "HIDDEN", "INVERTED", "KEPT", "MARKERS", "MissingMatplotlib", "accuracy_against_weights",
           "graph", "mask_colours", "mask_legend", "masks", "new_figure", "png", "show", "svg", "training"]
