"""Recipes: the paper's rows, TOML there and back, and what is refused."""

import inspect
import typing
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minimask import UsageError, data, init, models, optim, recipes, resnet, runs, train
from minimask.__main__ import main
from minimask.mask import BinarySupermask, EdgePopup, SignedSupermask, Supermask, Trained

#: The exact counts of METHOD section 3, of what each model has on its data set.
SIZES = {"conv2": 4_300_992, "conv4": 2_425_024, "conv6": 2_261_184, "conv8": 5_275_840, "resnet56": 834_992,
         "resnet110": 1_668_272, "resnet110-dense": 1_705_904}


def size_of(recipe):
    if recipe.model == "fcn":
        return 50_200 if recipe.dataset == "digits" else 266_200
    return {1: 248_624, 2: 992_352, 3: 2_231_184}[recipe.model_settings.get("width", 1)] if recipe.model == "resnet20" \
        else SIZES[recipe.model]


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_builds_and_trains_one_step(name):
    recipe, rng = recipes.find(name), np.random.default_rng(0)
    shape = {"mnist": (28, 28, 1), "digits": (8, 8, 1)}.get(recipe.dataset, (32, 32, 3))
    classes = 100 if recipe.dataset == "cifar100" else 10
    images, labels = rng.integers(0, 256, (2, *shape)).astype(np.uint8), rng.integers(0, classes, 2)
    dataset = data.Dataset("noise", images, labels, images, labels, tuple(map(str, range(classes))))
    net = recipe.build(dataset, rng)
    record = train.fit(net, dataset, recipe.optimizer_of(net, dataset), 1, rng, recipe.batch, augment=recipe.augment)
    assert record["epochs"][0]["step"] == 1 and net.size() == recipe.size() == size_of(recipe)
    assert {type(s) for s in net.weights().values()} == {recipes.SOURCES[recipe.source]}


#: METHOD section 4, row by row: tau_ratio, lr, wd, epochs | the baseline's lr, wd, decay every n epochs, epochs.
METHOD = """
fcn 0.4 0.05 5e-4 100 | 0.01 5e-4 10 50
conv2 0.4 0.04 5e-4 100 | 0.008 7e-4 5 50
conv4 0.4 0.05 5e-4 100 | 0.008 7e-4 5 50
conv6 0.4 0.05 5e-4 100 | 0.01 7e-4 10 50
conv8 0.4 0.05 5e-4 100 | 0.01 7e-4 10 50
resnet20 0.75 0.3 3e-4 110 | 0.3 3e-4 - 80
resnet20-x2 0.75 0.3 3e-4 110 | 0.3 3e-4 - 80
resnet20-x3 0.75 0.3 3e-4 110 | 0.3 3e-4 - 80
resnet56 0.8 0.15 1e-4 120 | 0.15 1e-4 - 90
resnet110 0.85 0.08 1e-5 110 | 0.15 1e-4 - 100
"""


@pytest.mark.parametrize("row", METHOD.strip().splitlines())
def test_recipes_are_the_published_rows(row):
    masked, _, dense = row.partition(" | ")
    net, ratio, *numbers = masked.split()
    resnet = net.startswith("resnet")
    published, baseline = recipes.find(net if resnet else f"{net}-published-config"), recipes.find(f"{net}-dense")
    ours = recipes.find(net if not resnet else f"{net}-tau" if "20" in net else net)
    assert [published.lr, published.wd, published.epochs] == list(map(float, numbers))
    assert published.source_settings["tau_ratio"] == float(ratio)
    assert ours is published or ours.source_settings["tau"] == 0.01
    without = {"name": "same", "about": "", "source_settings": {}}
    assert replace(published, **without) == replace(ours, **without)
    lr, wd, decay, epochs = dense.split()
    assert (baseline.lr, baseline.wd, baseline.epochs, baseline.source) == (float(lr), float(wd), int(epochs), "trained")
    assert baseline.weights().settings == {"scheme": "elu", "distribution": "uniform", "factor": None}
    assert all(r.batch == 128 and r.momentum == 0.9 for r in (published, ours, baseline))
    if decay != "-":
        assert baseline.schedule_of(7)(7 * int(decay)) == pytest.approx(0.9)  # 7 steps an epoch
        assert ours.schedule_of(7)(70) == pytest.approx(0.9)
    else:
        cuts = (0.2, 5) if net.startswith("resnet20") else (0.1, 7)
        for recipe in (published, ours, baseline):
            schedule = recipe.schedule_of(7)
            assert isinstance(schedule, optim.Plateau) and (schedule.factor, schedule.max_cuts) == cuts
            assert (schedule.patience, schedule.cooldown, schedule.min_delta) == (15, 10, 1e-4)


