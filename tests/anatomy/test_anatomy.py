"""What a mask is made of, counted a second time in another way; the figures and the page show these numbers."""

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from minimask import MinimaskError, anatomy, data, models, nn, optim, plot, recipes, runs, train
from minimask.__main__ import main
from minimask.mask import SignedSupermask, Trained


@pytest.fixture(scope="module")
def digits():
    return data.digits()


@pytest.fixture(scope="module")
def trained(digits):
    """A net that has learned the digits, and its record."""
    rng = np.random.default_rng(0)
    net = models.fcn(SignedSupermask(tau=0.01), rng, digits.input_shape)
    sgdw = optim.SGDW(net.parameters(), lr=0.05, wd=1.5e-2)
    return net, train.fit(net, digits, sgdw, 25, rng)


def sparse(*shape):
    """A weight source that leaves about a third of the weights."""
    return SignedSupermask(tau_ratio=0.65)


def conv_net(rng):
    source = sparse()
    return nn.Sequential([nn.Conv2D(2, 3, 3, source, rng), nn.ELU(), nn.MaxPool2D(2), nn.Conv2D(3, 2, 3, source, rng,
                          stride=2), nn.ReLU(), nn.Flatten(), nn.Dense(2, 4, source, rng)], (4, 4, 2))


def residual_net(rng):
    source = sparse()
    block = nn.Residual([nn.Conv2D(3, 3, 1, source, rng, padding="valid"), nn.ELU(), nn.Conv2D(3, 3, 3, source, rng)],
                        [nn.Conv2D(3, 3, 1, source, rng, padding="valid")])
    norm = nn.BatchNorm(3)
    norm.scale.data = np.float32([0.5, -2.0, 0.0])
    return nn.Sequential([nn.Conv2D(1, 3, 3, source, rng), norm, nn.ELU(), nn.MaxPool2D(3, 1, "same"), block,
                          nn.Residual([nn.ELU()]), nn.GlobalAvgPool(), nn.Dense(3, 2, source, rng)], (3, 3, 1))


NETS = {"conv": conv_net, "residual": residual_net,
        "fcn": lambda rng: models.fcn(sparse(), rng, (3, 3, 1), (7, 5, 4))}


# ---- counting ------------------------------------------------------------------------------------------------------


def test_signs_are_those_of_the_weights_that_the_net_multiplies_with(rng):
    net = models.fcn(SignedSupermask(frozen_distribution="normal", tau=0.05), rng, (4, 4, 1), (6, 3))
    for name, sign in anatomy.signs(net).items():
        source = net.weights()[name]
        assert sign.dtype == np.int8
        np.testing.assert_array_equal(sign, np.sign(source.frozen) * source.mask())
    with pytest.raises(MinimaskError, match="no masked layer, every weight is trained; give a run of a supermask"):
        anatomy.masks(models.fcn(Trained(), rng, (4, 4, 1), (6, 3)))


def test_shares_and_how_far_they_are_from_chance(rng):
    masks = {"a": np.int8([[1, 1, 1, 1, -1, 0], [0, 0, 0, 0, 0, 0]]), "b": np.int8([[1, -1], [-1, -1]])}
    a, b = anatomy.shares(masks)
    assert [a[part] for part in ("name", "weights", "kept", "hidden", "inverted")] == ["a", 12, 4, 7, 1]
    assert [b[part] for part in ("name", "weights", "kept", "hidden", "inverted")] == ["b", 4, 1, 0, 3]
    entries = np.concatenate([mask.ravel() for mask in masks.values()])
    strewn = np.array([np.count_nonzero(rng.permutation(entries)[:12]) for _ in range(4000)])
    assert a["left_by_chance"] == pytest.approx(12 * 9 / 16) == pytest.approx(strewn.mean(), abs=0.06)
    assert a["left_deviation"] == pytest.approx((5 - strewn.mean()) / strewn.std(), abs=0.1)
    coins = rng.binomial(5, 0.5, 4000)
    assert a["kept_deviation"] == pytest.approx((4 - coins.mean()) / coins.std(), abs=0.1)
    assert b["kept_deviation"] == pytest.approx(-1.0)
    empty = anatomy.shares({"all hidden": np.zeros((2, 2), np.int8)})[0]
    assert empty["left_deviation"] == empty["kept_deviation"] == 0
    assert anatomy.shares({"alone": masks["a"]})[0]["left_deviation"] == 0  # nowhere else to go


