"""`minimask report`: its numbers, its files, its page, and what it says of records that it leaves out."""

import html
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from recorded import put, record

from minimask import MinimaskError, UsageError, plot, recipes
from minimask.cli import report as cli_report
from minimask.plot import drawing, page
from minimask.plot.page import Table
from minimask.runs import records, report

FCN = replace(recipes.find("fcn"), epochs=3)
HOSTILE = '<script>alert("1")</script> & | `x`'


def reading(tmp_path, *some):
    return records.read([put(tmp_path / "records", *some)])


def cells(table):
    """The rows of a Markdown table, each a dict by the head's names."""
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.strip().splitlines()
                      if line.startswith("|")]
    return [dict(zip(head, row)) for row in rows]


# ---- numbers -----------------------------------------------------------------------------------------------------------


def test_mean_and_percentiles_by_hand():
    """Of 96.5, 97 and 98: the mean is 97.17; 5 % of the way through two gaps is 0.1 of the first, 95 % 0.9 of the last."""
    assert report.spread([0.97, 0.98, 0.965]) == "97.17 (96.55 to 97.90)"
    assert report.spread([0.97, 0.98, 0.965], "†") == "97.17† (96.55† to 97.90†)"
    assert report.spread([0.9763]) == "97.63" and report.spread([1.0, 1.0, 1.0]) == "100.00"


def test_the_papers_row_beside_ours(tmp_path):
    whole = recipes.find("fcn-dense")
    some = [record(whole, seed, accuracy=accuracy, seconds=60 * (seed + 1))
            for seed, accuracy in enumerate((0.975, 0.979))]
    table = report.results_table(reading(tmp_path, *some, record(FCN)).runs)
    short, dense = cells(table)
    assert dense == {"recipe": "`fcn-dense`", "test accuracy, %": "97.70 (97.52 to 97.88)", "weights left, %": "100.00",
                     "paper": "97.42 / 100.00", "difference": "+0.28 / +0.00", "runs": "2", "epochs": "50",
                     "data": "mnist"}
    assert short["epochs"] == "3" and short["paper"] == "" == short["difference"]  # not as long as the paper's
    assert "†" not in table


def test_weights_left_are_those_of_the_last_epoch(tmp_path):
    some = reading(tmp_path, *(record(FCN, seed, left=left) for seed, left in enumerate((0.04, 0.08))))
    assert cells(report.results_table(some.runs))[0]["weights left, %"] == "6.00 (4.20 to 7.80)"


def test_every_number_of_unverified_data_is_marked(tmp_path):
    conv = replace(recipes.find("conv2"), epochs=100)
    some = reading(tmp_path, record(conv, 0, accuracy=0.66, left=0.02, unverified=True),
                   record(conv, 1, accuracy=0.68, left=0.03, unverified=True), record(FCN, 0))
    table = report.results_table(some.runs)
    _, row = cells(table)
    numbers = " ".join((row["test accuracy, %"], row["weights left, %"], row["difference"]))
    assert len(re.findall(r"\d+\.\d\d", numbers)) == len(re.findall(r"\d+\.\d\d†", numbers)) == 8
    assert row["data"] == "cifar10†" and row["paper"] == "68.37 / 0.60"
    assert "† trained and tested on files that are not known to be the official ones" in table
    assert "†" not in table.splitlines()[2]
    markdown, _, _ = report.write(some, tmp_path / "out")
    html = (tmp_path / "out/report.html").read_text()
    assert "† trained" in markdown and "† trained" in html and "conv2 †" in html


