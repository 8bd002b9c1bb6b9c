"""The rule that beans.toml names: how scores become a mask."""

from minimask import mask, op
from minimask.ops import cast


@op(surrogate=True)
def largest_of_each_unit(xp, scores, inputs):
    """Scores (inputs, units) -> 1 at the given number of the largest in every column, 0 elsewhere; as is, backwards."""
    rank = xp.argsort(xp.argsort(-scores, axis=0), axis=0)
    return cast(xp, rank < inputs, scores.dtype), lambda g: (g, None)


class FewInputs(mask.Supermask):
    """Every unit of a dense layer hears only so many inputs: those with the largest scores."""

    def __init__(self, *, inputs, **initial):
        super().__init__(**initial)
        self.settings |= {"inputs": inputs}

    def step(self, scores):
        return largest_of_each_unit(scores, self.settings["inputs"])
