"""`minimask recipes`: the table of recipes; `minimask recipes NAME`: one of them as TOML."""

from __future__ import annotations

from collections.abc import Sequence

from .. import recipes
from ..display import columns
from .common import Parser


def command(words: Sequence[str]) -> None:
    """Prints all recipes, or the one asked for, which `minimask train FILE.toml` takes back."""
    options = _parser().parse_args(words)
    if options.recipe:
        print(recipes.find(options.recipe).toml(), end="")
        return
    print(*columns([("recipe", "data", "weights", "epochs", "paper: test", "left", "measured: test", "left"), *(
        (recipe.name, recipe.dataset, f"{recipe.size():,}", str(recipe.epochs), *_result(recipes.PAPER, recipe.name),
         *_result(recipes.MEASURED, recipe.name)) for recipe in recipes.RECIPES.values())], left=2), sep="\n")
    print("\ntest accuracy and weights left, percent; what a name means: minimask recipes --help")


def _result(results: dict[str, tuple[float, float]], name: str) -> tuple[str, str]:
    accuracy, left = (f"{100 * share:.2f}" for share in results[name]) if name in results else ("-", "-")
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