def test_hardware_time_and_command(tmp_path):
    fcn, own = recipes.find("fcn"), replace(FCN, name="own")
    on_gpu = record(fcn, 2, seconds=30)
    on_gpu["environment"] = {"processor": "GPU", "cores": 8, "blas_threads": None, "backend": "cupy", "blas_kernel": "Zen",
                             "continued": [{}]}
    some = reading(tmp_path, record(fcn, 0, seconds=120), record(fcn, 1, seconds=240), on_gpu, record(FCN, 5),
                   record(replace(fcn, dataset="fashion-mnist"), 7, unverified=True), record(own, 0))
    rows = report.making(records.groups(some.runs)).rows
    assert [row[1:] for row in rows if row[0].startswith("fcn (epochs 100, dataset mnist")] == [
        ["0, 1", "abacus, 2 cores, BLAS threads 1, numpy", "3.0 (2.0 to 4.0)", "minimask train fcn --seed S --threads 1"],
        ["2", "GPU, 8 cores, BLAS threads unknown, cupy, Zen kernels, then resumed elsewhere", "0.5",
         "minimask train fcn --seed S --backend cupy"]]
    commands = [row[4] for row in rows]
    assert all(type(command) is page.Code for command in commands)
    assert "minimask train fcn --seed S --epochs 3 --threads 1" in commands
    assert "minimask train fcn --seed S --dataset fashion-mnist --threads 1 --allow-unverified" in commands
    assert "minimask train own.toml --seed S --threads 1" in commands
    markdown, _, _ = report.write(some, tmp_path / "out")
    assert own.toml() in markdown


@pytest.mark.parametrize("digest, more, tail", [("a1b2", {}, " --no-shrink"), ("a1b2", {"shrink": True}, ""),
                                                (None, {}, "")])
def test_the_command_of_a_run_that_did_not_shrink_says_so(tmp_path, digest, more, tail):
    """A record without a digest of the source may be from before there was any shrinking: nothing is said of it."""
    one = record(FCN, **more)
    one["environment"] |= {"source_digest": digest} if digest else {}
    run, = reading(tmp_path, one).runs
    assert report.command_line(run) == f"minimask train fcn --seed S --epochs 3 --threads 1{tail}"


# ---- charts ------------------------------------------------------------------------------------------------------------


def test_a_chart_for_each_data_set_and_each_masked_recipe(tmp_path):
    some = reading(tmp_path, record(FCN, 0), record(FCN, 1, accuracy=0.95, left=0.2),
                   record(replace(recipes.find("fcn-dense"), epochs=2)), record(replace(recipes.find("digits"), epochs=2)))
    found = report.charts(records.groups(some.runs))
    assert [chart.name for chart in found] == ["01-accuracy-mnist", "02-accuracy-digits", "03-course-fcn",
                                               "04-course-digits"]
    course = found[2]
    assert course.table.head[4:] == [f"dense{i}: kept / hidden / inverted, %" for i in (1, 2, 3)]
    first, _, last = course.table.rows
    assert (first[0], last[0]) == ("1", "3") and last[1:4] == ["96.00", "15.00", "333"]
    left = [[(layer["kept"], layer["hidden"], layer["inverted"]) for layer in run.epochs[-1]["layers"]]
            for run in some.runs if run.recipe == FCN]
    kept, hidden, inverted = 100 * np.mean(left, axis=0)[1] / 30_000
    assert last[5] == f"{kept:.1f} / {hidden:.1f} / {inverted:.1f}"
    assert "test accuracy 96.00 %, 15.00 % of the weights left" in course.note
    assert course.note.startswith("2 seeds, means over them.")
    assert all("seed" in chart.caption for chart in found), "every caption says how many"


def test_every_recipe_has_its_own_series_with_its_seeds(tmp_path):
    """Of 15 recipes none is thrown together with another, and runs of 3 and of 2 epochs are two series."""
    many = [record(replace(FCN, name=f"r{i:02}"), 0) for i in range(13)]
    some = reading(tmp_path, *many, record(replace(recipes.find("fcn-binary"), epochs=2)))
    other = put(tmp_path / "other", record(replace(FCN, name="r00", epochs=2), 0), record(replace(FCN, name="r00", epochs=2), 1))
    picture = report.charts(records.groups(records.read([tmp_path / "records", other]).runs))[0].picture
    assert [key.label for key in picture.legend] == ["fcn-binary (1)", "r00 (epochs 2) (2)", "r00 (epochs 3) (1)",
                                                     *(f"r{i:02} (1)" for i in range(1, 13))]
    assert len(some.runs) == 14


