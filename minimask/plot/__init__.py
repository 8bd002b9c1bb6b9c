"""Pictures (extra ``plot``): figures (pictures.py, planes.py), charts drawn once (drawing.py), the tape as Mermaid
text, a training step to step through (stepper.py), pages of HTML (page.py)."""

from ..errors import MissingMatplotlib
from ..display import HIDDEN, INVERTED, KEPT
from .drawing import Picture, figure, svg
from .mermaid import graph
from .pictures import (COLOURS, MARKERS, accuracy_against_weights, chart, course, new_figure, pdf, png, show, trade_off,
                       training)
from .planes import gallery, maps, mask_colours, mask_legend, masks
from .stepper import step

__all__ = ["COLOURS", "HIDDEN", "INVERTED", "KEPT", "MARKERS", "MissingMatplotlib", "Picture",
           "accuracy_against_weights", "chart", "course", "figure", "gallery", "graph", "maps", "mask_colours",
           "mask_legend", "masks", "new_figure", "pdf", "png", "show", "step", "svg", "trade_off", "training"]