def test_degrees_count_the_weights_left_at_inputs_and_units(rng):
    dense, kernel = rng.integers(-1, 2, (5, 3)), rng.integers(-1, 2, (3, 2, 4, 5))
    found = anatomy.degrees({"dense": dense, "conv": kernel})
    assert found["dense"][0].tolist() == [sum(v != 0 for v in dense[i]) for i in range(5)]
    assert found["dense"][1].tolist() == [sum(v != 0 for v in dense[:, j]) for j in range(3)]
    assert found["conv"][0].tolist() == [sum(v != 0 for v in kernel[:, :, c].ravel()) for c in range(4)]
    assert found["conv"][1].tolist() == [sum(v != 0 for v in kernel[..., o].ravel()) for o in range(5)]


def counted_forwards(layer, x, weights, name):
    """Numbers of paths that arrive at every place, from those at the places before: one sum per place, in loops."""
    if isinstance(layer, nn.Residual):
        y = x
        for part, child in layer.main.items():
            y = counted_forwards(child, y, weights, f"{name}.{part}")
        for part, child in layer.shortcut.items():
            x = counted_forwards(child, x, weights, f"{name}.shortcut_{part}")
        return y + x
    if isinstance(layer, (nn.Conv2D, nn.MaxPool2D)):
        window = layer.shape[0] if isinstance(layer, nn.Conv2D) else layer.window
        h, w, c = layer.output_shape(x.shape)
        before = [max((n - 1) * layer.stride + window - size, 0) // 2 if layer.padding == "same" else 0
                  for n, size in zip((h, w), x.shape)]
        y = np.zeros((h, w, c))
        for i, j, k, m in np.ndindex(h, w, window, window):
            row, column = i * layer.stride + k - before[0], j * layer.stride + m - before[1]
            if 0 <= row < x.shape[0] and 0 <= column < x.shape[1]:
                y[i, j] += x[row, column] @ (weights[name][k, m] if name in weights else np.eye(c))
        return y
    if isinstance(layer, nn.GlobalAvgPool):
        return x.reshape(-1, x.shape[-1]).sum(axis=0)
    if isinstance(layer, nn.Flatten):
        return x.ravel()
    if isinstance(layer, nn.Dense):
        return x @ weights[name]
    return x * weights[name] if isinstance(layer, nn.BatchNorm) else x


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("kind", NETS)
def test_paths_are_what_arrives_when_one_is_sent_from_each_pixel(kind, signed, rng):
    net = NETS[kind](rng)
    weights = {name: sign.astype(float) for name, sign in anatomy.signs(net).items()}
    weights |= {name: np.sign(layer.scale.data) for name, layer in net.walk() if isinstance(layer, nn.BatchNorm)}
    weights = weights if signed else {name: abs(weight) for name, weight in weights.items()}
    expected = np.zeros((*net.input_shape, list(net.shapes.values())[-1][0]))
    for place in np.ndindex(net.input_shape):
        x = np.zeros(net.input_shape)
        x[place] = 1
        for name, layer in net.layers.items():
            x = counted_forwards(layer, x, weights, name)
        expected[place] = x
    found = anatomy.paths(net, signed)
    assert expected.any() and found.dtype == np.float64
    np.testing.assert_array_equal(found, np.moveaxis(expected, -1, 0))


def test_paths_go_on_from_any_layer(rng):
    net = NETS["fcn"](rng)
    sign = {name: abs(each).astype(float) for name, each in anatomy.signs(net).items()}
    np.testing.assert_array_equal(anatomy.paths(net, after="dense1"), (sign["dense2"] @ sign["dense3"]).T)
    np.testing.assert_array_equal(anatomy.paths(net, after="dense3"), np.eye(4))
    through = anatomy.paths(net, after="dense1") @ sign["dense1"].T  # (classes, pixels)
    np.testing.assert_array_equal(anatomy.paths(net).reshape(4, 9), through)


def test_paths_through_a_layer_used_twice(rng):
    again, norm = nn.Dense(5, 5, sparse(), rng), nn.BatchNorm(5)
    norm.scale.data = np.array([1, -1, 1, 0, 2], np.float32)
    net = nn.Sequential([nn.Flatten(), nn.Dense(4, 5, sparse(), rng), again, norm, nn.ELU(), again, norm,
                         nn.Residual([again]), nn.Dense(5, 3, sparse(), rng)], (2, 2, 1))
    for signed in (False, True):
        each = {name: (sign if signed else abs(sign)).astype(float) for name, sign in anatomy.signs(net).items()}
        scale = np.sign(norm.scale.data) if signed else abs(np.sign(norm.scale.data))
        once = each["dense2"] * scale
        through = each["dense1"] @ once @ once @ (each["dense2"] + np.eye(5)) @ each["dense4"]
        np.testing.assert_array_equal(anatomy.paths(net, signed).reshape(3, 4), through.T)
        assert through.any()


