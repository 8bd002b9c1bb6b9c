"""A recorded step, and the page that is made of it: that its numbers are the engine's. Browsers: test_stepper_browser.py."""

import base64
import hashlib
import json
import re
import threading

import cases
import numpy as np
import pytest
from hypothesis import Phase, find, settings

from minimask import Tensor, UsageError, data, models, nn, op, ops, optim, plain, plot, tape
from minimask.engine import FAST, OPS
from minimask.mask import BinarySupermask, EdgePopup, SignedSupermask, Supermask, Trained, keep_hide_invert
from minimask.plot import recording, source, stepper
from minimask.plot.selection import UNITS, select


def batch(count=16, start=0):
    digits = data.digits()
    return data.standardise(digits.train_images[start:start + count]), digits.train_labels[start:start + count]


def digits_net(source=None, units=(20, 10)):
    net = models.fcn(source or SignedSupermask(tau=0.01), np.random.default_rng(0), (8, 8, 1), units)
    return net, optim.SGDW(net.parameters(), lr=0.05, wd=0.02)


def small_resnet():
    net = models.resnet20(SignedSupermask(tau=0.01), np.random.default_rng(0), input_shape=(8, 8, 3), norm="all")
    x = np.random.default_rng(1).standard_normal((4, 8, 8, 3)).astype(np.float32)
    return net, x, np.arange(4), optim.SGD(net.parameters(), lr=0.01)


