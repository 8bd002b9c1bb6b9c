"""What a notebook shows: the tape as a graph, masks and nets as small tables. Rendered, people have looked at them."""

import re

import numpy as np
import pytest

from minimask import Tensor, display, models, nn, ops, plot
from minimask.display import INVERTED, KEPT
from minimask.mask import SignedSupermask, Trained


def boxes(text):
    """number -> (rows of the label, kind) of every box; and the arrows as (from, to, label)."""
    nodes = {int(i): (label.split("<br/>"), kind)
             for i, label, kind in re.findall(r'^  t(\d+)(?:\(\[|\[)"(.*)"(?:\]\)|\]):::(\w+)$', text, re.MULTILINE)}
    arrows = [(int(a), int(b), label) for a, label, b in
              re.findall(r'^  t(\d+) -->(?:\|"(.*)"\|)? t(\d+)$', text, re.MULTILINE)]
    assert len(text.splitlines()) == 1 + len(nodes) + len(arrows) + 3, "a line is neither"
    return nodes, arrows


def test_the_graph_shows_ops_shapes_dtypes_values_and_what_comes_back():
    a = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    b = a + a
    loss = (b * b + b * a).sum()  # 6 a^2: slope 12 a
    nodes, arrows = boxes(plot.graph(loss, {"a": a}))
    assert nodes[0] == (["a", "(2,) float64", f"gradient norm {np.linalg.norm([12, 24]):.3g}"], "leaf")
    assert [rows[0] for rows, _ in nodes.values()] == ["a", "add", "multiply", "multiply", "add", "sum"]
    assert nodes[5][0][1:] == ["() float64 = 30", "gradient norm 1"]
    by_ends = {(start, end): label for start, end, label in arrows}
    # What comes back: b*b sends 2 b = 4 a to b, b*a sends a; b sends 2 * 5 a to a, and b*a sends b = 2 a.
    norm = np.linalg.norm([1, 2])
    assert by_ends == {(0, 1): f"{10 * norm:.3g} back", (0, 3): f"{2 * norm:.3g} back", (1, 2): f"{4 * norm:.3g} back",
                       (1, 3): f"{norm:.3g} back", (2, 4): "", (3, 4): "", (4, 5): ""}


def test_the_graph_leaves_tape_and_gradients_as_they_were(library):
    def run(look):
        x = library.leaf(3, 2)
        loss = ops.sum(ops.tanh(x * x) * 2.0)
        if look:
            plot.graph(loss)
            assert x.grad is None
        loss.backward()
        return x, library.host(x.grad)

    (x, looked), (_, plain) = run(True), run(False)
    np.testing.assert_array_equal(looked, plain)
    loss = ops.sum(ops.tanh(x * x) * 2.0)
    nodes, _ = boxes(plot.graph(loss))
    assert nodes[0][0] == ["leaf", f"(3, 2) {x.dtype}", f"gradient norm {np.linalg.norm(plain):.3g}"]


def test_the_graph_of_conv2_names_scores_and_marks_declared_gradients():
    rng = np.random.default_rng(0)
    net = models.conv2(SignedSupermask(), rng, input_shape=(8, 8, 3))
    images = rng.standard_normal((2, 8, 8, 3)).astype(np.float32)
    loss = ops.cross_entropy(net(images, training=True), np.array([0, 1]))
    text = plot.graph(loss, net.named_parameters())
    nodes, arrows = boxes(text)
    kinds = [kind for _, kind in nodes.values()]
    assert kinds.count("leaf") == kinds.count("declared") == 5 and len(nodes) == 27 and len(arrows) == 26
    assert [rows[0] for rows, kind in nodes.values() if kind == "leaf"] == list(net.named_parameters())
    assert {rows[0] for rows, kind in nodes.values() if kind == "op"} == {
        "multiply, 1 constant", "conv2d, 1 constant", "conv2d", "elu", "max_pool2d", "reshape", "matmul",
        "cross_entropy, 1 constant"}
    loss.backward()
    for name, tensor in net.named_parameters().items():
        rows = next(rows for rows, _ in nodes.values() if rows[0] == name)
        assert rows[1:] == [f"{tensor.shape} float32", f"gradient norm {np.linalg.norm(tensor.grad):.3g}"]
    assert text._repr_markdown_() == f"```mermaid\n{text}\n```"


