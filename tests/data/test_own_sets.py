"""Data sets of one's own: arrays, .npz, CSV, names and settings; what is wrong with them is said with file and line."""

import os

import numpy as np
import pytest
from pages import PAGES, blocks

from minimask import UsageError, data, models, optim, recipes, train
from minimask.data import DataError, named, own
from minimask.data.own import split
from minimask.mask import SignedSupermask

COUNTS = (20, 7, 2)


def labelled(rng, dtype=np.uint8, shape=(5, 4)):
    labels = np.repeat(np.arange(3), COUNTS)
    return rng.integers(0, 256, (len(labels), *shape)).astype(dtype), labels


def table(path, rows, first="width,length,kind\n", end="\n"):
    path.write_text(first + "".join(f"{line}{end}" for line in rows), encoding="utf-8")
    return path


# ---- the split -------------------------------------------------------------------------------------------------------


def test_the_split_is_stratified_seeded_and_whole():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(3), COUNTS))
    kept, held = split(labels, "abc", 0.25, 7, "here")
    assert sorted([*kept, *held]) == list(range(len(labels)))
    assert np.bincount(labels[held]).tolist() == [5, 2, 1]  # at least one of each is held out, and one is not
    assert not np.array_equal(np.sort(labels[kept]), labels[kept])  # mixed: its end has all classes, too
    again = split(labels, "abc", 0.25, 7, "here")
    other = split(labels, "abc", 0.25, 8, "here")
    assert np.array_equal(kept, again[0]) and np.array_equal(held, again[1]) and set(held) != set(other[1])


@pytest.mark.parametrize("share", [0, 1, -0.5, 2, float("nan")])
def test_a_share_that_is_none_is_refused(share, rng):
    with pytest.raises(UsageError, match="held_out is .* between 0 and 1"):
        data.from_arrays(*labelled(rng), held_out=share)


def test_a_seed_below_0_is_refused(rng):
    images, labels = labelled(rng)
    for targets in (labels, labels.astype(float)):
        with pytest.raises(UsageError, match="seed is -1, but must be a whole number, 0 or more"):
            data.from_arrays(images, targets, seed=-1)


def test_a_class_of_one_image_is_refused(rng):
    images, labels = labelled(rng)
    labels[-1] = 3
    with pytest.raises(DataError, match=r"class '2' has 1 image, but 2 are needed, one to train and one to hold out"):
        data.from_arrays(images, labels)
    with pytest.raises(DataError, match=r"class 'd' has no images"):
        data.from_arrays(images[:27], labels[:27], classes=["a", "b", "d"])


# ---- arrays ----------------------------------------------------------------------------------------------------------


def test_arrays_become_a_data_set(rng):
    images, labels = labelled(rng)
    found = data.from_arrays(images, labels, held_out=0.3, name="stamps")
    assert found.input_shape == (5, 4, 1) and found.classes == ("0", "1", "2") and found.name == "stamps"
    assert len(found.train_images) + len(found.test_images) == sum(COUNTS)
    given = data.from_arrays(images, labels, test=(images[:5], labels[:5]))
    assert len(given.train_images) == sum(COUNTS) and np.array_equal(given.test_images[..., 0], images[:5])


def test_labels_of_all_kinds_name_their_classes(rng):
    images, labels = labelled(rng)
    texts = np.array(["ten", "2", "one"])[labels]
    assert data.from_arrays(images, texts).classes == ("2", "one", "ten")
    assert data.from_arrays(images, np.array(["10", "9", "-1"])[labels]).classes == ("-1", "9", "10")
    numbers = data.from_arrays(images, np.array([7, -3, 100])[labels])
    assert numbers.classes == ("-3", "7", "100") and set(numbers.train_labels) == {0, 1, 2}
    named_ = data.from_arrays(images, labels[:, None], classes=["cat", "dog", "eel"])
    assert named_.classes == ("cat", "dog", "eel")


def test_rows_of_a_table_lie_side_by_side(rng):
    rows = rng.standard_normal((29, 6))
    found = data.from_arrays(rows, labelled(rng)[1])
    assert found.input_shape == (1, 6, 1)
    assert sorted(map(tuple, rows)) == sorted(map(tuple, np.concatenate(
        [found.train_images, found.test_images]).reshape(-1, 6)))