def test_accuracy_on_a_validation_set_is_held_out_accuracy(tmp_path):
    held = replace(FCN, dataset="mnist-validation")
    some = reading(tmp_path, record(held, 0), record(held, 1))
    markdown, _, _ = report.write(some, tmp_path / "out")
    page_text = (tmp_path / "out/report.html").read_text()
    for text in (markdown, page_text):
        assert "held-out accuracy, %" in text and report.HELD_OUT in text
        assert "test accuracy" not in html.unescape(text).replace(report.ABOUT, "").lower()
    both = records.read([put(tmp_path / "both", record(held, 0), record(replace(FCN, name="b"), 0))])
    assert report.results(records.groups(both.runs)).head[1] == "accuracy, %"


def made_on(seed, **environment):
    whole = record(FCN, seed, accuracy=0.9 + seed / 100)
    whole["environment"] |= environment
    return whole


def test_runs_made_differently_are_never_averaged(tmp_path):
    """By CPU, GPU and GPU with TF32, and by two source digests; those without a digest are one group of their own."""
    digests = "a" * 64, "b" * 64
    some = [made_on(0), made_on(1, backend="cupy", device="GPU", tf32=False), made_on(2, backend="cupy", tf32=True),
            made_on(3, source_digest=digests[0]), made_on(4, source_digest=digests[1]), made_on(5), made_on(6, backend="strict"),
            made_on(7, continued=[{"step": 3, "environment": {"backend": "cupy", "tf32": False}}])]
    groups = records.groups(reading(tmp_path, *some).runs)
    assert {group.label: [run.seed for run in group.runs] for group in groups} == {
        "fcn (CPU, source unknown)": [0, 5, 6], "fcn (GPU, source unknown)": [1], "fcn (GPU with TF32, source unknown)": [2],
        "fcn (CPU, source aaaaaaaa)": [3], "fcn (CPU, source bbbbbbbb)": [4], "fcn (CPU, then GPU, source unknown)": [7]}
    sentence = ("Runs of one recipe that were made on CPU, on GPU or with TF32 or by packages of different source digests "
                "are kept apart, never averaged.")
    assert records.kept_apart(groups) == sentence
    markdown, _, _ = report.write(reading(tmp_path, *some), tmp_path / "out")
    assert markdown.count(sentence) == 1 and sentence in (tmp_path / "out/report.html").read_text()
    assert "8 runs of 1 recipe." in markdown
    alone = records.groups(reading(tmp_path / "alone", made_on(0), made_on(1)).runs)
    assert [group.label for group in alone] == ["fcn"] and records.kept_apart(alone) == ""


@pytest.mark.parametrize("counts, words", [([205], "205 of 300"), ([205, 204], "204.5 of 300")])
def test_dead_units_are_whole_where_the_mean_is(tmp_path, counts, words):
    some = [record(FCN, seed) for seed in range(len(counts))]
    for each, count in zip(some, counts):
        for entry in each["epochs"]:
            entry["layers"][0] |= {"units": 300, "dead": count}
    group, = records.groups(reading(tmp_path, *some).runs)
    assert report._dead(group, 2) == f" Units dead for ever: dense1 {words}."


def test_long_runs_show_some_epochs_and_the_last(tmp_path):
    some = reading(tmp_path, record(replace(FCN, epochs=97)))
    epochs = [row[0] for row in report.charts(records.groups(some.runs))[1].table.rows]
    assert epochs[0] == "1" and epochs[-1] == "97" and 20 <= len(epochs) <= 27


# ---- files -------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Collects what a page consists of, and whether its tags are closed in order."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.links, self.text, self.svgs, self.ids = [], [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        given = dict(attributes)
        self.links += [(tag, name, value) for name, value in attributes
                       if name in ("src", "href", "data", "srcset", "poster", "action") or name.startswith("on")]
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "svg":
            self.svgs.append({"attributes": given, "inside": []})
        elif "svg" in self.open:
            self.svgs[-1]["inside"].append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, text):
        self.text.append((self.open[-1] if self.open else "", text))


