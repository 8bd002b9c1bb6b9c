"""The pictures: that they show the numbers they are made of. What they look like, people have checked."""


import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimask import (
    data,
    models,
    optim,
    plot,
    train,
)
from minimask.mask import SignedSupermask, Trained

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install '.[plot]'")

from minimask import MinimaskError
from minimask.plot import drawing, pictures


@pytest.fixture(scope="module")
def trained():
    rng, digits = np.random.default_rng(0), data.digits()
    net = models.fcn(SignedSupermask(tau=0.01), rng, digits.input_shape)
    record = train.fit(net, digits, optim.SGDW(net.parameters(), lr=0.05, wd=3e-3), 3, rng)
    return net, record, digits


def test_masks_shows_the_image_above_the_masks_rows(trained):
    net, _, digits = trained
    figure = plot.masks(net, digits, image=4)
    images = [ax.images[0].get_array() for ax in figure.axes if ax.images]
    shapes = {array.shape: array for array in reversed(images)}
    np.testing.assert_array_equal(shapes[1, 64], digits.test_images[4].reshape(1, 64))
    np.testing.assert_array_equal(shapes[300, 64], net.masks()["dense1"].T)
    np.testing.assert_array_equal(shapes[8, 8], digits.test_images[4][..., 0])
    kept, hidden, inverted = net.counts()[0]
    titles = " ".join(ax.get_title(loc="left") for ax in figure.axes)
    assert f"{kept:,} kept, {inverted:,} inverted, {hidden:,} hidden" in titles
    units = [(ax.get_title(), ax.images[0].get_array()) for ax in figure.axes if "unit " in ax.get_title()]
    assert len(units) == 10 * 4 and sum("class " in title for title, _ in units) == 10
    for title, shown in units:  # each over the plane of the image
        number = int(re.search(r"unit (\d+)", title)[1])
        np.testing.assert_array_equal(shown, net.masks()["dense1"][:, number].reshape(8, 8))
    above = [np.sign(source.effective().data) for source in list(net.weights().values())[1:]]
    balance = above[0] @ above[1]  # (units of dense1, classes)
    best = int(np.argmax(np.abs(balance[:, 3])))
    assert f"class 3\nunit {best}: {balance[best, 3]:+.0f}" in [title for title, _ in units]


def by_title(picture):
    return {panel.title.partition("\n")[0]: panel for panel in picture.panels}