def test_a_graph_that_cannot_be_drawn_says_why():
    x = Tensor(np.ones(3), requires_grad=True)
    with pytest.raises(RuntimeError, match="graph: no input of this tensor requires a gradient"):
        plot.graph(ops.exp(np.ones(3)))
    with pytest.raises(ValueError, match="needs a cotangent of that shape"):
        plot.graph(ops.exp(x))
    nodes, _ = boxes(plot.graph(ops.exp(x), cotangent=np.array([0.0, 2.0, 0.0])))
    assert nodes[1][0] == ["exp", "(3,) float64", "gradient norm 2"]
    loss = x.sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="tape through sum was freed"):
        plot.graph(loss)
    nodes, _ = boxes(plot.graph(x.sum(), {'<"x">': x}))
    assert nodes[0][0][0] == "#lt;#quot;x#quot;#gt;"


def widths(text):
    """colour -> width of the bar's parts in em."""
    return {colour: float(width) for colour, width in re.findall(r"background:(#\w+);width:([\d.]+)em", text)}


def test_a_mask_shows_its_counts():
    source = SignedSupermask(tau=0.1).draw((20, 30), np.random.default_rng(0))
    kept, hidden, inverted = source.counts()
    assert repr(source) == f"SignedSupermask(tau=0.1), (20, 30): {kept} kept, {hidden} hidden, {inverted} inverted"
    text = source._repr_html_()
    assert repr(source) in text
    assert widths(text)[KEPT] == pytest.approx(12 * kept / 600, abs=1e-3)
    assert widths(text)[INVERTED] == pytest.approx(12 * inverted / 600, abs=1e-3)
    assert repr(SignedSupermask(tau_ratio=0.4)) == SignedSupermask(tau_ratio=0.4)._repr_html_() == "SignedSupermask(tau_ratio=0.4)"
    assert repr(Trained()) == "Trained(init='elu')"
    assert repr(Trained(init="he").draw((2, 3), np.random.default_rng(0))) == "Trained(init='he'), (2, 3)"


def test_a_net_is_a_table_with_a_bar_for_every_layer_that_has_a_mask():
    rng = np.random.default_rng(0)
    net = models.resnet20(SignedSupermask(), rng, norm="stem")
    rows = net._repr_html_().split("<tr>")[1:]
    assert len(rows) == len(net.layers) + 2  # a head, and the input
    for (name, layer), row in zip(net.layers.items(), rows[2:]):
        inside = [each.weight.counts() for _, each in layer.walk() if each.weight is not None]
        assert f">{name}</td>" in row and bool(widths(row)) == bool(inside)
        if inside:
            kept, hidden, inverted = map(sum, zip(*inside))
            assert widths(row)[KEPT] == pytest.approx(12 * kept / (kept + hidden + inverted), abs=1e-3)
    dense = models.fcn(Trained(), rng)._repr_html_()
    assert not widths(dense) and "266,200 weights, 100.0% left" in dense and "kept" not in dense
    assert "&lt;" in nn.Sequential([type("<L>", (nn.ReLU,), {"__repr__": lambda _: "<L>"})()], (2,))._repr_html_()


def test_columns_are_as_wide_as_need_be():
    assert display.columns([("layer", "", "weights"), ("dense1", "x", 1200), ("d", "yy", "")], left=2) == [
        "layer       weights", "dense1  x      1200", "d       yy"]
    assert display.columns([("a", 1)]) == ["a  1"] and display.columns([]) == []