@pytest.mark.parametrize("change, sentence", [
    (lambda x, y: (x[:-1], y), "28 images and 29 labels"),
    (lambda x, y: (x[:0], y[:0]), "images are"),
    (lambda x, y: (x.reshape(-1), y), "needed are"),
    (lambda x, y: (x.astype(object), y), "array of object"),
    (lambda x, y: (x, y.astype(complex)), "labels are complex128"),
    (lambda x, y: (x, np.zeros_like(y)), "there is one class"),
    (lambda x, y: (np.where(np.arange(len(x))[:, None, None] == 4, np.nan, x), y), "image 4 holds NaN"),
    (lambda x, y: (np.zeros((29, 3, 8, 8)), y), r"channels seem to come first.*transpose\(0, 2, 3, 1\)"),
    (lambda x, y: (x, np.array(["a", "b", "c\n"])[y]), "one printable line")])
def test_arrays_that_do_not_fit_are_refused(change, sentence, rng):
    with pytest.raises(DataError, match=sentence):
        data.from_arrays(*change(*labelled(rng)))


def test_a_class_that_is_only_held_out_is_refused(rng):
    images, labels = labelled(rng)
    with pytest.raises(DataError, match="class 2 is held out, but there is none to train on"):
        data.from_arrays(images[labels < 2], labels[labels < 2], test=(images, labels))
    with pytest.raises(DataError, match="labels from 0 to 2, but 2 classes"):
        data.from_arrays(images, labels, classes=["a", "b"])


# ---- .npz ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("images", "labels"), ("x_train", "y_train"), ("x", "y"),
                                   ("train_images", "train_labels")])
def test_an_npz_is_read_by_the_names_of_its_arrays(names, rng, tmp_path):
    images, labels = labelled(rng)
    np.savez(tmp_path / "a.npz", **dict(zip(names, (images, labels))), classes=["cat", "dog", "eel"])
    found = data.load(f"npz:{tmp_path}/a.npz")
    same = data.from_arrays(images, labels, ["cat", "dog", "eel"])
    assert found.classes == same.classes and np.array_equal(found.train_images, same.train_images)
    assert found.name == f"npz:{tmp_path}/a.npz" and found.path == str(tmp_path / "a.npz")


def test_an_npz_with_its_own_test_part(rng, tmp_path):
    images, labels = labelled(rng)
    np.savez_compressed(tmp_path / "a.npz", x_train=images, y_train=labels, x_test=images[:4], y_test=labels[:4])
    assert len(data.from_npz(tmp_path / "a.npz").test_images) == 4


@pytest.mark.parametrize("arrays, sentence", [
    ({"x": 0}, "holds no y_train or train_labels"), ({"y": 0}, "holds no x_train or"),
    ({"x": 0, "y": 0, "z": 0}, "holds z; known are"), ({"x": 0, "images": 0, "y": 0}, "are train images both"),
    ({"x": 0, "y": 0, "x_test": 0}, "test images without test labels")])
def test_an_npz_of_other_arrays_is_refused(arrays, sentence, rng, tmp_path):
    images, labels = labelled(rng)
    np.savez(tmp_path / "a.npz", **{name: labels if name[0] == "y" else images for name in arrays})
    with pytest.raises(DataError, match=sentence):
        data.from_npz(tmp_path / "a.npz")


