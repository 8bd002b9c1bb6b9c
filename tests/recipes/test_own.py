"""Own code by name: module:object in a recipe, imported only by leave, named as the user's where it fails."""

import sys
import textwrap
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from minimask import data, engine, mask, nn, own, recipes, train
from minimask.errors import MinimaskError, UsageError

RECIPE = """
name = "mine"
about = "own code"
epochs = 2
lr = 0.05
wd = 0.001
dataset = "digits"
model = "{module}:net"
source = "{module}:rule"
schedule = "{module}:falling"
[model_settings]
units = [20, 10]
[source_settings]
tau = 0.001
"""
MODULE = """
    from minimask import nn, optim
    from minimask.mask import SignedSupermask
    import {module}_helper

    def net(weights, rng, input_shape, backend, classes, units=(30,)):
        layers, inputs = [nn.Flatten()], input_shape[0] * input_shape[1] * input_shape[2]
        for outputs in (*units, classes):
            layers += [nn.Dense(inputs, outputs, weights, rng, backend=backend), nn.ELU()]
            inputs = outputs
        return nn.Sequential(layers[:-1], input_shape)

    def rule(tau):
        return SignedSupermask(tau=tau)

    def falling(steps_per_epoch):
        return optim.exponential({module}_helper.RATE, every=steps_per_epoch)

    def wrong(**anything):
        return [1]

    NUMBER = 3
"""
numbers = iter(range(1000))


@pytest.fixture
def project(tmp_path):
    """A folder with a recipe, the module that it names, and what that imports; the names are this test's alone."""
    module = f"own_test_{next(numbers)}"
    (tmp_path / "my.toml").write_text(RECIPE.format(module=module))
    (tmp_path / f"{module}.py").write_text(textwrap.dedent(MODULE).format(module=module))
    (tmp_path / f"{module}_helper.py").write_text("RATE = 0.5\n")
    path = list(sys.path)
    yield tmp_path, module
    sys.path[:] = path
    for name in (module, f"{module}_helper"):
        sys.modules.pop(name, None)
        own._imported.pop(name, None)


IGNORING = """
    from minimask import optim

    class Deaf(optim.SGD):
        def __init__(self, parameters, lr, wd, schedule):
            super().__init__(parameters, lr)

    class Unmoved(optim.SGDW):
        def update(self, i, p, g, factor):
            p -= self.lr * g
            return p

    class Heeding(optim.SGDW):
        def update(self, i, p, g, factor):
            return super().update(i, p, g, factor)

    class Warming(optim.SGD):
        def __init__(self, parameters, lr, wd, schedule):
            super().__init__(parameters, lr, lambda step: schedule(step) * min(1, step / 2))

    def of_all_layers(parameters, lr, wd, schedule):
        assert sum(each.data.size for each in parameters) > 100
        return optim.SGD(parameters, lr, schedule)
"""


@pytest.mark.parametrize(("optimizer", "schedule", "said"), [
    ("Deaf", "falling", True), ("Unmoved", "falling", True), ("Deaf", "constant", False), ("Heeding", "falling", False),
    ("Warming", "falling", False), ("of_all_layers", "falling", False)])
def test_an_optimizer_that_ignores_its_schedule_is_told(project, optimizer, schedule, said):
    folder, module = project
    (folder / f"{module}.py").write_text((folder / f"{module}.py").read_text() + textwrap.dedent(IGNORING))
    text = (folder / "my.toml").read_text().replace(f'"{module}:falling"', f'"{module}:falling"' if schedule == "falling"
                                                    else '"constant"')
    (folder / "my.toml").write_text(f'optimizer = "{module}:{optimizer}"\n{text}')
    recipe = recipes.find(str(folder / "my.toml"))
    net = recipe.build(data.digits(), np.random.default_rng(0))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recipe.optimizer_of(net, data.digits())
    assert len(caught) == said and all("ignores the schedule that it is given" in str(each.message) for each in caught)


def test_a_recipe_file_names_own_code_which_is_imported_from_its_folder(project):
    folder, module = project
    recipe = recipes.find(str(folder / "my.toml"))
    assert module not in sys.modules  # reading it runs nothing
    net = recipe.build(data.digits(), np.random.default_rng(0))
    assert list(net.layers) == ["flatten1", "dense1", "elu1", "dense2", "elu2", "dense3"]
    assert recipe.weights().settings["tau"] == 0.001 and recipe.schedule_of(10)(10) == 0.5
    assert recipe.optimizer_of(net, data.digits()).schedule(12) == 0.5
    assert recipe.own_code() == {"source": f"{module}:rule", "schedule": f"{module}:falling", "model": f"{module}:net"}
    assert "code" not in recipe.as_dict() and recipe == recipes.from_dict(recipe.as_dict())
    (folder / "again.toml").write_text(recipe.toml())
    assert recipes.read(folder / "again.toml") == recipe
    assert recipe.size() == 64 * 20 + 20 * 10 + 10 * 10


