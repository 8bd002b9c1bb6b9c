"""`minimask compare`: counts and chance by hand and by simulation, runs and masks, and what does not fit."""

import io
import json
import shutil
import subprocess
import sys
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from minimask import MinimaskError, UsageError, data, recipes, runs
from minimask.cli import compare as cli_compare
from minimask.runs import compare

DIGITS = replace(recipes.find("digits"), epochs=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two seeds of one recipe, the first seed longer, and its dense baseline: a folder each."""
    folder, digits = tmp_path_factory.mktemp("runs"), data.digits()
    for name, recipe, seed in (("a", DIGITS, 0), ("b", DIGITS, 1), ("longer", replace(DIGITS, epochs=3), 0),
                               ("dense", replace(recipes.find("digits-dense"), epochs=1), 0)):
        runs.run(recipe, digits, seed, folder / name)
    return folder


@pytest.fixture
def copied(trained, tmp_path):
    shutil.copytree(trained / "a", tmp_path / "a")
    return tmp_path / "a"


# ---- numbers -----------------------------------------------------------------------------------------------------------


def test_two_small_masks_by_hand():
    """Eight weights, A leaves 4, B leaves 5, both leave 3, of which 2 with the same sign."""
    a = np.array([[+1, +1, -1, -1], [0, 0, 0, 0]], np.int8)
    b = np.array([[+1, -1, -1, 0], [+1, +1, 0, 0]], np.int8)
    (one,) = compare.overlaps({"dense1": a}, {"dense1": b})
    assert (one.weights, one.left_a, one.left_b, one.both, one.neither, one.same_sign) == (8, 4, 5, 3, 2, 2)
    assert one.expected == 4 * 5 / 8
    assert one.variance == pytest.approx(4 * 5 * 4 * 3 / (64 * 7))
    assert one.z == pytest.approx((3 - 2.5) / np.sqrt(240 / 448))
    assert one.jaccard == 3 / 6 and one.expected_jaccard == pytest.approx(2.5 / 6.5)
    assert one.expected_same_sign == pytest.approx(3 * (0.5 * 0.4 + 0.5 * 0.6))  # A: half inverted, B: 2 of 5
    assert one.same_weight is None


def test_the_same_weight_is_a_matter_of_both_signs():
    mask, other = np.array([+1, -1, +1, 0], np.int8), np.array([+1, +1, -1, +1], np.int8)
    w, v = np.array([2.0, 2.0, 2.0, 2.0], np.float32), np.array([-2.0, -2.0, -2.0, 2.0], np.float32)
    (same,) = compare.overlaps({"x": mask}, {"x": other}, ({"x": w}, {"x": w}))
    (different,) = compare.overlaps({"x": mask}, {"x": other}, ({"x": w}, {"x": v}))
    assert (same.same_sign, same.same_weight) == (1, 1) and (different.same_sign, different.same_weight) == (1, 2)


def test_chance_is_what_random_masks_of_these_densities_give():
    """1,000 pairs of shuffled masks: mean and variance of the overlap, and the mean of the agreeing signs."""
    rng = np.random.default_rng(0)
    a = np.repeat(np.array([1, -1, 0], np.int8), (20, 40, 140))
    b = np.repeat(np.array([1, -1, 0], np.int8), (70, 10, 120))
    pairs = [compare.overlaps({"x": rng.permutation(a)}, {"x": rng.permutation(b)})[0] for _ in range(1000)]
    both = np.array([pair.both for pair in pairs])
    # standard errors: of the mean sqrt(V/1000), of the variance about V sqrt(2/1000); four of them are allowed
    variance = pairs[0].variance
    assert abs(both.mean() - pairs[0].expected) < 4 * np.sqrt(variance / 1000)
    assert abs(both.var() / variance - 1) < 4 * np.sqrt(2 / 1000)
    z = np.array([pair.z for pair in pairs])
    assert abs(z.mean()) < 0.13 and abs(z.std() - 1) < 0.09
    agree = np.array([pair.same_sign - pair.expected_same_sign for pair in pairs])
    assert abs(agree.mean()) < 4 * agree.std() / np.sqrt(1000)


def test_chance_is_counted_layer_by_layer():
    """Masks that agree in nothing but in which layer is full overlap no more than chance."""
    rng = np.random.default_rng(0)

    def masks():
        return {"full": (rng.random(10_000) < 0.9).astype(np.int8), "thin": (rng.random(90_000) < 0.01).astype(np.int8)}

    layers = compare.overlaps(masks(), masks())
    everything = compare.total(layers)
    assert everything.layer == "all" and everything.weights == 100_000
    assert everything.both == sum(layer.both for layer in layers)
    assert everything.expected == pytest.approx(sum(layer.expected for layer in layers))
    assert abs(everything.z) < 4
    at_once = everything.left_a * everything.left_b / everything.weights
    assert everything.both > 5 * at_once  # which densities over all weights would have called far from chance


def test_masks_that_leave_all_or_nothing_have_no_z():
    full, none = np.ones(5, np.int8), np.zeros(5, np.int8)
    (one,) = compare.overlaps({"x": full}, {"x": none})
    assert one.z is None and one.jaccard == 0 and one.neither == 0
    (two,) = compare.overlaps({"x": none}, {"x": none})
    assert two.z is None and two.jaccard is None and two.neither == 5
    assert " -  " in compare.table([two])


# ---- runs and masks ----------------------------------------------------------------------------------------------------


def test_two_seeds_froze_other_weights(trained, capsys):
    cli_compare.command([str(trained / "a"), str(trained / "b")])
    out = capsys.readouterr().out
    assert "A: " in out and "digits, seed 0, digits, 1 epochs" in out and "digits, seed 1" in out
    assert "frozen weights differ in 3 of 3 layers" in " ".join(out.split())
    masks = [compare.read(trained / name) for name in "ab"]
    left = [sum(int((mask != 0).sum()) for mask in side.masks.values()) for side in masks]
    both = sum(int(((masks[0].masks[name] != 0) & (masks[1].masks[name] != 0)).sum()) for name in masks[0].masks)
    row = next(line for line in out.splitlines() if line.startswith("all")).split()
    assert row[1] == "50,200" and row[4] == f"{both:,}" and row[2] == f"{left[0] / 50200:.1%}"
    effect = sum(int(((masks[0].masks[name] * masks[0].frozen[name]) * (masks[1].masks[name] * masks[1].frozen[name]) > 0
                      ).sum()) for name in masks[0].masks)
    assert f"{effect / both:.1%} have the same sign in effect" in " ".join(out.split())


def test_the_same_seed_longer_froze_the_same_weights(trained, capsys):
    cli_compare.command([str(trained / "a"), str(trained / "longer"), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["frozen"] == "same" and [layer["layer"] for layer in said["layers"]] == ["dense1", "dense2", "dense3"]
    assert said["all"]["z"] > 50 and said["all"]["same_sign"] == said["all"]["same_weight"]
    cli_compare.command([str(trained / "a"), str(trained / "longer")])
    assert "The frozen weights are the same" in capsys.readouterr().out


def test_a_run_beside_itself_and_its_masks(trained, tmp_path, capsys):
    side = compare.read(trained / "a")
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "masks.npz", **side.masks)
        again = compare.read(tmp_path / "masks.npz")
        assert list(again.masks) == list(side.masks) and again.frozen is None
        assert all(np.array_equal(again.masks[name], mask) for name, mask in side.masks.items())
    everything = compare.total(compare.overlaps(side.masks, again.masks))
    assert everything.jaccard == 1 and everything.same_sign == everything.both == everything.left_a
    cli_compare.command([str(trained / "a"), str(tmp_path / "masks.npz")])
    out = " ".join(capsys.readouterr().out.split())
    assert "Masks alone: whether their frozen weights are the same is not known" in out


@pytest.mark.parametrize("name", ["fcn-binary", "fcn-edge-popup"])
def test_the_relatives_have_masks_too(name, tmp_path):
    runs.run(replace(recipes.find(name), dataset="digits", epochs=1), data.digits(), 0, tmp_path / "a")
    side = compare.read(tmp_path / "a")
    (all_of_it,) = {compare.total(compare.overlaps(side.masks, side.masks)).jaccard}
    assert all_of_it == 1 and {value for mask in side.masks.values() for value in np.unique(mask)} == {0, 1}


# ---- mistakes ----------------------------------------------------------------------------------------------------------


def test_nets_that_do_not_fit():
    a, b = {"dense1": np.ones((784, 300), np.int8)}, {"dense1": np.ones((64, 300), np.int8)}
    with pytest.raises(UsageError, match=r"dense1 is \(784, 300\) in A, but \(64, 300\) in B"):
        compare.overlaps(a, b)
    with pytest.raises(UsageError, match="A has the layers dense1, but B has conv2d1, dense1"):
        compare.overlaps(a, {"conv2d1": a["dense1"], **a})
    with pytest.raises(UsageError, match="there is no mask"):
        compare.overlaps({}, {})


def test_a_dense_net_has_no_mask(trained):
    with pytest.raises(UsageError, match=r"dense holds a dense net \(digits-dense\): every weight is trained"):
        compare.read(trained / "dense")


def test_what_is_no_run(tmp_path, copied):
    with pytest.raises(UsageError, match="there is no .*nowhere; give a run's folder"):
        compare.read(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"holds no record\.json, so it is no run's folder"):
        compare.read(tmp_path)
    with pytest.raises(UsageError, match=r"network\.npz is a net, not masks; give the folder of its run"):
        compare.read(copied / "network.npz")


@pytest.mark.parametrize(("spoil", "sentence"), [
    (lambda folder: (folder / "record.json").write_text("{"), "holds no whole run: record.json is damaged"),
    (lambda folder: (folder / "record.json").write_text("[]"), "holds no whole run: record.json is damaged"),
    (lambda folder: (folder / "record.json").write_bytes(b"\xff\xfe"), "holds no whole run: record.json is damaged"),
    (lambda folder: (folder / "network.npz").unlink(), "holds no whole run: .*network.npz"),
    (lambda folder: (folder / "network.npz").write_bytes((folder / "network.npz").read_bytes()[:5000]),
     "holds no whole run: .*network.npz"),
    (lambda folder: edit(folder, lambda record: record["recipe"].update(lr="x")), "holds no whole run: .*lr is 'x'"),
    (lambda folder: edit(folder, lambda record: record.update(epochs=[])), "holds no whole run"),
    (lambda folder: edit(folder, lambda record: record["epochs"][0]["layers"].pop()), "holds no whole run: .*epoch 1 says"),
    (lambda folder: edit(folder, lambda record: record["epochs"][0]["layers"][0].update(kept=1)),
     "holds no whole run: .* do not add up"),
    (lambda folder: edit(folder, lambda record: record["epochs"][0]["layers"][0].update(
        kept=record["epochs"][0]["layers"][0]["inverted"], inverted=record["epochs"][0]["layers"][0]["kept"])),
     "disagrees with itself"),
    (lambda folder: edit(folder, lambda record: record["recipe"]["source_settings"].update(tau=0.02)), None),
    (lambda folder: edit(folder, lambda record: record.update(dataset="mnist")), "holds no whole run"),
])
def test_damaged_runs(copied, spoil, sentence):
    spoil(copied)
    if sentence is None:  # the threshold of every layer is in network.npz, which the record agrees with
        assert compare.read(copied).masks
        return
    with pytest.raises(MinimaskError, match=sentence) as caught:
        compare.read(copied)
    assert str(copied) in str(caught.value) and not isinstance(caught.value, UsageError)


def edit(folder, change):
    record = json.loads((folder / "record.json").read_text())
    change(record)
    (folder / "record.json").write_text(json.dumps(record))


def test_a_data_set_that_minimask_does_not_know(copied):
    edit(copied, lambda record: record.update(dataset="mine"))
    with pytest.raises(UsageError, match="unknown dataset 'mine'"):
        compare.read(copied)


def test_masks_that_are_none(tmp_path):
    path = tmp_path / "m.npz"
    for array in (np.full((2, 2), 2, np.int8), np.ones((2, 2), np.float32), np.empty((0, 3), np.int8), np.ones(2, bool)):
        np.savez(path, dense1=array)
        with pytest.raises(MinimaskError, match="dense1 is no mask: needed are whole numbers -1, 0 and"):
            compare.read(path)
    path.write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(MinimaskError, match="cannot be read"):
        compare.read(path)
    np.savez(path, dense1=np.array([{}], object))
    with pytest.raises(MinimaskError, match="cannot be read"):
        compare.read(path)


def test_masks_in_fortran_order(tmp_path):
    mask = np.random.default_rng(0).integers(-1, 2, (5, 4, 3)).astype(np.int8)
    np.savez(tmp_path / "m.npz", a=np.asfortranarray(mask), b=mask, c=np.asfortranarray(mask[0].astype(np.int64)))
    read = compare.read(tmp_path / "m.npz").masks
    for name, expected in (("a", mask), ("b", mask), ("c", mask[0])):
        np.testing.assert_array_equal(read[name], expected)


def npz(path, *members):
    """A ZIP archive of members (name, content), their checksums right; names may repeat."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # of names that repeat
        for name, content in members:
            archive.writestr(name, content)
    return path


def npy(mask):
    buffer = io.BytesIO()
    np.save(buffer, mask)
    return buffer.getvalue()


def test_two_members_of_one_name(tmp_path):
    ones, zeros = npy(np.ones((2, 2), np.int8)), npy(np.zeros((2, 2), np.int8))
    with pytest.raises(MinimaskError, match="cannot be read .it has two members of one name"):
        compare.read(npz(tmp_path / "m.npz", ("dense1.npy", ones), ("dense1.npy", zeros)))
    with pytest.raises(MinimaskError, match="unknown ones: dense1"):  # once read, it would have the same name
        compare.read(npz(tmp_path / "m.npz", ("dense1.npy", ones), ("dense1", zeros)))


@pytest.mark.parametrize("text", [
    "{'descr': '|i1', 'fortran_order': False, 'shape': (2, 2), ", "{'descr': '|i3', 'fortran_order': False, 'shape': (2, 2), }",
    "{'descr': '|i1', 'fortran_order': None, 'shape': (2, 2), }", "{'descr': '|i1', 'fortran_order': False, 'shape': (2, -2), }",
    "{'descr': '|i1', 'fortran_order': False, 'shape': (2, 2", "{'descr': '|O', 'fortran_order': False, 'shape': (2, 2), }",
    "{'descr': ('|i1', (2,)), 'fortran_order': False, 'shape': (2,), }", "", "(" * 300, "\0" * 20, "1 +", "'" * 3])
def test_headers_that_are_damaged(text, tmp_path):
    """Each in the words of compare; some of them ended in a TokenError of Python's, "a bug in minimask"."""
    raw = text.encode() + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(raw).to_bytes(2, "little") + raw + bytes(4)
    with pytest.raises(MinimaskError, match=r"cannot be read \(dense1\.npy says .*it is damaged or another kind of file"):
        compare.read(npz(tmp_path / "m.npz", ("dense1.npy", content)))


def test_damaged_files_end_in_a_sentence(tmp_path):
    """300 headers with up to three other bytes, checksums put right, and 300 files with bytes changed anywhere."""
    rng, mask = np.random.default_rng(0), np.random.default_rng(1).integers(-1, 2, (5, 4)).astype(np.int8)
    whole, path, refused = npz(tmp_path / "whole.npz", ("dense1.npy", npy(mask))).read_bytes(), tmp_path / "m.npz", 0
    for k in range(600):
        content = bytearray(whole if k % 2 else npy(mask))
        for _ in range(rng.integers(1, 4)):
            content[rng.integers(len(content) if k % 2 else 80)] = rng.choice(list(b"'{}(),:019<|ibTru"))
        if k % 2:
            path.write_bytes(content)
        else:
            npz(path, ("dense1.npy", bytes(content)))
        try:
            compare.read(path)
        except MinimaskError:  # and nothing else
            refused += 1
    assert refused > 400


def test_a_mask_that_promises_more_than_it_holds(tmp_path):
    """A header of 10^12 entries over few bytes is refused before memory is taken."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|i1", "fortran_order": False, "shape": (10**6, 10**6)})
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        archive.writestr("dense1.npy", buffer.getvalue() + bytes(100))
    with pytest.raises(MinimaskError, match=r"dense1\.npy promises .* bytes, but .* are needed"):
        compare.read(tmp_path / "m.npz")


def test_the_command_in_a_process_of_its_own(trained):
    def run(*words):
        return subprocess.run([sys.executable, "-m", "minimask", "compare", *map(str, words)], capture_output=True,
                              text=True, timeout=120)

    done = run(trained / "a", trained / "b")
    assert done.returncode == 0 and done.stderr == "" and "chance" in done.stdout
    for words, status, sentence in (([trained / "a"], 2, "arguments are required: B"),
                                    ([trained / "a", trained / "nix"], 2, "there is no"),
                                    ([trained / "a", trained / "dense"], 2, "holds a dense net")):
        failed = run(*words)
        assert failed.returncode == status and sentence in failed.stderr and "Traceback" not in failed.stderr
