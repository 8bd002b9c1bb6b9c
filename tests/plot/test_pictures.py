"""The pictures: that they show the numbers they are made of. What they look like, people have checked."""


import numpy as np
import pytest

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
from minimask.plot import pictures


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
    shapes = {array.shape: array for array in images}
    np.testing.assert_array_equal(shapes[1, 64], digits.test_images[4].reshape(1, 64))
    np.testing.assert_array_equal(shapes[300, 64], net.masks()["dense1"].T)
    np.testing.assert_array_equal(shapes[8, 8], digits.test_images[4][..., 0])
    kept, hidden, inverted = net.counts()[0]
    titles = " ".join(ax.get_title(loc="left") for ax in figure.axes)
    assert f"{kept:,} kept, {inverted:,} inverted, {hidden:,} hidden" in titles
    assert all(ax.get_xlabel() or ax.get_ylabel() or ax.get_title() or ax.get_title(loc="left") or ax.get_legend()
               for ax in figure.axes)


def test_training_stacks_kept_inverted_and_hidden_to_100_percent(trained, tmp_path):
    _, record, _ = trained
    figure = plot.training(record)
    assert len(figure.axes) == 5 and all(ax.get_xlabel() == "epoch" for ax in figure.axes)
    top = figure.axes[0].collections[1].get_paths()[0].vertices[:, 1].max()  # kept + inverted
    layers = [e["layers"][0] for e in record["epochs"]]
    assert top == pytest.approx(max(100 * (x["kept"] + x["inverted"]) / x["weights"] for x in layers))
    figure.savefig(tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 10_000


def test_accuracy_against_weights_has_a_marker_per_recipe(trained):
    _, record, _ = trained
    named = [{**record, "recipe": {"name": name}} for name in ("a", "b", "b")]
    (ax,) = plot.accuracy_against_weights(named).axes
    assert [len(line.get_xdata()) for line in ax.lines] == [1, 2]
    end = record["epochs"][-1]
    assert ax.lines[0].get_xydata().tolist() == [[100 * end["weights_left"], 100 * end["test_accuracy"]]]
    (legend,) = plot.accuracy_against_weights([{**record, "recipe": {}}]).legends
    assert [text.get_text() for text in legend.texts] == ["without a recipe"]


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
    figure = plot.training({**record, "epochs": record["epochs"][:1]})
    assert all(ax.get_xlim() == (0, 1) for ax in figure.axes)
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    assert np.ptp(band[:, 0]) == 1


def test_show_writes_a_file_and_goes_on_without_matplotlib(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINIMASK_FIGURES", str(tmp_path / "new"))
    pictures._folder.cache_clear()
    plot.show("empty", lambda: plot.new_figure(2, 1))
    pictures._folder.cache_clear()
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
    f = plot.training(REC)
    for i in range(2):
        tops = [c.get_paths()[0].vertices[:, 1].max() for c in f.axes[i].collections]
        e = [x["layers"][i] for x in REC["epochs"]]
        assert tops[0] == max(x["kept"] for x in e) and tops[1] == max(x["kept"] + x["inverted"] for x in e)
    lines = {line.get_label(): line.get_ydata().tolist() for ax in f.axes for line in ax.lines}
    assert lines == {"test accuracy": [90, 90], "weights left": [6, 6], "flips": [10, 20]}
    to_hex = pytest.importorskip("matplotlib.colors").to_hex
    assert [to_hex(c.get_facecolor()[0]) for c in f.axes[0].collections] == [plot.KEPT, plot.INVERTED, plot.HIDDEN]


def test_mask_picture_colours_label_and_ink():
    to_hex = pytest.importorskip("matplotlib.colors").to_hex
    d = data.digits()
    net = models.fcn(SignedSupermask(tau=0.05), np.random.default_rng(0), d.input_shape)
    i = int(np.argmax(d.test_labels == 7))
    f = plot.masks(net, d, i)
    im = next(a.images[0] for a in f.axes if a.images and a.images[0].get_array().shape == (300, 64))
    assert [to_hex(im.cmap(im.norm(v))) for v in (-1, 0, 1)] == [plot.INVERTED, plot.HIDDEN, plot.KEPT]
    leg = next(a.get_legend() for a in f.axes if a.get_legend())
    assert {t.get_text(): to_hex(h.get_facecolor()) for t, h in zip(leg.texts, leg.get_patches())} == {
        "kept": plot.KEPT,
        "inverted": plot.INVERTED,
        "hidden": plot.HIDDEN,
    }
    assert any("class 7" in a.get_title(loc="left") for a in f.axes)
    bars = next(a for a in f.axes if len(a.patches) == 64)
    np.testing.assert_allclose([b.get_height() for b in bars.patches], 100 * (net.masks()["dense1"] != 0).mean(1))
    all_kept = models.fcn(SignedSupermask(tau=0), np.random.default_rng(0), d.input_shape)
    all_kept.parameters()[0].data = np.ones((64, 300), np.float32)
    im = next(
        a.images[0] for a in plot.masks(all_kept, d).axes if a.images and a.images[0].get_array().shape == (300, 64)
    )
    assert to_hex(im.cmap(im.norm(1))) == plot.KEPT
