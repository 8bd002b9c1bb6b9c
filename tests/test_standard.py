"""Every function of an array library that the package calls, and how it calls it, held to the libraries themselves.

The sources are parsed: whatever is taken from ``xp``, ``namespace(...)`` or ``load(...)`` must exist, and must take the
number of positional arguments and the keywords that it is called with, in the running NumPy and in an installed CuPy
(which imports without a GPU), and for the reading path in the array API standard, that is, in array-api-strict. Where a
function has no signature (ufuncs, functions in C), that which its documentation begins with is taken; a function that
has neither fails.
"""

import ast
import inspect
import re
from dataclasses import dataclass, field
from pathlib import Path

import array_api_strict as strict
import numpy as np
import pytest
import standin
from test_project import PATH

import minimask

PACKAGE = Path(minimask.__file__).parent
SOURCES = sorted(path for path in PACKAGE.rglob("*.py")  # but for what holds any library, and a wheel's copy of the lessons
                 if not {"testing", "tutorials"} & set(path.relative_to(PACKAGE).parts))
#: Functions that talk to one library only, by the file and the function that hold the call; None: all of a file.
ONE_LIBRARY = {("backend", "to_host"): "strict", ("errors", "refuse_without_device"): "cupy", ("train", "_device"): "cupy",
               ("fast/cupy", None): "cupy"}


@dataclass(frozen=True)
class Use:
    """A name taken from an array library, and how it is called; `positional` is None where it is only named."""

    name: str  # dotted: 'cuda.runtime.getDeviceCount'
    where: str  # 'ops.py:209'
    libraries: tuple[str, ...]
    positional: int | None = None
    starred: bool = False  # *arguments: how many is not known
    keywords: tuple[str, ...] = ()
    expanded: tuple[str, ...] = field(default=())  # the source of every ** among its keywords


def library_of(node):
    """The dotted name if the node is an attribute of an array library, else None."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    called = isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("namespace", "load")
    if names and (called or (isinstance(node, ast.Name) and node.id == "xp")):
        return ".".join(reversed(names)).removesuffix(".__name__")
    return None


def uses(source, module="somewhere"):
    """Every Use in a module's source, each name once for every call of it."""
    tree, found, inside = ast.parse(source), [], {}
    for function in ast.walk(tree):  # outer functions come first, so the innermost has the last word
        if isinstance(function, ast.FunctionDef):
            inside.update({id(node): function.name for node in ast.walk(function)})
    called = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called[id(node.func)] = node
    within = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        name = library_of(node) if id(node) not in within else None
        if not name or name == "__name__":
            continue
        one = ONE_LIBRARY.get((module, inside.get(id(node)))) or ONE_LIBRARY.get((module, None))
        libraries = (one,) if one else ("numpy", "cupy", *(["strict"] if module in PATH else []))
        call, where = called.get(id(node)), f"{module}.py:{node.lineno}"
        if call is None:
            found.append(Use(name, where, libraries))
            continue
        found.append(Use(name, where, libraries, len([a for a in call.args if not isinstance(a, ast.Starred)]),
                         any(isinstance(a, ast.Starred) for a in call.args),
                         tuple(k.arg for k in call.keywords if k.arg), tuple(ast.unparse(k.value) for k in call.keywords
                                                                           if k.arg is None)))
    return found


def documented(function):
    """The signature that a function's documentation begins with, as inspect.signature would give it; None without."""
    first = " ".join((function.__doc__ or "").strip().partition("\n\n")[0].replace("\\", "").split())
    stated = re.match(r"\w+\((.*?)\)(?: -> \w+)?$", re.sub(r"\((\w+)[^()]*\)(?=,)", r"\1", first))  # (a1, a2, ...) is one
    if not stated:
        return None
    parameters, kind = [], inspect.Parameter.POSITIONAL_OR_KEYWORD
    for part in re.sub(r"[\[\]\s]", "", stated[1]).split(","):
        if part == "/":
            parameters = [p.replace(kind=inspect.Parameter.POSITIONAL_ONLY) for p in parameters]
        elif part == "*":
            kind = inspect.Parameter.KEYWORD_ONLY
        elif part.startswith("**"):
            parameters.append(inspect.Parameter(part[2:], inspect.Parameter.VAR_KEYWORD))
        elif part:
            optional = "=" in part or "[" in first  # what brackets enclose is not told apart
            default = None if optional else inspect.Parameter.empty
            parameters.append(inspect.Parameter(part.partition("=")[0], kind, default=default))
    return inspect.Signature(parameters)