def content(page):
    """The data in a page."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def values(written, view):
    kind, text = written["arrays"][view["array"]]
    return np.frombuffer(base64.b64decode(text), f"<{kind}")


# ---- the recording ---------------------------------------------------------------------------------------------------


def test_the_recorded_step_is_the_plain_step_bit_for_bit_and_leaves_everything_as_it_was():
    net, optimizer = digits_net()
    x, y = batch()
    for _ in range(2):  # so that there is a velocity, and a gradient
        ops.cross_entropy(net(x, training=True), y).backward()
        optimizer.step()
    before, twins = net.arrays(), dict(FAST)
    state = [p.grad for p in optimizer.parameters], {k: v.copy() for k, v in optimizer.slots().items()}
    seen = recording.record(net, x, y, optimizer)
    assert twins == FAST and optimizer.steps == 2 and seen.number == 3
    assert all(np.array_equal(after, before[name]) for name, after in net.arrays().items())
    assert all(p.grad is grad for p, grad in zip(optimizer.parameters, state[0]))
    assert all(np.array_equal(v, state[1][name]) for name, v in optimizer.slots().items())
    with plain():
        logits = net(x, training=True)
        loss = ops.cross_entropy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        gradients = [p.grad.copy() for p in optimizer.parameters]
        optimizer.step()
    assert seen.loss == loss.item() and seen.loss_after == ops.cross_entropy(net(x), y).item()
    assert np.array_equal(seen.calls[-1].inputs[0].values, logits.data[0])
    for update, p, gradient in zip(seen.updates, optimizer.parameters, gradients):
        assert np.array_equal(update.before.values, before[update.name])
        assert np.array_equal(update.gradient.values, gradient) and np.array_equal(update.after.values, p.data)
    for i, update in enumerate(seen.updates):
        assert np.array_equal(update.slots["velocity"][1].values, optimizer.velocity[i])
    for chain, (name, mask) in zip(seen.chains, net.masks().items()):
        assert chain.layer == name and np.array_equal(chain.after, mask)


def test_batch_norm_keeps_its_statistics():
    net, x, y, optimizer = small_resnet()
    before = net.arrays()
    recording.record(net, x, y, optimizer)
    assert all(np.array_equal(after, before[name]) for name, after in net.arrays().items())


def test_a_step_that_fails_leaves_everything_as_it_was():
    net, optimizer = digits_net()
    x, y = batch()
    before, twins = net.arrays(), dict(FAST)
    optimizer.schedule = lambda step: 1 / 0
    with pytest.raises(ZeroDivisionError):
        recording.record(net, x, y, optimizer)
    assert twins == FAST and all(np.array_equal(a, before[name]) for name, a in net.arrays().items())


def test_calls_bear_the_numbers_that_trace_prints_and_pullbacks_run_in_the_tapes_order(capsys):
    net, x, y, optimizer = small_resnet()
    loss = ops.cross_entropy(net(x, training=True), y)
    loss.trace()
    printed = dict(line.split(maxsplit=2)[:2] for line in capsys.readouterr().out.splitlines())
    uses = tape.uses(tape.rows(loss))
    seen = recording.record(net, x, y, optimizer)
    for call in seen.calls:
        if call.number is not None:
            assert printed[f"#{call.number}"].startswith(f"{call.op}(")
    pulled = sorted((call for call in seen.calls if call.order is not None), key=lambda call: call.order)
    numbers = [call.number for call in pulled]
    assert numbers == sorted(numbers, reverse=True) and len(numbers) == sum("(" in made for made in printed.values())
    met = [call for call in seen.calls if len(call.parts) > 1]
    assert met and {call.number for call in met} <= {number for number, users in uses.items() if len(users) > 1}
    for call in seen.calls:
        if call.parts:
            parts = [seen.calls[index].leaving[which].values for index, which in call.parts]
            np.testing.assert_array_equal(sum(parts[1:], parts[0]), call.arrived.values)
            orders = [seen.calls[index].order for index, _ in call.parts]
            assert orders == sorted(orders)  # as they arrived


def test_a_weight_that_is_used_twice_gets_a_sum():
    rng = np.random.default_rng(0)
    dense = nn.Dense(4, 4, SignedSupermask(), rng)
    net = nn.Sequential([dense, nn.ELU(), dense], (4,))
    x = rng.standard_normal((5, 4)).astype(np.float32)
    seen = recording.record(net, x, np.arange(5) % 4, optim.SGD(net.parameters(), lr=0.1))
    update, = seen.updates
    assert len(update.parts) == 2
    parts = [seen.calls[index].leaving[which].values for index, which in update.parts]
    np.testing.assert_array_equal(parts[0] + parts[1], update.gradient.values)


def test_layers_and_places_of_calls():
    net, optimizer = digits_net()
    seen = recording.record(net, *batch(), optimizer, image=3)
    assert [(call.op, call.layer) for call in seen.calls[:4]] == [
        ("reshape", "flatten1"), ("keep_hide_invert", "dense1"), ("multiply", "dense1"), ("matmul", "dense1")]
    assert seen.calls[0].made_by == ["images"] and seen.calls[0].number is None
    assert seen.calls[2].made_by == ["dense1.frozen", 1] and seen.calls[-1].made_by[1] == "labels"
    assert seen.calls[2].site[0] == "minimask/mask.py" and seen.calls[-1].site == ("", 0)
    np.testing.assert_array_equal(seen.calls[0].value.values, batch()[0][3].ravel())


def test_another_threads_ops_go_on_unseen():
    net, optimizer = digits_net()
    went, begun, seen = threading.Event(), threading.Event(), []

    def other():
        begun.wait(10)
        seen.append(ops.exp(Tensor(np.zeros(3))).data)
        went.set()

    class Meeting(nn.Layer):
        def __call__(self, x, training=False):
            begun.set()
            assert went.wait(10)
            return x

    thread = threading.Thread(target=other)
    thread.start()
    net.layers["meeting"] = Meeting()
    step = recording.record(net, *batch(), optimizer)
    thread.join()
    assert seen[0].tolist() == [1, 1, 1] and "exp" not in [call.op for call in step.calls]


def test_inside_plain_a_step_is_recorded_too():
    net, optimizer = digits_net()
    with plain():
        assert len(recording.record(net, *batch(), optimizer).calls) == 9


def test_another_array_library():
    pytest.importorskip("array_api_strict")
    net = models.fcn(SignedSupermask(), np.random.default_rng(0), (8, 8, 1), (6, 10), backend="strict")
    seen = recording.record(net, *batch(4), optim.SGDW(net.parameters(), lr=0.1))
    assert type(seen.updates[0].after.values) is np.ndarray and seen.calls[-1].order == 0


@pytest.mark.parametrize("image", [-1, 16])
def test_an_image_that_is_not_in_the_batch(image):
    net, optimizer = digits_net()
    with pytest.raises(UsageError, match="the batch has images 0 to 15"):
        plot.step(net, *batch(), optimizer, image)


# ---- sources ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(cases.CASES))
def test_the_parts_of_every_op_are_found(name, monkeypatch):
    """It is called for a pullback; then the parts are cut out of the source."""
    case, function, made = cases.CASES[name], OPS[name].__func__, []
    example = find(case.examples, lambda _: True, settings=settings(phases=[Phase.generate], database=None))

    def watched(xp, *args, **settings):
        value, pullback = function(xp, *args, **settings)
        made.append(source.of_op(function, pullback.__code__.co_firstlineno))
        return value, pullback

    monkeypatch.setitem(FAST, ("numpy", name), watched)
    call = case.call or (lambda op, *arrays, **settings: op(*arrays, **settings))
    call(OPS[name], *example.arrays, **example.settings)
    found, lines = made[0], made[0].text.splitlines()

    def cut(part):
        first, start, last, end = part
        return lines[first][start:end] if first == last else "\n".join([lines[first][start:], *lines[first + 1:last], lines[last][:end]])

    assert found.value and found.pullback and found.file.startswith("minimask/")
    assert cut(found.pullback[-1]).startswith("lambda g:") or cut(found.pullback[-1]) == "pullback"
    assert all("lambda g" not in cut(part) for part in found.value)
    assert open(f"{source.HOME}/{found.file}", encoding="utf-8").read().splitlines()[found.line - 1].strip() == lines[0].strip()


def test_a_function_without_a_file_says_so():
    names = {}
    exec("def made_here(xp, x):\n    return x, lambda g: (g,)", names)
    found = source.of_op(names["made_here"], 2)
    assert "made_here is not in a file" in found.text and not found.value


def test_parts_count_characters_not_bytes():
    def umlaut(xp, x):
        return x * len("äöü"), lambda g: (g * 3,)

    found = source.of_op(umlaut, umlaut.__code__.co_firstlineno + 1)
    line = found.text.splitlines()[1]
    (_, start, _, end), = found.value
    assert line[start:end] == 'x * len("äöü")'
    (_, start, _, end), = found.pullback
    assert line[start:end] == "lambda g: (g * 3,)"


# ---- the page --------------------------------------------------------------------------------------------------------


def test_every_array_of_the_page_is_the_recordings():
    """Forward, backward and update; what a picture shows is the whole array, or the selection's part of it."""
    net, optimizer = digits_net(units=(40, 10))
    seen = recording.record(net, *batch(), optimizer, 2)
    selections = select([seen])
    page = stepper.page([("", seen)], net, "x")
    written = content(page)
    moment = written["moments"][0]

    def same(view, kept, layer):
        shown = kept.values
        if view["kind"] == "block":
            shown = selections[layer].of(shown)
        np.testing.assert_array_equal(values(written, view), shown.ravel())
        assert tuple(view["shape"]) == kept.shape and view["dtype"] == kept.dtype

    for told, call in zip(moment["calls"], seen.calls, strict=True):
        for input, kept, back in zip(told["inputs"], call.inputs, call.leaving or [None] * 9):
            same(input["view"], kept, call.layer)
            assert (input["back"] is None) == (back is None)
            if back is not None:
                same(input["back"], back, call.layer)
        same(told["value"], call.value, call.layer)
        if call.arrived is not None:
            same(told["arrived"], call.arrived, call.layer)
    for told, update in zip(moment["updates"], seen.updates, strict=True):
        for part in ("before", "gradient", "after"):
            same(told[part], getattr(update, part), told["layer"])
    for told, chain in zip(moment["chains"], seen.chains, strict=True):
        assert sum(map(sum, told["moves"])) == chain.before.size
        assert told["moves"][0][1] == np.count_nonzero((chain.before == 1) & (chain.after == 0))
        packed = np.frombuffer(base64.b64decode(told["whole"]["data"]), np.uint8)
        codes = (packed[:, None] >> np.array([0, 2, 4, 6]) & 3).ravel()[:chain.before.size].reshape(chain.before.shape)
        assert np.array_equal(codes == 3, chain.before != chain.after)
        assert np.array_equal(codes == 2, (chain.before == -1) & (chain.after == -1))


