"""`minimask recipes`: the table of recipes; `minimask recipes NAME`: one of them as TOML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from .. import recipes
from ..display import columns
from .common import Parser

Results = Mapping[str, tuple[float, float]]
MARK = "†"


def command(words: Sequence[str]) -> None:
    """Prints all recipes, or the one asked for, which `minimask train FILE.toml` takes back."""
    options = _parser().parse_args(words)
    if options.recipe:
        print(recipes.find(options.recipe).toml(), end="")
        return
    head = ("recipe", "data", "weights", "epochs", "paper: test", "left", "measured: test", "left")
    rows = [(recipe.name, recipe.dataset, f"{recipe.size():,}", str(recipe.epochs),
              *_result(recipe.name, recipes.PAPER), *_result(recipe.name, recipes.MEASURED, recipes.MEASURED_ON_COPIES))
             for recipe in recipes.RECIPES.values()]
    print(*columns([head, *rows], left=2), sep="\n")
    print("\ntest accuracy and weights left, percent; what a name means: minimask recipes --help\n"
          f"{MARK} one seed, on JPEG copies of CIFAR-10: not comparable with the paper's")


def _result(name: str, results: Results, on_copies: Results = MappingProxyType({})) -> tuple[str, str]:
    """Both numbers of a recipe as text; marked where they were measured on copies."""
    found, mark = (results, "") if name in results else (on_copies, MARK)
    accuracy, left = (f"{100 * share:.2f}{mark}" for share in found[name]) if name in found else ("-", "-")
    return accuracy, left


def _parser() -> Parser:
    parser = Parser(prog="minimask recipes",
                    description="List what can be trained, or show one recipe as TOML.",
                    epilog="names, with conv2 for any net of the paper:\n"
                           "  conv2                    signed supermask, one absolute threshold (tau 0.01)\n"
                           "  conv2-published-config   the published rule: tau_ratio of each layer's largest score\n"
                           "  resnet20, resnet20-tau   ResNets: the published rule; the absolute threshold\n"
                           "  conv2-dense              the dense baseline\n"
                           "  conv2-extreme            pruned further; -extreme-published-config: by the other rule\n"
                           "  conv2-binary             keep or hide (after Zhou et al. 2019)\n"
                           "  conv2-edge-popup[-30]    the largest 10 % (30, 50) kept (after Ramanujan et al. 2020)\n"
                           "  fcn-he-xavier            initialisations: frozen weights he, scores xavier\n"
                           "  fcn-uniform              signed supermask on uniform weights\n\n"
                           "example:\n  minimask recipes fcn > my.toml    # change it, its name too\n"
                           "  minimask train my.toml --data DIR")
    parser.add_argument("recipe", nargs="?", help="a name from the list, or a file NAME.toml, which is checked")
    return parser