def test_plain_data_imports_nothing(project, monkeypatch):
    folder, module = project
    monkeypatch.syspath_prepend(folder)  # it could be found
    recipe = recipes.from_dict(recipes.read(folder / "my.toml").as_dict())
    for use in (recipe.weights, recipe.resolve, lambda: recipe.schedule_of(1),
                lambda: recipe.build(data.digits(), np.random.default_rng(0))):
        with pytest.raises(own.Untrusted, match=f"'mine': .*own code, {module}:.*would run it.*say --trust"):
            use()
    assert module not in sys.modules and recipe.toml()


@pytest.mark.parametrize("name", ["a b:net", ":net", "net:", "a:b:c", "../a:net", "a:net()", "a..b:net", "a:" + "b" * 300])
def test_a_name_is_identifiers_and_dots(name):
    with pytest.raises(UsageError, match="own code is named module:object"):
        recipes.Recipe("mine", "", 1, 0.1, 0, model=name)


@pytest.mark.parametrize("value", [{"a": 1}, [[1]], None, {1}, [None]])
def test_settings_of_own_code_are_plain(value):
    with pytest.raises(UsageError, match="a setting of own code is"):
        recipes.Recipe("mine", "", 1, 0.1, 0, model="a:b", model_settings={"x": value})


def _recipe(project, **changed):
    folder, module = project
    values = {**recipes.read(folder / "my.toml").as_dict(), **changed}
    return recipes.from_dict(values, own.Code(str(folder)))


def test_what_is_not_there_is_said(project):
    folder, module = project
    for name, sentence in (("own_test_nowhere:net", f"there is no module own_test_nowhere in {folder} or on"),
                           (f"{module}:nett", "unknown object 'nett': did you mean 'net'"),
                           (f"{module}:net.more", "net has no more|has no more"),
                           (f"{module}:NUMBER", "which is a int; needed is a class or a function"),
                           (f"{module}.sub:net", f"there is no module {module}.sub|is not a package")):
        with pytest.raises(MinimaskError, match=sentence):
            _recipe(project, model=name).resolve()
    with pytest.raises(UsageError, match="gives a list, but needed is a minimask.nn.Sequential"):
        _recipe(project, model=f"{module}:wrong", model_settings={}).build(data.digits(), np.random.default_rng(0))
    with pytest.raises(UsageError, match="does not take what it is given .*unexpected keyword argument 'tauu'"):
        _recipe(project, source_settings={"tau": 1, "tauu": 1}).weights()
    with pytest.raises(UsageError, match="does not take what it is given .*missing a required argument: 'tau'"):
        _recipe(project, source_settings={}).weights()


@pytest.mark.parametrize("line, sentence", [
    ("def net(:", r"line 2: SyntaxError: "),
    ("1 / 0", r"line 2: ZeroDivisionError: division by zero \(in your own code\)"),
    ("import no_such_library_of_mine", "line 2: ModuleNotFoundError: No module named 'no_such_library_of_mine'"),
    ("raise SystemExit(3)", "line 2: SystemExit: 3"),
    ("from minimask import nn; nn.Dense(2, 3, None, None)", "line 2: Dense: weights is None, but must be a weight")])
def test_a_module_that_does_not_import_is_named_with_file_and_line(project, line, sentence):
    folder, module = project
    (folder / f"{module}.py").write_text(f"# mine\n{line}\n")
    for _ in range(2):  # the second time, too
        with pytest.raises(own.OwnError, match=f"{module} cannot be imported: .*{module}.py, {sentence}"):
            _recipe(project).resolve()
    assert module not in sys.modules
    (folder / f"{module}.py").write_text("def net(**all): ...\nrule = falling = net\n")
    _recipe(project).resolve()  # mended, in the same process


def test_what_own_code_raises_when_it_is_called_is_named(project):
    folder, module = project
    (folder / f"{module}.py").write_text("def rule(tau):\n    return inner(tau)\n\ndef inner(tau):\n    return {}[tau]\n")
    with pytest.raises(own.OwnError, match=rf"source = '{module}:rule': .*{module}.py, line 5, in inner: KeyError: 0.001"):
        _recipe(project).weights()


@pytest.mark.parametrize("factor, told", [("'a'", "'a'"), ("float('nan')", "nan"), ("-1", "-1"), ("None", "None")])
def test_a_schedule_that_gives_no_factor_is_refused(project, factor, told):
    folder, module = project
    (folder / f"{module}.py").write_text(f"def falling(steps):\n    return lambda step: {factor}\n")
    with pytest.raises(UsageError, match=rf"schedule = '{module}:falling' gives {told} at step 0, but needed is"):
        _recipe(project).schedule_of(3)


def test_what_goes_wrong_in_no_file_is_not_blamed_on_own_code(project, monkeypatch):
    """A dataclass's __init__ is made by exec, and its file is "<string>", which is none in the folder that one is in."""
    folder, module = project
    _recipe(project).resolve()
    monkeypatch.chdir(folder)
    with pytest.raises(UsageError, match="^a loss gives one number"), own.blamed():
        exec(compile("raise error", "<string>", "exec"), {"error": UsageError("a loss gives one number")})