def test_the_resnets_are_set_up_as_published():
    """METHOD sections 4 and 7: norm, factor 2.6, ResNet110's scores and its other baseline, augmentation."""
    for net, norm in (("resnet20", "stem"), ("resnet20-x3", "stem"), ("resnet56", "none"), ("resnet110", "none")):
        assert recipes.find(net).model_settings["norm"] == norm
        assert recipes.find(f"{net}-dense").model_settings["norm"] == "all"
        frozen = recipes.find(net).weights().settings["frozen"]
        assert frozen == {"scheme": "elus", "distribution": "signed_constant",
                          "factor": None if "20" in net else 2.6}
    assert recipes.find("resnet110").weights().settings["scores"]["scheme"] == "elu"
    assert recipes.find("resnet56").weights().settings["scores"]["scheme"] == "xavier"
    assert recipes.find("resnet110-dense").model == "resnet110-dense"
    assert {r.dataset for r in recipes.RECIPES.values() if r.augment} == {"cifar100"}


def test_the_extreme_rows_and_the_relatives():
    for net in ("fcn", "conv2", "conv4", "conv6", "conv8"):
        for end, settings in (("", {"tau": 0.01}), ("-published-config", {"tau_ratio": 0.6})):
            extreme = recipes.find(f"{net}-extreme{end}")
            assert (extreme.lr, extreme.wd, extreme.source_settings) == (0.008, 3e-4, settings)
        base = recipes.find(net)
        for name, source, settings in (("binary", "binary", {"tau": 0.01}), ("edge-popup", "edge-popup", {"share": 0.1}),
                                       ("edge-popup-30", "edge-popup", {"share": 0.3}),
                                       ("edge-popup-50", "edge-popup", {"share": 0.5})):
            relative = recipes.find(f"{net}-{name}")
            assert relative == replace(base, name=relative.name, about=relative.about, source=source,
                                       source_settings=settings)
    for frozen in init.SCHEMES:
        for scores in init.SCHEMES:
            source = recipes.find(f"fcn-{frozen}-{scores}").weights()
            assert source.settings["frozen"]["scheme"] == frozen and source.settings["scores"]["scheme"] == scores


def test_the_papers_results_are_those_of_method_section_5():
    expected = {"fcn": (97.42, 97.48, 3.77), "conv2": (68.79, 68.37, 0.60), "conv4": (74.50, 77.40, 2.91),
                "conv6": (75.91, 79.17, 2.36), "conv8": (72.24, 80.91, 1.17), "resnet20": (84.91, 81.68, 21.13),
                "resnet20-x2": (86.80, 84.42, 7.69), "resnet20-x3": (87.32, 84.89, 4.06),
                "resnet56": (68.04, 60.01, 29.39), "resnet110": (62.70, 46.42, 20.64)}
    fast = ("conv2", "conv4", "conv6", "conv8", "resnet20")
    for net, (dense, masked, left) in expected.items():
        for end in [""] + ["-tau"] * ("resnet20" in net) + ["-published-config"] * ("resnet" not in net) + ["-fast"] * (net in fast):
            assert recipes.PAPER[f"{net}{end}"] == pytest.approx((masked / 100, left / 100))
        assert recipes.PAPER[f"{net}-dense"] == pytest.approx((dense / 100, 1))
    assert recipes.PAPER["fcn-best"] == recipes.PAPER["fcn"]
    assert len(recipes.PAPER) == 3 * len(expected) - 1 + len(fast) and set(recipes.PAPER) <= set(recipes.RECIPES)