def test_the_page_loads_nothing_and_its_policy_names_its_one_script_and_style():
    net, optimizer = digits_net()
    page = plot.step(net, *batch(), optimizer)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    script, style = re.search(r"<script>(.*)</script>", page, re.DOTALL)[1], re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]
    for kind, text in (("script", script), ("style", style)):
        assert f"{kind}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|fetch\(|XMLHttp|import\(", script)
    assert not re.findall(r"\b(?:src|href)=[\"'](?!#)", page) and "http" not in re.sub(r"http://www\.w3\.org/2000/svg|http-equiv", "", script + style + page[:2000])


def test_names_from_outside_stay_text():
    class Odd(nn.ReLU):
        def __repr__(self):
            return "</script><script>alert(1)</script>\u202e"

    rng = np.random.default_rng(0)
    net = nn.Sequential([nn.Flatten(), nn.Dense(64, 10, SignedSupermask(), rng), Odd()], (8, 8, 1))
    page = plot.step(net, *batch(), optim.SGDW(net.parameters(), lr=0.1), title="<b>\x1b", classes=["<img src=x>"] * 10)
    assert page.count("<script") == page.count("</script>") == 2 and "<img" not in page and "<b>" not in page
    written = content(page)
    assert written["classes"][0] == "<img src=x>" and written["layers"][2][1] == r"</script><script>alert(1)</script>\u202e"
    assert written["title"] == r"<b>\x1b"


