"""`minimask report --format`: the numbers by hand, every form read back, captions with their seeds."""

import csv
import io
import json
import re
from dataclasses import replace

import pytest
from recorded import put, record

from minimask import UsageError, recipes
from minimask.cli import report as cli_report
from minimask.runs import paper, records

FCN = replace(recipes.find("fcn"), epochs=2)
ACCURACIES = (0.970, 0.972, 0.974, 0.976, 0.978)


@pytest.fixture
def folder(tmp_path):
    """Five seeds of one recipe, one of another on unverified data, three on held-out images."""
    return put(tmp_path / "records", *(record(FCN, seed, accuracy=accuracy, left=0.04 + seed / 1000)
                                       for seed, accuracy in enumerate(ACCURACIES)),
               record(replace(FCN, name="_one", dataset="fashion-mnist"), 0, unverified=True),
               *(record(replace(FCN, name="held", dataset="mnist-validation"), seed) for seed in range(3)))


@pytest.fixture
def groups(folder):
    return records.groups(records.read([folder]).runs)


def test_mean_deviation_and_interval_by_hand(groups):
    fcn, one, held = (next(row for row in paper.rows(groups) if row["recipe"] == name) for name in ("fcn", "_one", "held"))
    assert fcn["accuracy_mean"] == pytest.approx(0.974) and fcn["seeds"] == 5 and fcn["seed_numbers"] == [0, 1, 2, 3, 4]
    assert fcn["accuracy_sd"] == pytest.approx(0.002 * 10**0.5 / 2)  # squares (4 + 1 + 0 + 1 + 4) times 0.002^2, over 4
    assert 0.970 < fcn["accuracy_low"] < 0.974 < fcn["accuracy_high"] < 0.978
    assert fcn["accuracy_high"] - fcn["accuracy_mean"] == pytest.approx(1.96 * 0.002 * (2 / 5)**0.5, rel=0.12)
    assert (fcn["accuracy_values"], fcn["measured"], fcn["arithmetic"]) == (list(ACCURACIES), "test accuracy", "CPU")
    assert one["accuracy_sd"] is one["accuracy_low"] is None and one["unverified"]
    assert held["accuracy_low"] is None and held["accuracy_sd"] == pytest.approx(0) and held["measured"] == "held-out accuracy"


def test_the_bootstrap_holds_the_mean_about_as_often_as_it_says(rng):
    """Of 20 values some 93 of 100 intervals do; of fewer than five there is none; the same values, the same interval."""
    hits = 0
    for values in rng.standard_normal((200, 20)):
        low, high = paper.bootstrap(values)
        hits += low <= 0 <= high
    assert 172 <= hits <= 197
    assert paper.bootstrap([0.1, 0.2, 0.3, 0.4]) is None
    assert paper.bootstrap(ACCURACIES) == paper.bootstrap(ACCURACIES) and paper.bootstrap([0.5] * 5) == (0.5, 0.5)


def test_csv_and_json_are_read_back(groups):
    rows = paper.rows(groups)
    read = list(csv.DictReader(io.StringIO(paper.as_csv(groups))))
    assert [row["recipe"] for row in read] == [row["recipe"] for row in rows]
    assert [float(row["accuracy_mean"]) for row in read] == [row["accuracy_mean"] for row in rows]
    assert read[0]["accuracy_values"].split() == [repr(accuracy) for accuracy in ACCURACIES]
    assert [row["accuracy_sd"] == "" for row in read] == [row["accuracy_sd"] is None for row in rows]
    whole = json.loads(paper.as_json(groups))
    assert whole["rows"] == rows and whole["made_by"] == "minimask report" and "1 to 5 seeds" in whole["about"]
    own = records.groups([replace_dataset(groups[0].runs[0], "=1+1")])
    assert next(csv.DictReader(io.StringIO(paper.as_csv(own))))["data"] == "'=1+1"


def replace_dataset(run, name):
    return replace(run, recipe=replace(run.recipe, dataset=name))


def test_latex_has_a_caption_with_the_seeds_and_nothing_bare(groups):
    text = paper.as_latex(groups)
    (caption,) = re.findall(r"\\caption\{(.*)\}", text)
    assert "mean over 1 to 5 seeds (see the column)" in caption and "percentile bootstrap" in caption
    assert r"\dag{} trained and tested on files" in caption and "never on test images" in caption
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(lines) == 1 + 3 and all(line.count("&") == 6 for line in lines)
    fcn = next(line for line in lines if line.startswith("fcn "))
    assert r"97.40 $\pm$ 0.32 [97.1" in fcn and " & 5 & " in fcn
    one = next(line for line in lines if line.startswith(r"\_one"))
    assert r"97.00\dag{} & 10.0" in one and r"\pm" not in one
    assert re.sub(r"\\begin\{\w+\}|\\end\{\w+\}", "", text).count("{") == re.sub(
        r"\\begin\{\w+\}|\\end\{\w+\}", "", text).count("}")
    same = [group for group in groups if len(group.runs) == 5]
    assert "mean over 5 seeds, ±" in paper.caption(same) and paper.caption(groups[-1:]).count("seed") >= 1


@pytest.mark.parametrize("form", paper.TABLES)
def test_the_command_writes_and_prints_a_table(folder, tmp_path, capsys, form):
    out, (name, sign) = tmp_path / "out", paper.TABLES[form]
    for _ in range(2):
        cli_report.command([str(folder), "--out", str(out), "--format", form])
        printed = capsys.readouterr().out
        assert [path.name for path in out.iterdir()] == [name]
        assert (out / name).read_text() == printed and printed.startswith(sign)
    (out / name).write_text("mine")
    with pytest.raises(UsageError, match=f"holds what was not made by minimask report and would be lost .{name}."):
        cli_report.command([str(folder), "--out", str(out), "--format", form])
    assert (out / name).read_text() == "mine"


@pytest.mark.parametrize("form", paper.FIGURES)
def test_the_command_writes_figures_and_prints_their_captions(folder, tmp_path, capsys, form):
    if form == "pdf":
        pytest.importorskip("matplotlib")
    places = [str(path) for path in folder.iterdir() if path.name.startswith("held" if form == "pdf" else "")]
    cli_report.command([*places, "--out", str(tmp_path / "out"), "--format", form])
    captions = capsys.readouterr().out.splitlines()
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(written) == (2 if form == "pdf" else 3 + 3) and all(name.endswith(f".{form}") for name in written)
    assert [line.partition(":")[0] for line in captions] == written and all("seed" in line for line in captions)
    first = (tmp_path / "out" / written[0]).read_bytes()
    assert first.startswith(b"%PDF" if form == "pdf" else b"<svg role")
    paper.write(records.groups(records.read(places).runs), tmp_path / "again", form)
    assert (tmp_path / "again" / written[0]).read_bytes() == first


def test_nothing_to_report_says_so_in_every_form(tmp_path):
    from minimask import MinimaskError

    for form in paper.FORMATS:
        with pytest.raises(MinimaskError, match="no record found"):
            cli_report.command([str(tmp_path), "--out", str(tmp_path / "out"), "--format", form])
    assert not (tmp_path / "out").exists()