def test_one_page_that_needs_nothing_but_itself(tmp_path):
    pytest.importorskip("matplotlib")
    some = reading(tmp_path, record(FCN, 0), record(replace(FCN, name="own"), 0), record(recipes.find("fcn-dense"), 0))
    report.write(some, tmp_path / "out")
    text = (tmp_path / "out/report.html").read_text()
    page = Page(text)
    outside = [(tag, name, value) for tag, name, value in page.links if not value.startswith("#")]
    assert outside == [("a", "href", "https://arxiv.org/abs/2201.13361")]  # a citation, not a part
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & set(page.tags)
    assert "xmlns" not in text and not re.search(r"@import|url\((?!#)", text)
    assert "default-src 'none'" in text and "prefers-color-scheme: dark" in text and 'name="viewport"' in text
    assert len(page.svgs) == 3
    for svg in page.svgs:
        assert svg["inside"][:2] == ["title", "desc"] and svg["attributes"]["role"] == "img"
        assert svg["attributes"]["viewbox"] and "width" not in svg["attributes"]
        assert all(name in page.ids for name in svg["attributes"]["aria-labelledby"].split())
    assert all(text.strip() for tag, text in page.text if tag in ("title", "desc"))
    assert len(page.ids) == len(set(page.ids))
    assert all(value[1:] in page.ids for _, _, value in page.links if value.startswith("#"))
    assert all(name in page.ids for name in re.findall(r"url\(#([^)]*)\)", text))
    assert page.tags.count("details") == 3 + 1 and page.tags.count("table") == 2 + 3  # own: its recipe
    assert "#000000" not in text.partition("<body>")[2]  # ink is the page's: black on black is not read


def test_figures_are_there_as_png_and_svg_and_the_same_each_time(tmp_path, drawn):
    pytest.importorskip("matplotlib")
    some = reading(tmp_path, record(FCN, 0))
    _, names, missing = report.write(some, tmp_path / "a")
    report.write(some, tmp_path / "b")
    assert not missing and sorted(names) == sorted(path.name for path in (tmp_path / "a").iterdir())
    for name in names:
        content = (tmp_path / "a" / name).read_bytes()
        assert content == (tmp_path / "b" / name).read_bytes(), name
        assert content.startswith({".png": b"\x89PNG", ".svg": b"<svg role", ".md": b"<!-- made", ".html": b"<!doct"}[
            Path(name).suffix])
    import xml.etree.ElementTree as xml
    root = xml.parse(tmp_path / "a/02-course-fcn.svg").getroot()
    assert [child.tag.partition("}")[2] for child in root][:2] == ["title", "desc"]
    markdown = (tmp_path / "a/report.md").read_text()
    assert all((tmp_path / "a" / name).exists() for name in re.findall(r"!\[.*\]\((.*)\)", markdown))


def test_names_from_records_are_text(tmp_path):
    """A processor, a file or a setting that looks like markup stays text, in the page and in Markdown."""
    evil = record(FCN, 0)
    evil["environment"]["processor"] = HOSTILE
    evil["recipe"]["about"] = HOSTILE
    folder = put(tmp_path / "records", evil)
    (folder / "<img src=x onerror=y>.json").write_text("{")
    own = record(replace(FCN, name="own"), 0)
    own["recipe"]["about"] = "</pre><script>"
    put(folder, own)
    some = records.read([folder])
    markdown, _, _ = report.write(some, tmp_path / "out")
    text = (tmp_path / "out/report.html").read_text()
    page = Page(text)
    assert not {"script", "img"} & set(page.tags) and "<script" not in text
    assert any(HOSTILE in each for _, each in page.text)
    for line in markdown.splitlines():
        if "alert" in line and line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 6 and "<script" not in line
        if "onerror" in line:
            assert line.startswith("- ") and "<img" not in line