def problem(use, library, xp):
    """What is wrong with a Use in a library, in words; None where nothing is."""
    function = xp
    for name in use.name.split("."):
        function = getattr(function, name, None)
        if function is None:
            return f"{use.where}: {library} has no {use.name}"
    if use.positional is None:
        return None
    if unknown := set(use.expanded) - {text for text in use.expanded if text.startswith("on_device_of(")}:
        return f"{use.where}: {use.name}(**{unknown.pop()}) cannot be looked into; write its keywords out"
    keywords = dict.fromkeys(use.keywords)
    if use.expanded and library == "strict":  # on_device_of() gives no keyword for NumPy and CuPy
        keywords["device"] = None
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        signature = documented(function)
    if signature is None:
        return f"{use.where}: {library}.{use.name} has neither a signature nor documentation that states one"
    try:
        bind = signature.bind_partial if use.starred else signature.bind
        bind(*[None] * use.positional, **keywords)
    except TypeError as error:
        return f"{use.where}: {library}.{use.name}{signature}: {error}"
    return None


def everything():
    """Every Use of the package."""
    return [use for path in SOURCES
            for use in uses(path.read_text(encoding="utf-8"), path.relative_to(PACKAGE).with_suffix("").as_posix())]


def problems(library, xp):
    return [text for use in everything() if library in use.libraries and (text := problem(use, library, xp))]


def test_numpy_has_every_function_as_it_is_called():
    assert problems("numpy", np) == []


def test_the_standard_has_every_function_of_the_path_as_it_is_called():
    assert problems("strict", strict) == []


def test_cupy_has_every_function_as_it_is_called(cupy):
    assert problems("cupy", cupy) == []


def test_a_library_is_called_xp_wherever_it_is_held():
    """Under another name the check would not see it."""
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        ours = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "backend"
                for alias in node.names} & {"namespace", "load"}  # checkpoint.py has a load of its own
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign):
                targets, values = node.targets[0], node.value
                pairs = (zip(targets.elts, values.elts) if isinstance(targets, ast.Tuple) and isinstance(values, ast.Tuple)
                         else [(targets, values)])
                for target, value in pairs:
                    if isinstance(value, ast.Call) and ast.unparse(value.func) in ours:
                        assert ast.unparse(target) == "xp", f"{path.name}:{node.lineno}"


def test_the_check_sees_the_calls_of_the_package():
    """A parser that found nothing would find no problem either."""
    found = everything()
    names = {use.name for use in found}
    assert len(found) > 100 and {"asarray", "matmul", "concat", "astype", "int64", "cuda.runtime.getDeviceCount"} <= names
    assert any(use.name == "arange" and use.keywords == ("dtype",) and use.expanded == ("on_device_of(g)",) for use in found)
    assert any(use.name == "sum" and use.keywords == ("axis", "keepdims") and use.positional == 1 for use in found)
    assert any(use.name == "bool" and use.positional is None for use in found)
    code = "\n".join(ast.unparse(ast.parse(path.read_text(encoding="utf-8"))) for path in SOURCES)
    assert set(re.findall(r"\bxp\.(\w+)", code)) - {"__name__"} <= {name.partition(".")[0] for name in names}


#: Faults as they would be written, the library that shows each, and what is said of it.
FAULTS = [
    ("xp.einsum('ij->ji', x)", "strict", "has no einsum"),
    ("xp.concatenate([x, y], axis=0)", "strict", "has no concatenate"),
    ("xp.vecdot(x, y)", "cupy", "has no vecdot"),
    ("xp.lib.stride_tricks.sliding_window_view2(x, 3)", "numpy", "has no lib.stride_tricks.sliding_window_view2"),
    ("xp.float_power", "strict", "has no float_power"),
    ("xp.sum(x, axes=1)", "numpy", "unexpected keyword argument 'axes'"),
    ("xp.sum(x, axes=1)", "cupy", "unexpected keyword argument 'axes'"),
    ("xp.asarray(x, device=d)", "cupy", "unexpected keyword argument 'device'"),
    ("xp.zeros_like(x, device=d)", "cupy", "unexpected keyword argument 'device'"),
    ("xp.asarray(x, order='C')", "strict", "unexpected keyword argument 'order'"),
    ("xp.matmul(x, y, out=z)", "strict", "unexpected keyword argument 'out'"),
    ("xp.exp(x, where=y)", "cupy", "unexpected keyword argument 'where'"),
    ("xp.exp(x, axis=0)", "numpy", "unexpected keyword argument 'axis'"),
    ("xp.maximum(x, y, z, 1)", "cupy", "too many positional arguments"),
    ("xp.where(x, y, z, 0)", "numpy", "too many positional arguments"),
    ("xp.reshape(x, (1,), 'C', True)", "numpy", "too many positional arguments"),
    ("xp.maximum(x)", "cupy", "missing a required argument: 'x2'"),
    ("xp.permute_dims(x)", "strict", "missing a required argument: 'axes'"),
    ("namespace(x).astype(x, d, order='C')", "numpy", "unexpected keyword argument 'order'"),
    ("load(name).asarray(x, like=y)", "strict", "unexpected keyword argument 'like'"),
    ("backend.namespace(x).pad(x, 1)", "strict", "has no pad"),
    ("xp.arange(3, **settings)", "numpy", r"arange\(\*\*settings\) cannot be looked into"),
    ("xp.sum(x, **on_device_of(x))", "strict", "unexpected keyword argument 'device'"),
]


