"""What a trained mask learned: counted (counts.py), drawn (figures.py), and explained on one page (page.py)."""

from .counts import (CHANGES, Masks, changed, class_means, degrees, groups, masks, over_the_image, paths, patterns,
                     pixels, shares, shuffled, signs, worth)

__all__ = ["CHANGES", "Masks", "changed", "class_means", "degrees", "groups", "masks", "over_the_image", "paths",
           "patterns", "pixels", "shares", "shuffled", "signs", "worth"]