def test_what_is_left_out_is_named_everywhere(tmp_path, capsys):
    folder = put(tmp_path / "records", record(FCN, 0), record(FCN, 1) | {"epochs": record(FCN, 1)["epochs"][:2]})
    (folder / "broken.json").write_text("{")
    (folder / "steps.json").write_text('{"steps": []}')
    cli_report.command([str(folder), "--out", str(tmp_path / "out")])
    said = capsys.readouterr()
    page = (tmp_path / "out/report.html").read_text()
    for text in (said.out, said.err, (tmp_path / "out/report.md").read_text(), page):
        assert "fcn-seed1.json is unfinished: fcn, seed 1, after 2 of 3 epochs" in text
        assert "broken.json is damaged: no JSON" in text
    assert "passed over" in said.err and "steps.json" in said.err and "steps.json" not in said.out
    assert cells(said.out)[0]["runs"] == "1"
    assert said.out == (tmp_path / "out/report.md").read_text().partition("\n")[2]


def test_nothing_to_report(tmp_path):
    with pytest.raises(MinimaskError, match="no record found; needed are folders"):
        report.write(records.read([tmp_path]), tmp_path / "out")
    some = reading(tmp_path, record(FCN, 0) | {"epochs": []})
    with pytest.raises(MinimaskError, match="no finished run among the records found: .*after 0 of 3 epochs"):
        report.write(some, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_report_replaces_a_report_and_nothing_else(tmp_path):
    out = tmp_path / "out"
    two = reading(tmp_path, record(FCN, 0), record(replace(FCN, name="another"), 0))
    report.write(two, out)
    (out / "mine.png").write_text("stays")
    some = records.Reading(runs=[run for run in two.runs if run.recipe == FCN])
    _, names, _ = report.write(some, out)
    assert {path.name for path in out.iterdir()} == {"mine.png", *names}  # nothing of the report before
    for name in ("report.md", "report.html"):
        report.write(some, out)
        (out / name).write_text("# mine")
        with pytest.raises(UsageError, match=f"holds what was not made by minimask report and would be lost .{name}."):
            report.write(some, out)
        assert (out / name).read_text() == "# mine"
        (out / name).unlink()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file; give another folder"):
        report.write(some, tmp_path / "file")


def test_without_matplotlib_tables_and_svg_are_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    folder = put(tmp_path / "records", record(FCN, 0))
    cli_report.command([str(folder), "--out", str(tmp_path / "out")])
    said = capsys.readouterr()
    assert said.err.count("figures as SVG alone, no PNG: pictures need matplotlib: pip install matplotlib") == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "01-accuracy-mnist.svg", "02-course-fcn.svg", "report.html", "report.md"]
    page = Page((tmp_path / "out/report.html").read_text())
    assert len(page.svgs) == 2 and page.tags.count("table") == 2 + 2
    assert said.out.count(".svg)") == 2 and ".png)" not in said.out and cells(said.out)[0]["recipe"] == "`fcn`"
    monkeypatch.undo()
    pytest.importorskip("matplotlib")
    cli_report.command([str(folder), "--out", str(tmp_path / "out")])  # an earlier report's figures go, of either kind
    assert len(list((tmp_path / "out").iterdir())) == 2 + 4


def test_a_table_in_both_forms():
    table = Table(["a", "b"], [[page.Code("x"), "1 | 2"], ["<y>", "3"]])
    assert table.markdown() == "| a | b |\n| --- | --- |\n| `x` | 1 \\| 2 |\n| &lt;y> | 3 |\n"
    assert "<td><code>x</code></td><td>1 | 2</td>" in table.html("t") and "<td>&lt;y&gt;</td>" in table.html("t")


def test_the_command_in_a_process_of_its_own(tmp_path):
    folder = put(tmp_path / "records", record(FCN, 0))

    def run(*words):
        return subprocess.run([sys.executable, "-m", "minimask", "report", *words], capture_output=True, text=True,
                              timeout=120, cwd=tmp_path)

    done = run(str(folder))
    assert done.returncode == 0 and done.stdout.startswith("## Results"), done.stderr
    assert (tmp_path / "runs/report/report.html").exists()
    missing = run("nowhere")
    assert missing.returncode == 2 and missing.stderr.startswith("minimask: there is no nowhere")
    empty = run(str(tmp_path / "runs"))
    assert empty.returncode == 1 and "no record found" in empty.stderr and "Traceback" not in empty.stderr
    assert run().returncode == 2