def test_many_classes_are_counted_in_blocks(rng):
    net = models.fcn(sparse(), rng, (3, 3, 1), (7, 23))
    sign = {name: abs(each).astype(float) for name, each in anatomy.signs(net).items()}
    np.testing.assert_array_equal(anatomy.paths(net).reshape(23, 9), (sign["dense1"] @ sign["dense2"]).T)


def test_a_pixel_is_dead_exactly_where_it_changes_no_logit(rng):
    """Pixel 2 is seen by no unit, pixel 5 by one that nobody reads, and every other pixel matters."""
    net = models.fcn(sparse(), rng, (3, 3, 1), (40, 20, 4))
    first, second = (net.weights()[name].scores.data for name in ("dense1", "dense2"))
    first[2], first[5, 1:], first[5, 0], second[0] = 0, 0, 1, 0
    x = rng.standard_normal((1, 3, 3, 1)).astype("float32")
    for pixel, paths in enumerate(anatomy.paths(net).sum(axis=0).ravel()):
        other = x.copy()
        other[0, pixel // 3, pixel % 3] += 1
        assert (paths == 0) == np.array_equal(net(other).data, net(x).data) == (pixel in (2, 5))
    assert (anatomy.masks(net)["dense1"][5] != 0).sum() == 1


def test_a_layer_through_which_paths_are_unknown(rng):
    class Twice(nn.Layer):
        def __call__(self, x, training=False):
            return x + x

        def __repr__(self):
            return "Twice()"

    net = nn.Sequential([nn.Flatten(), Twice(), nn.Dense(4, 2, sparse(), rng)], (2, 2, 1))
    with pytest.raises(MinimaskError, match=r"twice1 is Twice\(\), and how paths pass that is not known"):
        anatomy.paths(net)


def test_pixels_lay_the_first_layer_over_the_image_plane(trained, digits):
    net, _ = trained
    found, mask, sign = anatomy.pixels(net, digits), net.masks()["dense1"], anatomy.signs(net)["dense1"]
    row, column = 3, 5
    units = mask[8 * row + column]
    assert found["seen"][row, column] == np.count_nonzero(units) / 300
    assert found["balance"][row, column] == pytest.approx(units.sum() / 300)
    assert found["sign"][row, column] == pytest.approx(sign[8 * row + column].sum() / 300)
    assert found["varies"][row, column] == pytest.approx(data.standardise(digits.train_images)[:, row, column].std())
    np.testing.assert_array_equal(found["paths"], anatomy.paths(net).sum(axis=(0, 3)))
    assert not ((found["seen"] == 0) & (found["paths"] > 0)).any() and (found["paths"] == 0).any()
    conv = models.conv2(sparse(), np.random.default_rng(0), digits.input_shape)
    assert set(anatomy.pixels(conv, digits)) == {"paths", "varies"}


def test_a_first_layer_without_a_mask_is_not_laid_over_the_image(digits, rng):
    net = nn.Sequential([nn.Flatten(), nn.Dense(64, 9, Trained(), rng), nn.ELU(), nn.Dense(9, 10, sparse(), rng)], (8, 8, 1))
    assert anatomy.over_the_image(net) is None and set(anatomy.pixels(net, digits)) == {"paths", "varies"}


def test_class_means(digits):
    some = data.Dataset("x", digits.train_images[:50], digits.train_labels[:50], digits.test_images,
                        digits.test_labels, (*digits.classes, "never"))
    means = anatomy.class_means(some)
    assert means.shape == (11, 8, 8, 1) and not means[10].any()
    np.testing.assert_allclose(means[3], data.standardise(some.train_images)[some.train_labels == 3].mean(axis=0),
                               atol=1e-6)


def test_patterns_counts_filters_and_what_chance_gives(rng):
    weight = rng.choice([-1, 0, 1], (2, 2, 60, 80), p=[0.2, 0.6, 0.2]).astype(np.int8)
    planted = np.int8([[1, -1], [0, 1]])
    weight[:, :, :, :7] = planted[:, :, None, None]
    weight[:, :, 0, 7:] = 0
    found = anatomy.patterns(weight, most=100)
    pattern, count, chance = found[0]
    np.testing.assert_array_equal(pattern, planted)
    assert count == sum(np.array_equal(weight[:, :, i, o], planted) for i in range(60) for o in range(80)) >= 420
    share = np.count_nonzero(weight) / weight.size
    assert chance == pytest.approx(4800 * (share / 2) ** 3 * (1 - share))
    hidden = sum(not weight[:, :, i, o].any() for i in range(60) for o in range(80))
    assert sum(count for _, count, _ in found) == 4800 - hidden and all(pattern.any() for pattern, _, _ in found)
    counts = [count for _, count, _ in found]
    assert counts == sorted(counts, reverse=True)
    assert len(found) == 80 and sum(chance for *_, chance in found) == pytest.approx(4800 * (1 - (1 - share) ** 4))
    assert anatomy.patterns(np.zeros((3, 3, 2, 2))) == []


# ---- which part carries the information ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", anatomy.CHANGES)
def test_a_change_changes_its_part_and_no_other(name, rng):
    net = models.fcn(SignedSupermask(tau=0.04), rng, (6, 6, 1), (40, 10))
    before = net.arrays()
    other = anatomy.changed(net, anatomy.CHANGES[name], rng)
    for key, array in net.arrays().items():
        np.testing.assert_array_equal(array, before[key])
    for layer, source in net.weights().items():
        mask, frozen, old = source.mask(), source.frozen, source.effective().data
        new = other.weights()[layer].effective().data
        assert new.dtype == old.dtype and not np.array_equal(new, old)
        same_places, same_signs = np.array_equal(new == 0, old == 0), np.array_equal(np.sign(new), np.sign(old))
        assert np.count_nonzero(new) == np.count_nonzero(old)
        assert same_places == (name != "mask shuffled") and same_signs == name.startswith("magnitudes")
        if not name.startswith("magnitudes"):
            assert set(np.abs(new[new != 0])) == set(np.abs(frozen.ravel()))
        if name.endswith("shuffled"):  # as many kept and inverted as before
            assert np.count_nonzero(new * frozen > 0) == np.count_nonzero(mask > 0)
        if name == "frozen weights anew":
            assert 0.3 < (np.sign(new) == np.sign(old))[mask != 0].mean() < 0.7
    if name.startswith("magnitudes"):
        new = np.concatenate([source.effective().data.ravel() for source in other.weights().values()])[:1440]
        moment = np.mean(np.square(new[new != 0])) / net.weights()["dense1"].frozen[0, 0] ** 2
        assert moment == pytest.approx(1, abs=0.15)


def test_worth_measures_each_change(trained, digits):
    net, record = trained
    found = anatomy.worth(net, digits, np.random.default_rng(0), repeats=3)
    assert list(found) == ["as trained", *anatomy.CHANGES]
    assert found["as trained"] == [record["epochs"][-1]["test_accuracy"]]
    assert all(len(set(found[name])) > 1 for name in anatomy.CHANGES if name != "magnitudes uniform")
    for name in ("signs shuffled", "mask shuffled", "frozen weights anew"):
        assert max(found[name]) < 0.4
    assert min(found["magnitudes uniform"]) > 0.8
    assert found == anatomy.worth(net, digits, np.random.default_rng(0), repeats=3)


def test_other_array_libraries(digits):
    pytest.importorskip("array_api_strict")
    here, there = (models.fcn(SignedSupermask(), np.random.default_rng(3), digits.input_shape, (9, 10), backend=library)
                   for library in ("numpy", "strict"))
    np.testing.assert_array_equal(anatomy.paths(here), anatomy.paths(there))
    small = replace(digits, test_images=digits.test_images[:50], test_labels=digits.test_labels[:50])
    assert (anatomy.worth(here, small, np.random.default_rng(0), 1)
            == anatomy.worth(there, small, np.random.default_rng(0), 1))


# ---- figures and the page ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def figures():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install '.[plot]'")
    from minimask.anatomy import figures as anatomy_figures

    return anatomy_figures


def shown(figure):
    """The arrays of all pictures in a figure, NaN where nothing is drawn."""
    return [np.ma.filled(np.ma.asarray(ax.images[0].get_array(), dtype=float), np.nan)
            for ax in figure.axes if ax.images and ax.get_visible()]


def test_the_figures_show_what_was_counted(trained, digits, figures):
    from matplotlib.colors import to_rgba

    net, _ = trained
    found = anatomy.pixels(net, digits)
    arrays = shown(figures.pixels(found))
    np.testing.assert_allclose(arrays[0], 100 * found["seen"])
    np.testing.assert_allclose(arrays[1], 100 * found["balance"])
    np.testing.assert_allclose(arrays[2], 100 * found["sign"])
    np.testing.assert_allclose(np.nan_to_num(arrays[3], nan=-1), np.log10(np.where(found["paths"], found["paths"], 0.1)))
    np.testing.assert_allclose(arrays[4], found["varies"])
    np.testing.assert_array_equal(arrays[5], found["paths"] > 0)
    panels = figures.pixels(found).axes
    assert panels[5].get_title() == f"{int((found['paths'] == 0).sum())} of 64 pixels are dead"
    dashes = [tuple(map(int, place)) for place in panels[2].collections[0].get_offsets()]
    rows, columns = np.nonzero(found["sign"] < -np.abs(found["sign"]).max() / 5)  # what is clearly negative, and no more
    assert dashes == list(zip(columns, rows)) and dashes
    means, balance = anatomy.class_means(digits)[..., 0], anatomy.paths(net, signed=True)[..., 0]
    arrays = shown(figures.classes(net, digits))
    np.testing.assert_allclose(arrays[0], means[0] / np.abs(means).max())
    np.testing.assert_allclose(arrays[5], balance[0] / np.abs(balance).max())
    np.testing.assert_allclose(arrays[-1], balance[9] / np.abs(balance).max())
    figure, to_class = figures.units(net, digits), anatomy.paths(net, signed=True, after="dense1")
    unit = int(np.abs(to_class[0]).argmax())
    np.testing.assert_array_equal(shown(figure)[0], anatomy.signs(net)["dense1"][:, unit].reshape(8, 8))
    assert figure.axes[0].get_title() == f"unit {unit}: {to_class[0, unit]:+.0f}"
    order = np.argsort(-np.abs(to_class[3]), kind="stable")[:6]  # those that speak against the class, too
    assert [ax.get_title() for ax in figure.axes[18:24]] == [f"unit {i}: {to_class[3, i]:+.0f}" for i in order]
    bars = figures.shares(anatomy.shares(net.masks())).axes[0].patches
    kept, hidden, inverted = net.counts()[1]
    assert [bars[i].get_width() for i in (1, 4, 7)] == pytest.approx([n / 300 for n in (kept, inverted, hidden)])
    ax = figures.shares(anatomy.shares(net.masks())).axes[0]
    assert [bars[i].get_facecolor() for i in (1, 4, 7)] == [to_rgba(colour) for colour in (plot.KEPT, plot.INVERTED, plot.HIDDEN)]
    assert [label.get_text() for label in ax.get_yticklabels()] == list(net.masks())
    assert bars[1].get_y() + bars[1].get_height() / 2 == ax.get_yticks()[1] < ax.get_yticks()[0]
    half, evenly = (ax.lines[i].get_xdata()[0] for i in (1, 4))
    assert half == pytest.approx((kept + inverted) / 300 / 2) and evenly == pytest.approx(100 * net.weights_left())
    real = anatomy.degrees(net.masks())["dense2"][1]
    panel = figures.degrees(net.masks(), np.random.default_rng(0)).axes[3]
    assert sum(bar.get_height() for bar in panel.patches if hasattr(bar, "get_height")) == len(real) == 100
    inputs, masks = anatomy.degrees(net.masks())["dense1"][0], net.masks()
    generator = np.random.default_rng(0)
    theirs = np.count_nonzero(anatomy.shuffled(masks["dense1"], generator), axis=1)
    panel = figures.degrees(masks, np.random.default_rng(0)).axes[0]
    assert panel.get_title() == f"dense1: 64 inputs (out-degree), {int((inputs == 0).sum())} with none"
    outline = panel.patches[-1].get_xy()
    assert max(place for place, height in outline if height) - min(place for place, height in outline if height) < np.ptp(inputs)
    assert (inputs == 0).sum() != (theirs == 0).sum()
    worth = {"as trained": [0.9], "signs shuffled": [0.1, 0.2]}
    ax = figures.worth(worth, 0.1).axes[0]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([90, 15])
    assert [list(line.get_xdata()) for line in ax.lines] == [[90], [10, 20], [10, 10]]  # the last one: guessing
    assert [text.get_text() for text in ax.texts] == ["90.0 %", "15.0 %"]
    assert [text.get_position()[1] for text in ax.texts] == list(ax.get_yticks())
    assert [label.get_text() for label in ax.get_yticklabels()] == list(worth)


@pytest.mark.once
def test_the_page_of_a_mask_that_inverts_nothing_says_so(tmp_path, capsys, figures):
    edge = replace(recipes.find("digits"), name="edge", source="edge-popup", source_settings={"share": 0.1})
    (tmp_path / "edge.toml").write_text(edge.toml())
    run = tmp_path / "run"
    assert main(["train", str(tmp_path / "edge.toml"), "--epochs", "1", "--out", str(run), "--quiet"]) == 0
    assert main(["inspect", str(run), "--repeats", "1"]) == 0
    capsys.readouterr()
    text = (run / "anatomy/index.html").read_text()
    for sentence in ("by keeping or hiding random weights", "This kind of mask keeps or hides and never inverts.",
                     "the same, since nothing is inverted", "this mask inverts nothing, so it has no signs",
                     "in all layers at once, once, and"):
        assert sentence in text, sentence
    assert "deviation of kept" not in text and "coin" not in text


def test_the_figures_of_a_convolution(digits, figures, rng):
    net = models.conv2(SignedSupermask(tau_ratio=0.6), rng, (8, 8, 3))
    through = anatomy.paths(net, after="conv2d1").sum(axis=(0, 1, 2))
    figure, best = figures.filters(net), int(through.argmax())
    sign = anatomy.signs(net)["conv2d1"][..., best]
    np.testing.assert_array_equal([image.get_array() for image in figure.axes[0].images], sign.transpose(2, 0, 1))
    assert [text.get_text() for text in figure.axes[23].texts] == ["red", "green", "blue"]
    assert figure.axes[0].get_title() == f"filter {best}: {through[best] / through.sum():.1%}"
    pattern, count, chance = anatomy.patterns(anatomy.signs(net)["conv2d2"])[0]
    figure = figures.patterns(net)
    np.testing.assert_array_equal(shown(figure)[8], pattern)
    assert figure.axes[8].get_title() == f"found {count:,}\n(chance {chance:.2g})"


class Page(HTMLParser):
    """What a page shows and what it loads."""

    def __init__(self, text):
        super().__init__()
        self.sources, self.words, self.tags = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href", "srcset", "data")]

    def handle_data(self, words):
        self.words.append(words)


@pytest.mark.once
def test_inspect_writes_figures_numbers_and_a_page_that_needs_nothing_else(tmp_path, capsys, digits, figures, drawn):
    assert main(["train", "digits", "--epochs", "3", "--out", str(tmp_path / "run"), "--quiet"]) == 0
    assert main(["inspect", str(tmp_path / "run"), "--repeats", "2"]) == 0
    out, folder = capsys.readouterr().out, tmp_path / "run/anatomy"
    text = (folder / "index.html").read_text()
    page, counted = Page(text), json.loads((folder / "anatomy.json").read_text())
    names = ["shares", "masks", "pixels", "classes", "units", "degrees", "worth"]
    assert sorted(path.name for path in folder.iterdir()) == sorted([f"{n}.png" for n in names]
                                                                    + ["index.html", "anatomy.json"])
    assert "index.html" in out and all(f"{name}.png" in out for name in names)
    for source, name in zip(page.sources, names, strict=True):
        kind, _, content = source.partition(",")
        assert kind == "data:image/png;base64" and base64.b64decode(content) == (folder / f"{name}.png").read_bytes()
    assert page.tags.count("h2") == page.tags.count("img") == len(names) and "script" not in page.tags
    assert not re.search(r"https?://|@import|url\(", text)
    net, record = runs.load(tmp_path / "run", digits)
    assert [(row["kept"], row["hidden"], row["inverted"]) for row in counted["layers"]] == net.counts()
    assert counted["test_accuracy"] == counted["worth"]["as trained"][0] == record["epochs"][-1]["test_accuracy"]
    assert counted["pixels"]["dead"] == int((anatomy.paths(net).sum(axis=0) == 0).sum())
    assert sum(counted["paths"].values()) == anatomy.paths(net).sum()
    assert len(counted["worth"]["signs shuffled"]) == counted["repeats"] == 2
    assert f"{counted['pixels']['dead']} of 64 pixels are dead" in text and "Inside digits, seed 0" in text
    from minimask.anatomy import page as anatomy_page

    assert anatomy_page.numbers(net, record, digits, repeats=2) == counted  # the same run, the same numbers


def test_the_sentences_say_what_was_counted(figures):
    """Every number in a text or a table of the page, from numbers that were made up."""
    from minimask.anatomy import page as anatomy_page

    spread = [{"least": 1, "mean": 2.5, "most": 4}, {"least": 5, "mean": 6.5, "most": 8}]
    layer = {"weights": 1000, "kept": 30, "hidden": 950, "inverted": 20, "left_by_chance": 60.0}
    counted = {
        "dataset": "mine", "unverified": False, "test_accuracy": 0.875, "weights_left": 0.05, "guessing": 0.25, "repeats": 2,
        "layers": [{**layer, "name": "a", "left_deviation": -4.5, "kept_deviation": 1.4},
                   {**layer, "name": "b", "left_deviation": 3.5, "kept_deviation": -3.1},
                   {**layer, "name": "c", "left_deviation": -2.9, "kept_deviation": 2.9}],
        "degrees": [{"name": "a", "inputs": 11, "inputs_with_none": 12, "out_degree": spread[0], "units": 13,
                     "units_with_none": 14, "in_degree": spread[1]}],
        "worth": {"as trained": [0.75], "signs shuffled": [0.2, 0.2], "mask shuffled": [0.25, 0.35],
                  "magnitudes uniform": [0.7, 0.7], "magnitudes normal": [0.5, 0.5], "frozen weights anew": [0.25, 0.25]}}
    shares = anatomy_page._shares(counted)
    assert "5.00% of the weights are left" in shares.text[0] and "2 of 3 layers are more than 3 away" in shares.text[0]
    assert "1 of 3 layers are more than 3 standard deviations" in shares.text[1]
    assert shares.table.rows[0] == ["a", "1,000", "30", "950", "20", "5.0%", "-4.5", "+1.4"]
    masks = {"a": np.int8([[1, 0], [-1, 1]])}
    assert anatomy_page._degrees(masks, counted).table.rows == [
        ["a", "11", "12", "1 / 2.5 / 4", "13", "14", "5 / 6.5 / 8"]]
    worth = anatomy_page._worth(counted)
    assert [row[-1] for row in worth.table.rows] == ["100%", "-10%", "10%", "90%", "50%", "0%"]
    assert worth.table.rows[2][1:4] == ["30.00%", "25.00%", "35.00%"]
    text = " ".join(worth.text)
    for sentence in ("2 times", "better than guessing (25%)", "each layer. -10% is left", "change places. 10% is left",
                     "90% and 50% are left", "signs and all. 0% is left"):
        assert sentence in text
    assert "150 of 3,000 are left, and 87.50% of the held-out" in anatomy_page._lead(counted)
    unverified = {**counted, "unverified": True}
    lead = anatomy_page._lead(unverified)
    assert "trained on mine† by" in lead and "87.50%† of the held-out" in lead and "† trained and tested on files" in lead
    assert anatomy_page._worth(unverified).table.head[1] == "accuracy†: mean" and "†" not in anatomy_page._lead(counted)
    worse = anatomy_page._worth({**counted, "worth": {**counted["worth"], "as trained": [0.2]}})
    assert {row[-1] for row in worse.table.rows} == {"nothing"}
    assert anatomy_page._count(2.0**53 - 1) == "9,007,199,254,740,991" and anatomy_page._count(2.0**60) == "about 1.15e+18"


def test_the_numbers_are_those_of_the_net(trained, digits, figures):
    from minimask.anatomy import page as anatomy_page

    net, record = trained
    record = {"recipe": {"name": "x"}, "seed": 0, **record}
    counted, found = anatomy_page.numbers(net, record, digits, repeats=1), anatomy.pixels(net, digits)
    for row, (out, into) in zip(counted["degrees"], anatomy.degrees(net.masks()).values(), strict=True):
        assert (row["inputs"], row["inputs_with_none"]) == (len(out), np.count_nonzero(out == 0))
        assert (row["units"], row["units_with_none"]) == (len(into), np.count_nonzero(into == 0))
        assert row["out_degree"] == {"least": out.min(), "mean": pytest.approx(out.mean()), "most": out.max()}
        assert row["in_degree"] == {"least": into.min(), "mean": pytest.approx(into.mean()), "most": into.max()}
    assert counted["guessing"] == 0.1 and counted["weights_left"] == net.weights_left()
    assert counted["pixels"]["seen_by_no_unit"] == np.count_nonzero(found["seen"] == 0)
    expected = np.corrcoef(found["seen"].ravel(), found["varies"].ravel())[0, 1]
    assert counted["pixels"]["correlation_with_variation"] == pytest.approx(expected)
    assert anatomy_page._correlation(np.ones(4), np.arange(4)) is None
    most, least = (choose(counted["paths"], key=counted["paths"].get) for choose in (max, min))
    text = anatomy_page._classes(net, digits, counted).text[1]
    assert f"{counted['paths'][most]:,.0f} paths lead to class {most}, the most" in text
    assert f"{counted['paths'][least]:,.0f} to class {least}, the fewest" in text


def test_a_name_is_text_and_not_markup(tmp_path, digits, trained, figures, monkeypatch):
    from minimask.anatomy import page as anatomy_page

    monkeypatch.setattr(anatomy_page, "parts", lambda *arguments: iter(()))
    net, record = trained
    named = {**record, "recipe": {"name": "<b>&"}, "seed": 3}
    assert anatomy_page.write(tmp_path, net, named, digits, repeats=1) == ["index.html", "anatomy.json"]
    page = Page((tmp_path / "index.html").read_text())
    assert "Inside <b>&, seed 3" in page.words and "b" not in page.tags


def test_the_page_of_a_conv_net_shows_its_filters(digits, figures, rng):
    from minimask.anatomy import page as anatomy_page

    net = models.conv2(SignedSupermask(tau_ratio=0.6), rng, (8, 8, 1))
    few = replace(digits, test_images=digits.test_images[:20], test_labels=digits.test_labels[:20])
    record = {"recipe": {"name": "<b>&"}, "seed": 0, "epochs": [{"test_accuracy": 0.5}]}
    counted = anatomy_page.numbers(net, record, few, repeats=1)
    assert counted["pixels"]["seen_by_no_unit"] is None and counted["pixels"]["dead"] == 0
    parts = {part.name: part for part in anatomy_page.parts(net, few, counted)}
    assert list(parts) == ["shares", "pixels", "classes", "filters", "patterns", "degrees", "worth"]
    assert "conv2d1" in parts["filters"].text[0]
    assert all(part.text and part.caption and part.title for part in parts.values())


@pytest.mark.once
def test_mistakes(tmp_path, capsys, monkeypatch, figures):
    def fails(status, sentence, *words):
        assert main(["inspect", *map(str, words)]) == status
        said = capsys.readouterr().err
        assert re.search(sentence, said) and said.count("\n") == 1, said

    monkeypatch.delenv("MINIMASK_DATA", raising=False)
    fails(2, "holds no record.json, so it is no run's folder; give one as `minimask train` leaves it", tmp_path / "no")
    fails(2, "required: RUN")
    fails(2, r"did you mean --repeats\?", tmp_path, "--repeat", "3")
    fails(2, "no whole number from 1 up", tmp_path, "--repeats", "0")
    assert main(["train", "digits-dense", "--epochs", "1", "--out", str(tmp_path / "dense"), "--quiet"]) == 0
    fails(1, "this net has no masked layer", tmp_path / "dense")
    assert not (tmp_path / "dense/anatomy/index.html").exists()
    assert main(["train", "digits", "--epochs", "1", "--out", str(tmp_path / "run"), "--quiet"]) == 0
    capsys.readouterr()
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    fails(2, "holds what `minimask inspect` has not made and would be lost .masks.png.; give another folder",
          tmp_path / "run", "--out", tmp_path / "run", "--repeats", "1")
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    (tmp_path / "file").write_text("")
    fails(2, "file is a file or lies under one; give a folder with --out", tmp_path / "run", "--out", tmp_path / "file")
    record = (tmp_path / "run/record.json").read_text()
    (tmp_path / "run/record.json").write_text(record.replace('"dataset": "digits"', '"dataset": "mnist"'))
    fails(2, "mnist", tmp_path / "run")
    (tmp_path / "run/record.json").write_text("{")
    fails(1, "holds no whole run: record.json is damaged", tmp_path / "run")


def test_paths_are_counted_beyond_what_int8_holds():
    """200 units, all of their weights kept: 200 paths from each pixel to each class; int8 masks multiplied give -56."""
    net = models.fcn(SignedSupermask(tau=0.0, frozen_distribution="constant"), np.random.default_rng(0), (2, 2, 1),
                     units=(200, 3))
    for tensor in net.parameters():
        tensor.data[...] = 1.0
    one, two = net.masks().values()
    assert one.dtype == np.int8 and (one @ two)[0, 0] == -56 and "anatomy.paths" in type(net).masks.__doc__
    assert (anatomy.paths(net) == 200).all() and (anatomy.paths(net, signed=True) == 200).all()
    assert (one.astype(float) @ two == 200).all()