def test_training_shows_kept_upwards_and_inverted_downwards_by_their_root(trained, tmp_path):
    _, record, _ = trained
    picture = plot.course(record)
    panels = by_title(picture)
    assert list(panels) == ["dense1", "dense2", "dense3", "test accuracy", "weights left", "flips in an epoch"]
    assert [len(row) for row in picture.rows] == [3, 3], "no panel is empty"
    kept, inverted, _ = panels["dense1"].items
    layers = [entry["layers"][0] for entry in record["epochs"]]
    np.testing.assert_allclose(kept.high, [100 * x["kept"] / x["weights"] for x in layers])
    np.testing.assert_allclose(inverted.low, [-100 * x["inverted"] / x["weights"] for x in layers])
    assert not any(kept.low) and not any(inverted.high) and (kept.colour, inverted.colour) == (plot.KEPT, plot.INVERTED)
    axis = panels["dense1"].y
    assert axis.place(4) - axis.place(0) == pytest.approx(2 * (axis.place(1) - axis.place(0)))  # by its root
    assert panels["dense1"].ground == plot.HIDDEN and len({panels[f"dense{i}"].y.low for i in (1, 2, 3)}) == 1
    figure = plot.training(record)
    figure.savefig(tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 10_000 and figure.artists[0].picture == picture


def test_masks_of_colour_images_name_their_channels(drawn):
    rng = np.random.default_rng(0)
    images, classes = rng.integers(0, 256, (3, 6, 6, 3)).astype(np.uint8), ("an airplane", "<b>", "$x_")
    noise = data.Dataset("noise", images, np.arange(3), images, np.arange(3), classes)
    net = models.fcn(SignedSupermask(tau=0.05), rng, (6, 6, 3), (5, 3))
    figure = plot.masks(net, noise)
    maps = [ax for ax in figure.axes if "unit " in ax.get_title()]
    assert len(maps) == 3 * 2 and all(len(ax.images) == 3 for ax in maps)
    assert [text.get_text() for text in maps[-1].texts] == ["red", "green", "blue"]
    assert any(ax.get_title().startswith("class \\$x_\n") for ax in maps)
    plot.png(figure)
    single = plot.masks(models.fcn(SignedSupermask(tau=0.05), rng, (6, 6, 3), (3,)), noise)  # nothing lies above
    assert "the units with the most weights left" in single.subfigs[1].get_suptitle()
    plot.png(single)


def test_a_share_of_four_percent_is_seen_and_the_accuracy_axis_is_where_the_data_is():
    """4 % is a fifth of the way to 100 % by its root; accuracies of 97 to 98 % fill their panel."""
    entries = [{"epoch": i, "test_accuracy": 0.97 + 0.001 * i, "weights_left": 0.04, "flips": 5,
                "layers": [{"name": "a", "weights": 1000, "kept": 20, "hidden": 960, "inverted": 20},
                           {"name": "b", "weights": 1000, "kept": 500, "hidden": 0, "inverted": 500}]} for i in range(1, 11)]
    panels = by_title(plot.course({"epochs": entries, "recipe": {}}))
    y = panels["a"].y
    assert y.place(2) - y.place(0) > 0.08 and y.place(2) - y.place(-2) > 0.16
    low, high = panels["test accuracy"].y.low, panels["test accuracy"].y.high
    assert 96.5 < low < 97.1 and 98.0 < high < 98.5


@pytest.mark.parametrize(("layers", "columns"), [(1, 2), (2, 3), (3, 2), (3, 3), (6, 3), (7, 2), (21, 3)])
def test_no_row_of_panels_has_a_gap_and_a_colour_has_one_meaning(layers, columns):
    entry = {"epoch": 1, "test_accuracy": 0.9, "weights_left": 0.5, "flips": 5, "layers": [
        {"name": f"l{i}", "weights": 4, "kept": 1, "hidden": 2, "inverted": 1} for i in range(layers)]}
    picture = plot.course({"epochs": [entry], "recipe": {}}, columns)
    assert len(picture.panels) == layers + 3 and all(len(row) == columns for row in picture.rows[:-1])
    frames = [shape.points for shape in drawing.shapes(picture) if isinstance(shape, drawing.Shape)
              and shape.stroke == drawing.FRAME and not shape.fill]
    assert max(points[:, 0].max() for points in frames[-len(picture.rows[-1]):]) == pytest.approx(picture.width - 8)
    lines = {item.colour for panel in picture.panels for item in panel.items if isinstance(item, drawing.Line)}
    assert lines == {drawing.INK} and not {plot.KEPT, plot.INVERTED, plot.HIDDEN} & lines


def test_accuracy_against_weights_has_a_mark_per_recipe(trained):
    _, record, _ = trained
    named = [{**record, "recipe": {"name": name}} for name in ("a", "b", "b")]
    picture = plot.trade_off(named)
    marks = [item for item in picture.panels[0].items if isinstance(item, drawing.Marks)]
    assert [len(item.x) for item in marks] == [1, 2]
    end = record["epochs"][-1]
    assert (marks[0].x, marks[0].y) == ([100 * end["weights_left"]], [100 * end["test_accuracy"]])
    assert [key.label for key in plot.trade_off([{**record, "recipe": {}}]).legend] == ["without a recipe (1)"]


def test_many_recipes_are_told_apart_without_colour(trained):
    _, record, _ = trained
    picture = plot.trade_off([{**record, "recipe": {"name": f"r{i:02}"}} for i in range(24)])
    marks = [item for item in picture.panels[0].items if isinstance(item, drawing.Marks)]
    assert len({(item.shape, item.style) for item in marks}) == 24 == len(picture.legend)
    assert len({(item.shape, item.style, item.colour) for item in marks[:8]}) == len({item.colour for item in marks[:8]}) == 8


def test_one_series_is_of_one_length(trained):
    _, record, _ = trained
    short, long = ({**record, "dataset": "digits", "recipe": {"name": "a", "epochs": epochs}} for epochs in (30, 100))
    assert [key.label for key in plot.trade_off([short, long, long]).legend] == [
        "a, digits, 100 epochs (2)", "a, digits, 30 epochs (1)"]
    with pytest.raises(MinimaskError, match="records of 100 and 30 epochs are no one series"):
        plot.training([short, long])


def test_accuracy_on_images_held_out_of_training_is_not_called_test_accuracy(trained):
    _, record, _ = trained
    held, test = ({**record, "dataset": name} for name in ("digits-validation", "digits"))
    assert "held-out accuracy" in by_title(plot.course(held)) and "test accuracy" not in by_title(plot.course(held))
    for records, label in (([held], "held-out accuracy, %"), ([test], "test accuracy, %"), ([held, test], "accuracy, %")):
        assert plot.trade_off(records).panels[0].y.label == label


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-6, 1e6), most=st.integers(2, 9))
def test_ticks_are_the_numbers_that_they_say(low, width, most):
    """97.475 is not cut to 97.47: a tick lies where its text says, and not many more or fewer are there than asked."""
    found = drawing.ticks(low, low + width, most)
    assert len(found) <= most
    for value, text in found:
        assert float(text) == pytest.approx(value, rel=1e-9, abs=1e-12) and low - width / 50 <= value <= low + width * 1.02