def test_the_tables_of_settings_are_what_the_code_takes():
    """SETTINGS and TYPES name every argument that sources, schedules and ResNets take, with its type, and no other."""
    def arguments(function, skip=()):
        hints = typing.get_type_hints(function)
        return {name: (typing.get_args(hints[name]) or (hints[name],))[0] for name in inspect.signature(function).parameters
                if name not in ("self", "initial", *skip)}

    for name, source in recipes.SOURCES.items():
        mro = [cls for cls in inspect.getmro(source) if "__init__" in vars(cls) and cls is not object]
        assert recipes.SETTINGS[name] == {k: v for cls in mro for k, v in arguments(cls.__init__).items()}, name
    assert recipes.SETTINGS["plateau"] == arguments(optim.Plateau.__init__)
    shared = ("name", "weights", "rng", "input_shape", "classes", "dtype", "backend")
    for name in resnet.RESNETS:
        assert recipes.SETTINGS[name] == arguments(models.resnet, shared)
    assert [*recipes.TYPES, "code"] == [f.name for f in fields(recipes.Recipe)]


# ---- TOML ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_comes_back_from_toml(name, tmp_path):
    path = tmp_path / "my.toml"
    path.write_text(recipes.find(name).toml(), encoding="utf-8")
    assert recipes.find(str(path)) == recipes.find(name)


@given(about=st.text(), lr=st.floats(1e-9, 1e3), wd=st.floats(0, 0.999), epochs=st.integers(1, 10**6),
       tau=st.floats(0, 10), rate=st.floats(0.01, 1))
@example(about="\x7f \x1f \"", lr=0.1, wd=0.0, epochs=1, tau=0.0, rate=1.0)
def test_any_recipe_comes_back_from_toml(about, lr, wd, epochs, tau, rate, tmp_path_factory):
    recipe = recipes.Recipe("any", about, epochs, lr, wd, source_settings={"tau": tau},
                            schedule_settings={"rate": rate, "epochs": 3})
    path = tmp_path_factory.mktemp("recipe") / "any.toml"
    try:
        path.write_text(recipe.toml(), encoding="utf-8")
    except UnicodeEncodeError:  # a lone surrogate, which no file can hold
        return
    assert recipes.find(str(path)) == recipe


def test_a_recipe_that_was_printed_is_read_back_whatever_its_line_about_it_holds(tmp_path, capsys):
    """What a terminal would obey is written by its number, which TOML reads; emoji and spaces without a break, too."""
    about = "a\xa0b\u202ec \x1b[31m\x9b \U0001f9d1\u200d\U0001f4bb größe \\ \" \n"
    recipe, path = replace(recipes.find("fcn"), name="mine", about=about), tmp_path / "mine.toml"
    path.write_text(recipe.toml(), encoding="utf-8")
    assert main(["recipes", str(path)]) == 0
    printed = capsys.readouterr().out
    assert all(line.isprintable() for line in printed.split("\n")) and "größe" in printed
    path.write_text(printed, encoding="utf-8")
    assert recipes.find(str(path)) == recipe


FCN = recipes.find("fcn").toml()