@pytest.mark.parametrize("pullback, sentence", [("lambda g: (g,)", "its pullback gave 1 cotangents for 2 arrays"),
                                                ("lambda g: g", "must return a tuple"),
                                                ("lambda g: (g[0], None)", "gradient|shape")])
def test_a_pullback_that_gives_something_wrong_is_named_as_own_code(project, pullback, sentence):
    """The error comes from the engine then, and passes no line of it."""
    folder, module = project
    (folder / f"{module}.py").write_text(f"""from minimask import mask, op
@op(surrogate=True)
def most(xp, scores, tau):
    return scores * 0 + 1, {pullback}
class Most(mask.Supermask):
    def step(self, scores):
        return most(scores, 0.5)
def rule(tau):
    return Most()
""")
    try:
        recipe = _recipe(project, model="fcn", model_settings={}, schedule="constant", schedule_settings={})
        net = recipe.build(data.digits(), np.random.default_rng(0))
        with pytest.raises(own.OwnError, match=rf"{module}.py, line 4: .*most.*({sentence}).*in your own code"), own.blamed():
            train.fit(net, data.digits(), recipe.optimizer_of(net, data.digits()), 1, np.random.default_rng(0))
    finally:
        engine.OPS.pop("most", None)


def test_an_error_of_minimasks_own_passes_as_it_is():
    with pytest.raises(ZeroDivisionError), own.blamed():
        1 / 0  # noqa: B018


def test_a_module_of_the_same_name_from_elsewhere_is_refused(project, tmp_path_factory):
    folder, module = project
    _recipe(project).resolve()
    other = tmp_path_factory.mktemp("other")
    (other / f"{module}.py").write_text("def net(**all): ...\n")
    with pytest.raises(UsageError, match=f"another module {module} already, .*give yours another name"):
        recipes.from_dict(_recipe(project).as_dict(), own.Code(str(other))).resolve()


def test_the_digest_is_of_the_module_and_what_it_imports_from_its_folder(project):
    folder, module = project
    code = own.Code(str(folder))
    (folder / "unrelated.py").write_text("A = 1\n")

    def digest():
        for name in (module, f"{module}_helper"):
            sys.modules.pop(name, None)
            own._imported.pop(name, None)
        return own.digests([f"{module}:net", f"{module}:rule"], code)

    first = digest()
    assert list(first) == [module] and len(first[module]) == 16 and digest() == first
    (folder / "unrelated.py").write_text("A = 2\n")
    text = (folder / f"{module}.py").read_text()
    (folder / f"{module}.py").write_bytes(text.replace("\n", "\r\n").encode())
    assert digest() == first
    (folder / f"{module}_helper.py").write_text("RATE = 0.25\n")
    assert (second := digest()) != first
    (folder / f"{module}_helper.py").write_text("RATE = 0.75\n")
    assert own.digests([f"{module}:net"], code) == second  # what runs here is what was imported
    assert digest() not in (first, second)


def test_a_package_of_modules(project):
    folder, module = project
    package = folder / f"{module}_nets"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "rules.py").write_text("from . import more\nfrom .more import Source as Mine\n")
    (package / "more.py").write_text("from minimask.mask import BinarySupermask\nclass Source(BinarySupermask): ...\n")
    recipe = _recipe(project, source=f"{module}_nets.rules:Mine")
    assert isinstance(recipe.weights(), mask.BinarySupermask)
    paths, _ = own._imported[f"{module}_nets.rules"]
    assert [path.name for path in paths] == ["__init__.py", "more.py", "rules.py"]


def test_a_module_on_pythons_path_will_do(project, tmp_path_factory):
    """Its digest is of its own package, and of nothing beside that."""
    folder, module = project
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    recipe = recipes.from_dict(recipes.read(folder / "my.toml").as_dict(), own.Code(str(elsewhere)))
    sys.path.append(str(folder))
    assert isinstance(recipe.build(data.digits(), np.random.default_rng(0)), nn.Sequential)
    assert [path.name for path in own._imported[module][0]] == [f"{module}.py"]


def test_an_error_in_what_own_code_imports_later_is_its_own_too(project):
    folder, module = project
    (folder / f"{module}_late.py").write_text("def fail():\n    raise KeyError('late')\n")
    (folder / f"{module}.py").write_text("import importlib\n\ndef rule(tau):\n    return importlib.import_module("
                                         f"'{module}' + '_late').fail()\n")
    with pytest.raises(own.OwnError, match=rf"{module}_late.py, line 2, in fail: KeyError: 'late' \(in your own code\)"):
        _recipe(project).weights()
    sys.modules.pop(f"{module}_late")


def test_threads_import_it_once(project):
    folder, module = project
    file = folder / f"{module}.py"
    file.write_text("open(__file__ + '.mark', 'a').write('x')\nimport time\ntime.sleep(0.05)\n"
                    "def net(**all): ...\nrule = falling = net\n")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: _recipe(project).resolve(), range(8)))
    assert (folder / f"{module}.py.mark").read_text() == "x"