def test_ticks_by_hand():
    def texts(*arguments):
        return [text for _, text in drawing.ticks(*arguments)]

    assert texts(97.4, 97.56, 6) == ["97.40", "97.45", "97.50", "97.55"]
    assert texts(97.46, 97.54, 4) == ["97.475", "97.500", "97.525"]
    assert texts(0, 100, 6) == ["0", "20", "40", "60", "80", "100"]


def test_no_number_in_a_text_is_shortened():
    """Only where a line goes is: a name with decimals, and one that looks like path data, stay whole."""
    panel = drawing.Panel("fcn-tau0.005-wd0.0007\nM1.23456L7.89123", drawing.Axis(0, 1, [(0.3, "97.475")]),
                          drawing.Axis(0, 1, []), [drawing.Line([0, 1 / 3], [0, 1])])
    text = drawing.svg(drawing.Picture([[panel]]), "n", "0.123456", "1.987654")
    for whole in ("fcn-tau0.005-wd0.0007", "M1.23456L7.89123", "97.475", ">0.123456<", ">1.987654<"):
        assert whole in text
    assert all(len(number.partition(".")[2]) <= 2 for path in re.findall(r' d="([^"]*)"', text)
               for number in re.findall(r"[\d.]+", path))


def test_svg_and_png_say_the_same(trained):
    """Every text that the PNG's renderer is told is in the SVG, in the same order, and no other."""
    import xml.etree.ElementTree as xml

    from matplotlib.backends.backend_agg import RendererAgg

    _, record, _ = trained
    said = []

    class Told(RendererAgg):
        def draw_text(self, gc, x, y, s, *rest, **more):
            said.append(s)
            return super().draw_text(gc, x, y, s, *rest, **more)

    for picture in (plot.course([record, record]), plot.trade_off({"<a & $b$>": [record], "_c": [record]}, {"d": (0.5, 0.1)})):
        said.clear()
        drawing._replay(picture, Told(800, 800, 130))
        root = xml.fromstring(plot.svg(picture, "n", "t", "d"))
        texts = [each.text for each in root if each.tag.endswith("text") and each.text]
        assert said == texts and len(said) > 10


def test_mistakes(trained):
    net, record, digits = trained
    with pytest.raises(MinimaskError, match="the record has no epochs; train first"):
        plot.training({**record, "epochs": []})
    with pytest.raises(MinimaskError, match="this net has no masked layer"):
        plot.masks(models.fcn(Trained(), np.random.default_rng(0), (8, 8, 1)), digits)
    with pytest.raises(MinimaskError, match=r"first mask is \(784, 300\), but \(64, units\) is needed"):
        plot.masks(models.fcn(SignedSupermask(), np.random.default_rng(0)), digits)
    with pytest.raises(MinimaskError, match="the record has no epochs"):
        plot.training({})


def test_a_record_of_one_epoch_is_a_band_not_a_blank(trained):
    _, record, _ = trained
    kept = by_title(plot.course({**record, "epochs": record["epochs"][:1]}))["dense1"].items[0]
    assert np.ptp(kept.x) == 1 and kept.high[0] == kept.high[1] > 0


def test_show_follows_the_environment_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIMASK_FIGURES", str(tmp_path / "one"))
    plot.show("a", lambda: plot.new_figure(2, 1))
    monkeypatch.setenv("MINIMASK_FIGURES", str(tmp_path / "other"))
    plot.show("a", lambda: plot.new_figure(2, 1))
    assert (tmp_path / "one/a.png").exists() and (tmp_path / "other/a.png").exists()
    monkeypatch.delenv("MINIMASK_FIGURES")
    assert pictures._folder() == pictures._folder()  # one for all pictures of a process