def test_what_is_no_npz_is_refused(rng, tmp_path):
    np.save(tmp_path / "one.npy", labelled(rng)[0])
    (tmp_path / "text.npz").write_text("images")
    np.savez(tmp_path / "cut.npz", x=np.zeros(1000))
    content = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[:len(content) // 2])
    np.savez(tmp_path / "objects.npz", x=np.array([None, 1]), y=np.zeros(2, int))
    with pytest.raises(DataError, match="never unpickled"):
        data.from_npz(tmp_path / "objects.npz")
    for name in ("one.npy", "text.npz", "cut.npz", "objects.npz"):
        with pytest.raises(DataError, match=f"{name} is not an .npz file"):
            data.from_npz(tmp_path / name)
    with pytest.raises(UsageError, match="there is no .*gone.npz"):
        data.from_npz(tmp_path / "gone.npz")
    with pytest.raises(DataError, match="cannot be read"):
        data.from_npz(tmp_path)


# ---- CSV -------------------------------------------------------------------------------------------------------------

def test_two_classes_of_one_name_are_refused(rng):
    with pytest.raises(DataError, match="two classes are called 'cat'; give each a name of its own"):
        data.from_arrays(*labelled(rng), classes=["cat", "dog", "cat"])


ROWS = [f"{i}.5,{-i},{'ant' if i % 2 else 'bee'}" for i in range(12)]


@pytest.mark.parametrize("first", ["width,length,kind\n", "\ufeffwidth,length,kind\n", "", '"a ""b""",\'c\',d\n'])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_with_and_without_names(first, delimiter, tmp_path):
    path = table(tmp_path / "a.csv", [row.replace(",", delimiter) for row in ROWS], first.replace(",", delimiter))
    found = data.from_csv(path, held_out=0.5)
    assert found.classes == ("ant", "bee") and found.input_shape == (1, 2, 1)
    both = np.concatenate([found.train_images, found.test_images]).reshape(-1, 2)
    labels = np.concatenate([found.train_labels, found.test_labels])
    order = np.argsort(both[:, 0])
    assert both[order].tolist() == [[i + 0.5, -i] for i in range(12)]
    assert [found.classes[k] for k in labels[order]] == ["bee", "ant"] * 6


@pytest.mark.parametrize("label", ["kind", "2", 2])
def test_the_column_of_the_class_may_be_anywhere(label, tmp_path):
    path = table(tmp_path / "a.csv", [f"1,{'yes' if i % 3 else 'no'},{i}" for i in range(9)], "a,kind,b\n")
    assert data.from_csv(path, label=label).classes == ("no", "yes")
    table(tmp_path / "b.csv", ["x,1,2", "y,3,4"] * 3, "\ufeffkind,a,b\n")
    assert data.from_csv(tmp_path / "b.csv", label="kind").classes == ("x", "y")
    with pytest.raises(UsageError, match=r"has no column 'size'.*a, kind, b.*from 1 to 3"):
        data.from_csv(path, label="size")


@pytest.mark.parametrize("first", ["1.5,?,ant\n", "nan,2,bee\n", ",2,bee\n", "1,NA,ant\n"])
def test_a_first_line_that_lacks_a_number_is_no_line_of_names(first, tmp_path):
    with pytest.raises(DataError, match=r"line 1: column '[12]' is .*must be a finite number"):
        data.from_csv(table(tmp_path / "a.csv", ROWS, first))
    assert len(data.from_csv(table(tmp_path / "b.csv", ROWS, "1990,both,kind\n")).train_images) == 10  # names, with a year
    assert len(data.from_csv(table(tmp_path / "c.csv", ROWS, "?,?,kind\n")).train_images) == 10


@pytest.mark.parametrize("rows, sentence", [
    ([*ROWS, "1,2"], "line 14: has 2 columns, but the first line has 3"),
    ([*ROWS[:2], "", "x,2,ant"], "line 5: column 'width' is 'x', but must be a finite number"),
    ([*ROWS, "1,,ant"], "line 14: column 'length' is empty"),
    ([*ROWS, "1,2,"], "line 14: has no class: column 'kind' is empty"),
    ([*ROWS, "1,nan,ant"], "line 14: column 'length' is 'nan'"),
    ([*ROWS, '"1\n2",2,ant'], "line 15: column 'width' is"),
    ([*ROWS, "1,2,cat"], r"a.csv: .*class 'cat' has 1 image.*taken from column 'kind'"),
    ([], "a line of names and nothing else")])
def test_a_csv_with_a_fault_is_refused_with_its_line(rows, sentence, tmp_path):
    with pytest.raises(DataError, match=sentence):
        data.from_csv(table(tmp_path / "a.csv", rows))


@pytest.mark.parametrize(("label", "columns"), [(None, 2), ("kind", 2), ("a", 2)])
def test_a_column_that_numbers_the_rows_is_left_out_aloud(label, columns, tmp_path):
    """pandas writes its index so; in a file that is sorted by class it alone tells the class."""
    path = tmp_path / "t.csv"
    rows = [(7 + i, i / 4, (-i) % 3 + 0.5, "xy"[i % 2]) for i in range(12)]
    rows = [(i, x % 1, y, kind) for i, x, y, kind in rows]
    path.write_text("\n".join([",a,b,kind", *(",".join(map(str, row)) for row in rows)]))
    if label == "a":  # the class may be anywhere
        path.write_text("\n".join([",a,b,kind", *(f"{i},{kind},{x},{y}" for i, x, y, kind in rows)]))
    with pytest.warns(UserWarning, match="t.csv: the first column has no name and numbers the rows, so it is left out"):
        dataset = data.from_csv(path, label, preprocess="feature")
    assert dataset.input_shape == (1, columns, 1) and dataset.train_images.max() < 7
    path.write_text(path.read_text().replace("\n8,", "\n7,"))  # twice the same: it numbers no rows
    assert data.from_csv(path, label, preprocess="feature").input_shape == (1, columns + 1, 1)
    path.write_text(path.read_text().replace(",a,", "id,a,"))  # what has a name is meant
    assert data.from_csv(path, label, preprocess="feature").input_shape == (1, columns + 1, 1)


def test_rows_to_predict_may_be_numbered_too(tmp_path):
    (tmp_path / "t.csv").write_text(",a,b\n0,1.5,2.5\n1,3.5,4.5\n")
    with pytest.warns(UserWarning, match="it is left out"):
        assert own.csv_numbers(tmp_path / "t.csv", 2).tolist() == [[1.5, 2.5], [3.5, 4.5]]
    assert own.csv_numbers(tmp_path / "t.csv", 3).tolist() == [[0, 1.5, 2.5], [1, 3.5, 4.5]]  # trained with it


def test_one_number_in_two_spellings_is_refused(tmp_path, rng):
    (tmp_path / "t.csv").write_text("a,kind\n" + "".join(f"{i},{kind}\n" for i in range(3)
                                                        for kind in ("1", "2", "1.0")))
    with pytest.raises(DataError, match=r"t.csv.*classes '1' and '1.0' are one number, written in two ways"):
        data.from_csv(tmp_path / "t.csv")
    with pytest.raises(DataError, match="classes '01' and '1' are one number"):
        data.from_arrays(rng.random((4, 3)), ["1", "01", "1", "01"])
    data.from_csv(tmp_path / "t.csv", numbers=True, preprocess="feature")  # as numbers to be met they are the same


def test_other_faults_of_a_csv(tmp_path):
    path = tmp_path / "a.csv"
    for content, sentence in ((b"", "holds no line"), (b"1\n2\n", "has one column"), (b"\xff\xfe1\0", "in UTF-8"),
                              (b"1.5;2;ant\n" * 3, "one class"), (b"1,5;2;ant\n", "line 1: column '1' is .* a point for the comma")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=sentence):
            data.from_csv(path)
    with pytest.raises(UsageError, match="delimiter is ', ', but must be one character"):
        data.from_csv(path, delimiter=", ")
    with pytest.raises(UsageError, match=r"there is no .*b.csv"):
        data.from_csv(tmp_path / "b.csv")


# ---- names -----------------------------------------------------------------------------------------------------------


def test_a_name_is_looked_for_here_then_below_data_then_where_it_was(tmp_path, monkeypatch):
    for place in ("here", "data", "was"):
        (tmp_path / place).mkdir()
        table(tmp_path / place / "a.csv", ROWS)
    monkeypatch.chdir(tmp_path / "here")
    known = str(tmp_path / "was" / "a.csv")
    for place in ("here", "data", "was"):
        found = data.load("csv:a.csv", tmp_path / "data", known=known)
        assert found.path == str(tmp_path / place / "a.csv") and found.name == "csv:a.csv"
        os.remove(tmp_path / place / "a.csv")
    with pytest.raises(UsageError, match=r"there is no a.csv nor .*data.*a.csv nor .*was.*give the right path, or with"):
        data.load("csv:a.csv", tmp_path / "data", known=known)


def test_a_part_of_ones_own_can_be_held_out_to_choose_by(tmp_path):
    path = table(tmp_path / "a.csv", ROWS * 10)
    whole, found = data.load(f"csv:{path}"), data.load(f"csv:{path}-validation")
    assert found.name == f"csv:{path}-validation"
    assert len(found.train_images) + len(found.test_images) == len(whole.train_images)
    assert set(found.test_labels) == {0, 1}
    table(tmp_path / "a.csv-validation", ROWS[:6])  # a file of that very name is meant
    assert len(data.load(f"csv:{path}-validation").train_images) < 6


def test_settings_and_names_that_are_none(tmp_path):
    with pytest.raises(UsageError, match="'digits' takes no settings"):
        data.load("digits", settings={"seed": 1})
    with pytest.raises(UsageError, match="unknown dataset 'pictures:a'"):
        data.load("pictures:a")
    with pytest.raises(UsageError, match="not known without its files"):
        data.outline("npz:a.npz")
    for name, settings, sentence in (("csv:a", {"sed": 1}, "did you mean 'seed'"), ("mnist", {"seed": 1}, "no settings"),
                                     ("folder:a", {"size": 3.5}, "must be a text"), ("npz:a", {"fit": "pad"}, "unknown key")):
        with pytest.raises(UsageError, match=sentence):
            recipes.Recipe("r", "", 1, 0.1, 0.1, dataset=name, dataset_settings=settings)
    assert named.kind_of("folder:") == named.kind_of("digits") == named.kind_of("c:sv") == ""


def test_a_number_needs_no_quotes_where_a_setting_is_a_text(tmp_path):
    table(tmp_path / "a.csv", ["x,1,2", "y,3,4"] * 3, "kind,a,b\n")
    recipe = recipes.Recipe("r", "", 1, 0.1, 0.1, dataset=f"csv:{tmp_path / 'a.csv'}", dataset_settings={"label": 1})
    assert recipe.as_dict()["dataset_settings"] == {"label": "1"} and recipes.from_dict(recipe.as_dict()) == recipe
    assert data.load(recipe.dataset, settings=recipe.dataset_settings).classes == ("x", "y")


@pytest.mark.parametrize("model", ["conv2", "conv8"])
def test_a_net_that_is_not_for_such_samples_says_so(model, rng):
    rows = data.from_arrays(rng.standard_normal((29, 6)), labelled(rng)[1])
    with pytest.raises(UsageError, match=rf"model '{model}' is not for samples of 1 x 6 x 1, .*take 'fcn'"):
        recipes.Recipe("r", "", 1, 0.1, 0.1, model=model, dataset="npz:a").build(rows, rng)


def test_a_recipe_keeps_its_bytes_and_says_what_is_new():
    before = recipes.RECIPES["digits"]
    assert {"preprocess", "dataset_settings"}.isdisjoint(before.as_dict()) and "preprocess" not in before.toml()
    mine = recipes.Recipe("r", "", 1, 0.1, 0.1, dataset="csv:a.csv", dataset_settings={"held_out": 1 / 4},
                          preprocess="feature")
    assert recipes.from_dict(mine.as_dict()) == mine
    assert 'preprocess = "feature"' in mine.toml() and "[dataset_settings]\nheld_out = 0.25" in mine.toml()
    with pytest.raises(UsageError, match="unknown preprocessing 'features': did you mean 'feature'"):
        recipes.Recipe("r", "", 1, 0.1, 0.1, preprocess="features")


# ---- trained ---------------------------------------------------------------------------------------------------------


def test_a_table_learns_with_its_columns_standardised(rng):
    """The default is said aloud, and what it takes away is there with 'feature': two columns that tell it, in one."""
    labels = rng.integers(0, 2, 400)
    rows = np.stack([rng.standard_normal(400), labels * 4 + rng.standard_normal(400)], axis=1) * [1e4, 1e-2]
    accuracy = {}
    for preprocess in (None, "feature"):
        mine = data.from_arrays(rows, labels, preprocess=preprocess)
        rng = np.random.default_rng(0)
        net = models.fcn(SignedSupermask(tau=0.01), rng, mine.input_shape, (30, 2))
        run = lambda: train.fit(net, mine, optim.SGDW(net.parameters(), 0.1), 20, rng, 32)  # noqa: B023, E731
        if preprocess is None:
            with pytest.warns(UserWarning, match=r"does not look like images \(1 x 2 x 1\).*'feature'"):
                record = run()
        else:
            record = run()
        assert record["data"]["preprocess"] == mine.prepare.name == (preprocess or "image")
        assert record["data"]["classes"] == ["0", "1"] and record["data"]["input"] == [1, 2, 1]
        accuracy[preprocess] = record["epochs"][-1]["test_accuracy"]
    assert accuracy[None] < 0.7 and accuracy["feature"] > 0.9


def test_the_example_of_the_page_runs(rng, tmp_path, monkeypatch, capsys):
    pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    images, labels = labelled(rng)
    np.savez("mine.npz", images=images, labels=labels)
    table(tmp_path / "iris.csv", ROWS)
    for number, image in enumerate(images):
        os.makedirs(f"pets/{labels[number]}", exist_ok=True)
        __import__("PIL.Image").Image.fromarray(image).save(f"pets/{labels[number]}/{number}.png")
    example = PAGES["docs/data.md"].partition("tests/data/test_own_sets.py runs it")[2]
    exec(blocks("python", example)[0], {"rows": rng.standard_normal((29, 4)), "kinds": labels})
    assert capsys.readouterr().out == "('0', '1', '2') (32, 32, 1) 23 6\n" and os.path.exists("pets.minimask.npz")
