"""Names that users import: those of the documentation, and whatever README, tutorials and benchmarks take."""

import ast
import importlib
import re
import subprocess
import sys

import pytest
from pages import ALL, ROOT, blocks

RECIPES = "BinarySupermask EdgePopup SignedSupermask Trained"
#: Module -> what may be imported from it, today and in any later version of this number.
NAMES = {
    "minimask": "MinimaskError Tensor UsageError no_grad op ops plain mask models train data plot recipes optim init nn conv "
                "testing checkpoint __version__",
    "minimask.backend": "MinimaskError OutOfMemory UsageError asarray load namespace place plain to_host",
    "minimask.engine": "FAST OPS Tensor no_grad op unbroadcast",
    "minimask.ops": "conv2d max_pool2d avg_pool2d global_avg_pool batch_norm keep_hide_invert keep_hide keep_largest "
                    "cross_entropy softmax log_softmax matmul take where elu relu add multiply",
    "minimask.conv": "conv2d max_pool2d",
    "minimask.init": "draw fans xavier he elu elus",
    "minimask.mask": RECIPES + " Supermask WeightSource keep_hide_invert keep_hide keep_largest",
    "minimask.nn": "BatchNorm Conv2D Dense ELU Flatten GlobalAvgPool Layer MaxPool2D ReLU Residual Sequential",
    "minimask.models": "MODELS fcn conv2 conv4 conv6 conv8 resnet resnet20 resnet56 resnet110",
    "minimask.optim": "Plateau SGD SGDW constant exponential",
    "minimask.train": "Progress Training TrainingError environment evaluate fit new_record source_digest",
    "minimask.data": "Dataset augment digits load standardise validation",
    "minimask.checkpoint": "load peek save",
    "minimask.plot": "MissingMatplotlib graph masks training",
    "minimask.recipes": "Recipe find from_dict",
    "minimask.runs": "load run",
    "minimask.anatomy": "", "minimask.interchange": "", "minimask.export": "", "minimask.predict": "classify forward",
    "minimask.prune": "Fixed prune size", "minimask.cli": "", "minimask.files": "",
    "minimask.testing": "GradientError gradcheck", "minimask.testing.plugin": "", "minimask.testing.oracle": "compare"}


@pytest.mark.parametrize("module", NAMES)
def test_a_public_name_is_there(module):
    there = importlib.import_module(module)
    for name in NAMES[module].split():
        assert getattr(there, name, None) is not None, name
        exec(f"from {module} import {name}", {})


def test_layers_and_ops_of_other_files_are_found_where_they_are_looked_for():
    from minimask import conv, mask, nn, ops, resnet

    assert nn.BatchNorm is resnet.BatchNorm and ops.batch_norm is resnet.batch_norm
    assert ops.keep_hide_invert is mask.keep_hide_invert and ops.conv2d is conv.conv2d
    assert {"batch_norm", "conv2d", "keep_hide_invert"} <= set(dir(ops))

    class Mine(nn.Layer):
        pass

    for name in ("Nothing", Mine.__name__):  # a layer of somebody else's is not nn's
        with pytest.raises(AttributeError, match=f"minimask.nn has no '{name}'"):
            getattr(nn, name)


def taken(source):
    """(module, name) of everything that a Python source imports from minimask or reads from its modules."""
    tree, aliases = ast.parse(source), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "minimask":
            for alias in node.names:
                yield node.module, alias.name
                aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == "minimask":
                    aliases[alias.asname or alias.name] = "minimask"
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and isinstance(node.ctx, ast.Load):
            module = aliases.get(node.value.id)
            if module and node.value.id not in stored and module.removeprefix("minimask").strip(".").islower():
                yield module, node.attr


def is_there(module, name):
    """Whether `from module import name` works; True where `module` is no module but a function, say."""
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError:
        return True
    if hasattr(found, name):
        return True
    try:
        importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError:
        return False
    return True


SOURCES = [path for folder in ("tutorials", "tutorials/exercises", "benchmarks", "tests/solutions", *(
    f"examples/{name}" for name in ("pictures", "table", "heads", "grid")))
           for path in sorted((ROOT / folder).glob("*.py"))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_a_script_takes_from_minimask_is_there(path):
    missing = [f"{module}.{name}" for module, name in taken(path.read_text(encoding="utf-8")) if not is_there(module, name)]
    assert not missing


def test_what_the_pages_examples_take_is_there():
    names = [pair for block in blocks("python") for pair in taken(block)]
    assert len(names) > 10 and all(is_there(*pair) for pair in names)
    for dotted in re.findall(r"`minimask\.([a-z_.]+)\(", ALL):
        module, _, name = f"minimask.{dotted}".rpartition(".")
        assert is_there(module, name), dotted


def test_the_search_finds_what_is_not_there():
    assert [pair for pair in taken("from minimask import ops, nothing\nops.nonsense(1)\n") if not is_there(*pair)] == [
        ("minimask", "nothing"), ("minimask.ops", "nonsense")]


def test_importing_minimask_touches_neither_random_numbers_nor_matplotlib_nor_servers():
    code = ("import sys, minimask\nprint([name for name in ('numpy.random', 'matplotlib', 'urllib.request', 'zipfile', "
            "'hashlib', 'multiprocessing', 'minimask.cli', 'minimask.runs', 'minimask.anatomy') if name in sys.modules])")
    code = code if "numpy.random" not in modules_of_numpy() else code.replace("'numpy.random', ", "")  # NumPy before 2.5
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def modules_of_numpy():
    return subprocess.run([sys.executable, "-c", "import sys, numpy; print(*sys.modules)"], capture_output=True, text=True,
                          check=True).stdout.split()