@pytest.mark.parametrize(("toml", "message"), [
    (FCN.replace("lr =", "lrate ="), r"recipe: unknown key 'lrate': .*lr"),
    (FCN.replace("batch =", "btach ="), r"unknown key 'btach': did you mean 'batch'"),
    (FCN.replace("tau =", "tao ="), r"source 'signed-supermask': unknown key 'tao': did you mean 'tau'"),
    (FCN.replace("epochs = 100", 'epochs = "many"'), r"epochs is 'many', but must be a whole number"),
    (FCN.replace("epochs = 100", "epochs = 1.5"), r"epochs is 1.5, but must be a whole number"),
    (FCN.replace("epochs = 100", "epochs = true"), r"epochs is True, but must be a whole number"),
    (FCN.replace("epochs = 100", "epochs = 0"), r"epochs is 0; the nearest that it may be is 1"),
    (FCN.replace("epochs = 100", "epochs = 2000000"), r"epochs is 2000000; the nearest that it may be is 1000000"),
    (FCN.replace("epochs = 100", f"epochs = {10**20}"), rf"epochs is {10**20}; the nearest that it may be is 1000000"),
    (FCN.replace("lr = 0.05", "lr = -1"), r"lr is -1; the nearest that it may be is 1e-09"),
    (FCN.replace("lr = 0.05", "lr = nan"), r"lr is nan, but must be finite"),
    (FCN.replace("wd = 0.0005", "wd = 1.5"), r"wd is 1.5; the nearest that it may be is 0.999"),
    (FCN.replace("momentum = 0.9", "momentum = 1"), r"momentum is 1; the nearest that it may be is 0.999"),
    (FCN.replace("augment = false", "augment = 1"), r"augment is 1, but must be true or false"),
    (FCN.replace('model = "fcn"', 'model = "fnc"'), r"unknown model 'fnc': did you mean 'fcn'"),
    (FCN.replace('"signed-supermask"', '"signed"'), r"unknown weight source 'signed': did you mean 'signed-supermask'"),
    (FCN.replace('"exponential"', '"exponental"'), r"unknown schedule 'exponental': did you mean 'exponential'"),
    (FCN.replace('name = "fcn"', 'name = "../fcn"'), r"a name is made of letters"),
    (FCN.replace('name = "fcn"', 'name = ".."'), r"a name is made of letters"),
    (FCN.replace('name = "fcn"\n', ""), r"recipe lacks name"),
    (FCN.replace("tau = 0.01", "tau = -0.01"), r"recipe 'fcn': SignedSupermask: tau is -0.01"),
    (FCN.replace("tau = 0.01", 'frozen = "elux"'), r"unknown initialisation 'elux': did you mean 'elu'"),
    (FCN.replace("tau = 0.01", 'frozen_distribution = "unifrom"'), r"unknown distribution 'unifrom': .*'uniform'"),
    (FCN.replace("tau = 0.01", 'tau = "small"'), r"tau is 'small', but must be a number"),
    (FCN + "[model_settings]\nwidth = 2\n", r"model 'fcn': unknown key 'width': there are activation"),
    (FCN + "[model_settings]\nactivation = 'rely'\n", r"unknown activation 'rely': did you mean 'relu'"),
    (recipes.find("resnet20").toml().replace('"stem"', '"some"'), r"norm 'some' must be 'all', 'stem' or 'none'"),
    (FCN + "[schedule_settings]\nrate = 2.0\n", r"exponential: rate 2.0"),
    (FCN + "[schedule_settings]\nepochs = 0\n", r"exponential: .*every 0"),
    ("name = ", r"is no TOML"), ("\x00", r"is no TOML")])