def test_show_writes_a_file_and_goes_on_without_matplotlib(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINIMASK_FIGURES", str(tmp_path / "new"))
    plot.show("empty", lambda: plot.new_figure(2, 1))
    assert (tmp_path / "new/empty.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)  # as if it were not installed
    plot.show("missing", lambda: plot.new_figure(2, 1))
    assert "picture missing skipped: pictures need matplotlib" in capsys.readouterr().out


REC = {
    "epochs": [
        {
            "epoch": i,
            "test_accuracy": 0.9,
            "train_accuracy": 0.5,
            "weights_left": 0.06,
            "flips": 10 * i,
            "layers": [
                {"name": n, "weights": 100, "kept": k + i, "hidden": 99 - 3 * i - 2 * k, "inverted": 1 + k + 2 * i}
                for n, k in (("dense1", 3), ("dense2", 10))
            ],
        }
        for i in (1, 2)
    ],
    "recipe": {},
}


def test_training_picture_shows_what_the_record_says():
    panels = by_title(plot.course(REC))
    for i, name in enumerate(("dense1", "dense2")):
        kept, inverted, _ = panels[name].items
        layers = [x["layers"][i] for x in REC["epochs"]]
        assert list(kept.high) == [x["kept"] for x in layers] and list(inverted.low) == [-x["inverted"] for x in layers]
    lines = {name: panels[name].items[0].y for name in ("test accuracy", "weights left", "flips in an epoch")}
    assert lines == {"test accuracy": [90, 90], "weights left": [6, 6], "flips in an epoch": [10, 20]}
    assert {key.label: key.item.colour for key in plot.course(REC).legend} == {
        "kept, upwards": plot.KEPT, "inverted, downwards": plot.INVERTED, "hidden, the rest": plot.HIDDEN,
        "one seed": drawing.INK}


def test_mask_picture_colours_label_and_ink():
    to_hex = pytest.importorskip("matplotlib.colors").to_hex
    d = data.digits()
    net = models.fcn(SignedSupermask(tau=0.05), np.random.default_rng(0), d.input_shape)
    i = int(np.argmax(d.test_labels == 7))
    f = plot.masks(net, d, i)
    im = next(a.images[0] for a in f.axes if a.images and a.images[0].get_array().shape == (300, 64))
    assert [to_hex(im.cmap(im.norm(v))) for v in (-1, 0, 1)] == [plot.INVERTED, plot.HIDDEN, plot.KEPT]
    (leg,) = f.subfigs[0].legends
    assert {t.get_text(): to_hex(h.get_facecolor()) for t, h in zip(leg.texts, leg.get_patches())} == {
        "kept": plot.KEPT,
        "inverted": plot.INVERTED,
        "hidden": plot.HIDDEN,
    }
    assert any("(class 7)" in a.get_title(loc="left") for a in f.axes)
    seen = next(a.images[0].get_array() for a in f.axes if a.get_title(loc="left") == "units that see the pixel, %")
    np.testing.assert_allclose(seen, 100 * (net.masks()["dense1"] != 0).mean(1).reshape(8, 8))
    all_kept = models.fcn(SignedSupermask(tau=0), np.random.default_rng(0), d.input_shape)
    all_kept.parameters()[0].data = np.ones((64, 300), np.float32)
    im = next(
        a.images[0] for a in plot.masks(all_kept, d).axes if a.images and a.images[0].get_array().shape == (300, 64)
    )
    assert to_hex(im.cmap(im.norm(1))) == plot.KEPT


def test_a_chart_has_the_labels_grid_and_legend_that_it_was_told():
    @plot.chart(5, 3, 2, x="step", y=("loss", "accuracy"), title=("one", "two"), grid="y", legend=("upper left", ""),
                yscale="log", xlim=(0, 9))
    def draw(left, right):
        assert left.get_xlabel() == "step", "what is drawn finds its axes ready"
        left.plot([1, 2], label="ours")
        right.plot([3, 4], label="theirs")

    figure = draw()
    left, right = figure.axes
    assert figure.get_size_inches().tolist() == [5, 3] and draw() is not figure
    assert [(ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) for ax in (left, right)] == [
        ("step", "loss", "one"), ("step", "accuracy", "two")]
    assert all(ax.get_yscale() == "log" and ax.get_xlim() == (0, 9) for ax in (left, right))
    assert [line.get_visible() for ax in (left, right) for line in (ax.get_ygridlines()[0], ax.get_xgridlines()[0])] == [
        True, False] * 2
    assert [text.get_text() for text in left.get_legend().texts] == ["ours"] and right.get_legend() is None
    assert left.get_legend()._loc == 2 and not figure.legends  # 2 is "upper left" for matplotlib


def test_a_chart_of_many_panels_says_once_what_they_share():
    @plot.chart(5, 4, (2, 2), x="epoch", y="%", share=True, grid="", legend="outside lower center", ncols=2)
    def draw(*panels):
        for ax, end in zip(panels, (1, 2, 3, 4)):
            ax.plot([0, end], label="ours" if end == 1 else None)

    figure = draw()
    assert [(ax.get_xlabel(), ax.get_ylabel()) for ax in figure.axes] == [("", "%"), ("", ""), ("epoch", "%"), ("epoch", "")]
    assert len({ax.get_ylim() for ax in figure.axes}) == 1 and not figure.axes[0].get_ygridlines()[0].get_visible()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.texts] == ["ours"]
    assert not any(ax.get_legend() for ax in figure.axes)
    (ax,) = plot.chart(2, 1)(lambda ax: ax.plot([1, 2]))().axes
    assert ax.get_legend() is None, "nothing is labelled, nothing to explain"