def test_the_demos_three_steps_take_less_than_one_and_a_half_megabytes():
    digits = data.digits()
    net = models.fcn(SignedSupermask(tau=0.001), np.random.default_rng(0), digits.input_shape)
    optimizer = optim.SGDW(net.parameters(), lr=0.05, wd=0.02)
    moments = []
    for start in (0, 128, 256):
        x, y = batch(128, start)
        moments.append((str(start), recording.record(net, x, y, optimizer)))
        ops.cross_entropy(net(x, training=True), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    page = stepper.page(moments, net, "x", digits.classes)
    assert len(page.encode()) < 1_500_000
    frozen = {told["calls"][2]["inputs"][0]["view"]["array"] for told in content(page)["moments"]}
    assert len(frozen) == 1  # it stays the same, so it is there once


def test_the_weights_shown_are_those_where_something_happens():
    net, optimizer = digits_net(units=(60, 10))
    seen = recording.record(net, *batch(64), optimizer)
    chosen, chain = select([seen])["dense1"], seen.chains[0]
    changed = chain.before != chain.after
    assert changed.any() and len(chosen.columns) == UNITS
    assert chosen.of(changed).sum() >= min(changed.sum(), 2)
    left = np.setdiff1d(np.arange(60), chosen.columns)
    assert changed[:, chosen.columns].sum(axis=0).min() >= changed[:, left].sum(axis=0).max() - 1e-9


class ByHand(Supermask):
    def step(self, scores):
        return keep_hide_invert(scores, 0.02)


@pytest.mark.parametrize("weights, rule, thresholds", [
    (SignedSupermask(tau=0.01), "kept where m > 0.01, inverted where m < −0.01, else hidden", [-0.01, 0.01]),
    (BinarySupermask(tau=0.02), "kept where m > 0.02, else hidden", [0.02]),
    (EdgePopup(share=0.3), "kept are the 30% with the largest |m|, the others hidden", []),
    (ByHand(), "the step of ByHand", [])])
def test_every_kind_of_mask_tells_its_rule(weights, rule, thresholds):
    net, optimizer = digits_net(weights)
    chain = content(plot.step(net, *batch(), optimizer))["moments"][0]["chains"][0]
    assert (chain["rule"], chain["thresholds"]) == (rule, thresholds)


def test_a_dense_net_and_an_op_that_is_not_registered_have_pages_too():
    @op(register=False)
    def halved(xp, x):
        return x / 2, lambda g: (g / 2,)

    class Halved(nn.Layer):
        def __call__(self, x, training=False):
            return halved(x)

    rng = np.random.default_rng(0)
    net = nn.Sequential([nn.Flatten(), nn.Dense(64, 10, Trained(), rng), Halved(), nn.ReLU()], (8, 8, 1))
    seen = recording.record(net, *batch(), optim.SGD(net.parameters(), lr=0.1))
    assert not seen.chains and [call.op for call in seen.calls] == ["reshape", "matmul", "relu", "cross_entropy"]
    assert "halved, an op that is not registered" in seen.calls[2].made_by[0] and not seen.calls[1].parts
    assert content(stepper.page([("", seen)], net, "x"))["moments"][0]["updates"][0]["name"] == "dense1.weight"


def test_numbers_that_are_none_are_told(tmp_path):
    net, optimizer = digits_net()
    x, y = batch()
    x[0, 0, 0, 0] = np.nan
    written = content(plot.step(net, x, y, optimizer))
    assert written["moments"][0]["loss"] == "nan" and written["moments"][0]["calls"][0]["value"]["span"] == ["nan", "nan"]


def test_a_page_is_saved_and_shown(tmp_path, monkeypatch, capsys):
    net, optimizer = digits_net()
    page = plot.step(net, *batch(), optimizer)
    assert page.save(tmp_path / "a.html").read_text(encoding="utf-8") == page
    monkeypatch.setenv("MINIMASK_FIGURES", str(tmp_path))
    page.show("b")
    assert "page:" in capsys.readouterr().out and (tmp_path / "b.html").read_text(encoding="utf-8") == page
    frame = page._repr_html_()
    assert frame.startswith("<iframe srcdoc=") and "<script>" not in frame


def test_two_threads_record_one_after_the_other():
    twins, seen = dict(FAST), []

    def work():
        net, optimizer = digits_net()
        seen.append(recording.record(net, *batch(), optimizer))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert twins == FAST and [len(each.calls) for each in seen] == [9] * 4 and len({each.loss_after for each in seen}) == 1