def test_a_recipe_file_that_is_none_says_why(toml, message, tmp_path, capsys):
    path = tmp_path / "bad.toml"
    path.write_text(toml)
    with pytest.raises(UsageError, match=message):
        recipes.find(str(path))
    assert main(["train", str(path), "--data", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"minimask: {path}") and error.count("\n") == 1


def test_a_recipe_that_is_not_there(tmp_path, capsys):
    assert main(["train", str(tmp_path / "no.toml")]) == 2
    assert "cannot be read (No such file or directory); `minimask recipes fcn > my.toml`" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"^unknown recipe 'fnc': did you mean 'fcn'\? `minimask recipes` lists all 83$"):
        recipes.find("fnc")
    (tmp_path / "latin.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(UsageError, match="is no TOML"):
        recipes.find(str(tmp_path / "latin.toml"))


# ---- the command -----------------------------------------------------------------------------------------------------


def test_recipes_are_listed_and_shown(capsys, tmp_path):
    assert main(["recipes"]) == 0
    listed = capsys.readouterr().out
    lines = {line.split()[0]: line for line in listed.splitlines() if line}
    assert set(recipes.RECIPES) <= set(lines)
    assert "266,200" in lines["fcn"] and lines["fcn"].split()[4:6] == ["97.48", "3.77"] and "mnist" in lines["fcn"]
    assert "1,705,904" in lines["resnet110-dense"] and lines["resnet110-dense"].split()[4:] == ["62.70", "100.00", "-", "-"]
    assert main(["recipes", "conv2-binary"]) == 0
    (tmp_path / "my.toml").write_text(capsys.readouterr().out)
    assert recipes.find(str(tmp_path / "my.toml")) == recipes.find("conv2-binary")
    assert main(["recipes", "conv3"]) == 2
    assert "unknown recipe 'conv3': did you mean 'conv" in capsys.readouterr().err


def test_a_recipe_of_ones_own_trains_and_goes_on(tmp_path, capsys):
    mine = replace(recipes.find("digits"), name="mine", epochs=2, source="edge-popup", source_settings={"share": 0.2})
    path, out = tmp_path / "mine.toml", tmp_path / "run"
    path.write_text(mine.toml())
    assert main(["train", str(path), "--quiet", "--out", str(out)]) == 0
    assert "20.00% of the weights left" in capsys.readouterr().out
    path.write_text(replace(mine, lr=0.01).toml())
    assert main(["train", str(path), "--quiet", "--out", str(out), "--resume", "--epochs", "3"]) == 2
    assert "its lr is 0.05, but 0.01 was asked for" in capsys.readouterr().err
    path.write_text(mine.toml())
    assert main(["train", str(path), "--quiet", "--out", str(out), "--resume", "--epochs", "3"]) == 0


def test_a_validation_set_holds_no_test_image():
    whole, chosen = data.digits(), data.load("digits-validation")
    assert chosen.name == "digits-validation" and len(chosen.test_images) == len(whole.train_images) // 6
    images = np.concatenate([chosen.train_images, chosen.test_images])
    np.testing.assert_array_equal(images, whole.train_images)
    np.testing.assert_array_equal(np.concatenate([chosen.train_labels, chosen.test_labels]), whole.train_labels)
    with pytest.raises(UsageError, match="unknown dataset 'nmist-validation'"):
        data.load("nmist-validation")


def test_a_supermask_alone_is_no_method():
    with pytest.raises(NotImplementedError, match="says how scores become a mask"):
        Supermask().draw((2, 2), np.random.default_rng(0)).counts()


# ---- one recipe, one digest --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("whole", "broken"), [
    ({"lr": 1}, {"lr": 1.0}), ({"wd": 0}, {"wd": 0.0}), ({"wd": -0.0}, {"wd": 0.0}), ({"momentum": 0}, {"momentum": 0.0}),
    ({"source_settings": {"tau": 0}}, {"source_settings": {"tau": 0.0}}),
    ({"source_settings": {"tau": -0.0}}, {"source_settings": {"tau": 0.0}}),
    ({"source_settings": {"frozen_factor": 2, "tau_ratio": 0}}, {"source_settings": {"frozen_factor": 2.0, "tau_ratio": 0.0}}),
    ({"source": "edge-popup", "source_settings": {"share": 1}}, {"source": "edge-popup", "source_settings": {"share": 1.0}}),
    ({"source": "trained", "source_settings": {"factor": 1}}, {"source": "trained", "source_settings": {"factor": 1.0}}),
    ({"schedule_settings": {"rate": 1, "epochs": 2}}, {"schedule_settings": {"rate": 1.0, "epochs": 2.0}}),
    ({"schedule": "plateau", "schedule_settings": {"min_delta": 0}},
     {"schedule": "plateau", "schedule_settings": {"min_delta": 0.0}}),
])
def test_a_whole_number_and_its_float_are_one_recipe_with_one_digest(whole, broken, tmp_path):
    """lr = 1 and lr = 1.0 were two, in files and in the checkpoint's digest."""
    base = replace(recipes.find("digits"), name="x", epochs=1, batch=1000, wd=0.0, source_settings={},
                   schedule_settings={})
    one, two = replace(base, **whole), replace(base, **broken)
    assert one.toml() == two.toml() and repr(one) == repr(two)
    digests = [runs_digest(recipe, tmp_path / name) for recipe, name in ((one, "a"), (two, "b"))]
    assert digests[0] == digests[1]


def runs_digest(recipe, folder):
    runs.run(recipe, data.digits(), 0, folder)
    return runs.peek(folder)[1]


@pytest.mark.parametrize("source", [SignedSupermask, BinarySupermask, EdgePopup, Trained])
def test_weight_sources_keep_floats_for_whole_numbers(source):
    """For whoever trains without a recipe: the settings and the arrays of a checkpoint are the same."""
    name = {EdgePopup: "share", Trained: "factor"}.get(source, "tau")
    one, two = source(**{name: 1}), source(**{name: 1.0})
    assert repr(one.settings) == repr(two.settings)
    drawn = [source(**{name: value}).draw((3, 2), np.random.default_rng(0)).state() for value in (1, 1.0)]
    assert [repr(each) for each in drawn[0].values()] == [repr(each) for each in drawn[1].values()]


def test_a_whole_number_beyond_every_float_is_refused():
    with pytest.raises(UsageError, match=r"tau is 1000000000[0.]+, but must be finite"):
        replace(recipes.find("digits"), name="x", source_settings={"tau": 10**400})