@pytest.mark.parametrize(("source", "library", "sentence"), FAULTS, ids=[f"{library}: {source}" for source, library, _ in FAULTS])
def test_the_check_finds(source, library, sentence, request):
    xp = {"numpy": np, "strict": strict}.get(library) or request.getfixturevalue("cupy")
    found, = uses(f"def f(xp, x):\n    return {source}", "ops")
    assert re.search(sentence, problem(found, library, xp) or "nothing wrong"), problem(found, library, xp)


GOOD = ["xp.sum(x, axis=0, keepdims=True)", "xp.exp(x)", "xp.arange(3, dtype=d, **on_device_of(x))", "xp.where(c, x, y)",
        "xp.concat([x, y], axis=1)", "xp.asarray(x, copy=True)", "xp.astype(x, xp.int8)", "xp.matmul(*pair)",
        "xp.take(x, i, axis=0)"]


@pytest.mark.parametrize("library", ["numpy", "strict", "cupy"])
def test_the_check_lets_good_calls_pass(library, request):
    xp = {"numpy": np, "strict": strict}.get(library) or request.getfixturevalue("cupy")
    for source in GOOD:
        for found in uses(f"def f(xp, x):\n    return {source}", "ops"):
            assert problem(found, library, xp) is None


def test_documentation_stands_in_for_a_signature():
    def function():
        """arange([start,] stop[, step,], dtype=None, *, device=None)"""

    assert str(documented(function)) == "(start=None, stop=None, step=None, dtype=None, *, device=None)"
    function.__doc__ = r"exp(x, /, out=None, \*, casting='same_kind')"
    assert str(documented(function)) == "(x, /, out=None, *, casting=None)"
    function.__doc__ = "\nconcatenate(\n    (a1, a2, ...),\n    axis=0,\n    out=None\n)\n\nJoin a sequence."
    assert str(documented(function)) == "(a1, axis=None, out=None)"
    function.__doc__ = "Adds one."
    assert documented(function) is None
    use, = uses("xp.f(1)")
    assert "has neither a signature nor" in problem(use, "numpy", type("xp", (), {"f": type("f", (), {
        "__signature__": 1, "__doc__": "?"})()}))


def test_what_the_stand_in_pretends_is_true_of_cupy(cupy):
    """Its functions exist there, with the signatures of those that it writes out; its arrays differ from NumPy's alike."""
    pretended = standin.module()
    for name in vars(pretended):
        if not name.startswith("_"):
            assert hasattr(cupy, name), name
    for ours, theirs in ((standin.asarray, cupy.asarray), (standin.astype, cupy.astype), (standin.copyto, cupy.copyto),
                         (standin.as_strided, cupy.lib.stride_tricks.as_strided)):
        assert str(inspect.signature(ours)) == str(inspect.signature(theirs))
    assert cupy.ndarray.__module__ == standin.ndarray.__module__ == "cupy"
    for attribute in ("get", "device", "shape", "dtype", "ndim", "size", "nbytes", "strides", "itemsize", "flags", "T",
                      "reshape", "transpose"):
        assert hasattr(cupy.ndarray, attribute) and hasattr(standin.ndarray(np.ones(1)), attribute)
    assert not hasattr(cupy.ndarray, "__array_namespace__") and not hasattr(standin.ndarray, "__array_namespace__")
    assert issubclass(cupy.cuda.memory.OutOfMemoryError, MemoryError)
