"""Pictures (extra ``plot``): figures (pictures.py), the tape as Mermaid text (mermaid.py), a training
step to step through (stepper.py), pages of HTML (page.py)."""

from ..errors import MissingMatplotlib
from ..display import HIDDEN, INVERTED, KEPT
from .mermaid import graph
from .pictures import (COLOURS, MARKERS, accuracy_against_weights, chart, mask_colours, mask_legend, masks,
                       new_figure, png, show, svg, training)
from .stepper import step

__all__ = ["COLOURS", "HIDDEN", "INVERTED", "KEPT", "MARKERS", "MissingMatplotlib", "accuracy_against_weights", "chart",
           "graph", "mask_colours", "mask_legend", "masks", "new_figure", "png", "show", "step", "svg", "training"]