# ---- the pictures themselves -------------------------------------------------------------------------------------------


def test_figures_of_several_records_show_means():
    some = [record(FCN, seed, accuracy=accuracy, left=left) for seed, (accuracy, left) in enumerate(((0.9, 0.1), (0.8, 0.3)))]
    panels = {panel.title.partition("\n")[0]: panel for panel in plot.course(some, columns=2).panels}
    band, mean = panels["test accuracy"].items
    assert mean.y[-1] == pytest.approx(85) and (band.low[-1], band.high[-1]) == pytest.approx((80.5, 89.5))
    assert panels["weights left"].items[1].y[-1] == pytest.approx(20)
    np.testing.assert_allclose(panels["flips in an epoch"].items[1].y, [1000, 500, 1000 // 3])
    kept = panels["dense2"].items[0]
    np.testing.assert_allclose(kept.high, [np.mean([entry["layers"][1]["kept"] for entry in entries]) / 300
                                           for entries in zip(*(each["epochs"] for each in some))])


def test_accuracy_figure_joins_the_papers_row_to_the_mean():
    some = [record(FCN, seed, accuracy=accuracy, left=0.1) for seed, accuracy in ((0, 0.9), (1, 0.8))]
    (panel,) = plot.trade_off({"ours": some}, {"ours": (0.97, 0.04), "other": (0.5, 0.5)}).panels
    join, points, crosses = panel.items
    for each, expected in ((points, [(10, 90), (10, 80)]), (join, [(10, 85), (4, 97)]), (crosses, [(4, 97), (50, 50)])):
        np.testing.assert_allclose(list(zip(each.x, each.y)), expected)
    assert len(set(plot.MARKERS)) == len(plot.MARKERS) == len(set(plot.COLOURS))


def test_an_svg_says_what_it_shows():
    svg = plot.svg(plot.course(json.loads(json.dumps(record(FCN)))), "x-1", "a < b", 'c & "d"')
    assert svg.startswith('<svg role="img" aria-labelledby="x-1-title x-1-description" ')
    assert '<title id="x-1-title">a &lt; b</title>' in svg and "c &amp; &quot;d&quot;</desc>" in svg
    assert all(name.startswith("x-1-") for name in re.findall(r'\bid="([^"]*)"', svg))
    assert ">dense1</text>" in svg and "<metadata" not in svg and "http://purl" not in svg  # text is text


def test_png_svg_html_and_markdown_of_one_report_say_the_same(tmp_path):
    """Ten recipes whose names differ in their last decimals keep ten names, in every form."""
    names = [f"fcn-tau0.005-wd0.00{i:02}" for i in range(10)]
    some = reading(tmp_path, *(record(replace(FCN, name=name), 0, accuracy=0.97475 + i / 1e5) for i, name in enumerate(names)))
    markdown, written, _ = report.write(some, tmp_path / "out")
    text = (tmp_path / "out/report.html").read_text()
    page = Page(text)
    charts = report.charts(records.groups(some.runs))
    for chart in charts:
        svg = (tmp_path / "out" / f"{chart.name}.svg").read_text()
        said = [words.text for words in drawing.shapes(chart.picture) if isinstance(words, drawing.Words) and words.text]
        texts = [html.unescape(each) for each in re.findall(r"<text [^>]*>([^<]*)</text>", svg) if each]
        assert texts == said  # the PNG's are these, too: test_pictures
        inside = text.partition(f'aria-labelledby="c{chart.name}-title')[2].partition("</svg>")[0]
        assert [html.unescape(each) for each in re.findall(r"<text [^>]*>([^<]*)</text>", inside) if each] == texts
        assert f"**{chart.title}.** {chart.note}" in markdown and chart.note in html.unescape(text)
    assert [key.label for key in charts[0].picture.legend] == [f"{name} (1)" for name in names]
    everything = " ".join(each for _, each in page.text)
    assert all(everything.count(name) >= 3 and markdown.count(name) >= 3 for name in names)
    for row in report.results(records.groups(some.runs)).rows:
        assert all(cell in markdown and cell in everything for cell in row)
