"""The page of a training step in a real browser: Debian's Chromium, driven through Selenium (extra `browser`).

Without the library or the browser these tests skip and say so. MINIMASK_SCREENSHOTS=DIR keeps what they looked at.
"""

import base64
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from minimask import data, models, ops, optim
from minimask.mask import SignedSupermask
from minimask.plot import recording, stepper
from minimask.plot.selection import select

webdriver = pytest.importorskip("selenium.webdriver", reason="Selenium is not installed: pip install '.[browser]'")
from selenium.common.exceptions import WebDriverException  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.select import Select  # noqa: E402

pytestmark = pytest.mark.once
IMAGE = 1


class Page:
    """A browser with a page open in it."""

    def __init__(self, driver):
        self.driver = driver
        self.path = None

    def open(self, path, place="", width=1200, scheme="light"):
        self.path = path
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
            "features": [{"name": "prefers-color-scheme", "value": scheme}]})
        self.driver.get("about:blank")
        self.driver.get(f"file://{path}{place}")

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def press(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()

    @property
    def place(self):
        return self.run("return location.hash")

    @property
    def heading(self):
        return self.find("#step h2").text

    def figures(self, where="#step"):
        """[(name, [(index, number)])] of all arrays shown, from their tables; index () for a single number."""
        found = self.driver.execute_async_script("""
            const [where, done] = arguments;
            for (const box of document.querySelectorAll(`${where} details`)) box.open = true;
            setTimeout(() => done([...document.querySelectorAll(`${where} figure:has(strong)`)].map((figure) => [
                figure.querySelector("code").textContent,
                [...figure.querySelectorAll("td")].map((cell) => [cell.title, cell.textContent]),
                figure.querySelector(".single")?.textContent])), 30);""", where)
        return [(name, [(tuple(map(int, re.findall(r"\d+", index))), number(text)) for index, text in cells]
                 if cells else [((), number(single))]) for name, cells, single in found]

    def keep(self, name):
        folder = os.environ.get("MINIMASK_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            size = self.run("return [innerWidth, document.documentElement.scrollHeight]")
            png = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": {
                "x": 0, "y": 0, "width": size[0], "height": min(size[1], 4000), "scale": 1}})
            (Path(folder) / f"{name}.png").write_bytes(base64.b64decode(png["data"]))


def number(text):
    return float(text.replace("\N{MINUS SIGN}", "-"))


@pytest.fixture(scope="module")
def driver():
    found = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(found):
        pytest.skip("Chromium is not there: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = found[0]
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for word in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(word)
    if getattr(os, "geteuid", lambda: 1)() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses to run as root with one
    try:
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(found[1]))
    except WebDriverException as error:
        pytest.skip(f"Chromium does not start here: {str(error).splitlines()[0]}")
    driver.set_script_timeout(120)
    yield driver
    driver.quit()


@pytest.fixture
def page(driver):
    """A browser; whatever its console says is a failure."""
    yield Page(driver)
    assert not driver.get_log("browser")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Two steps of a small net on the digits, as recordings and as a page."""
    digits, rng = data.digits(), np.random.default_rng(0)
    net = models.fcn(SignedSupermask(tau=0.01), rng, digits.input_shape, (30, 10))
    optimizer = optim.SGDW(net.parameters(), lr=0.05, wd=0.02)
    moments = []
    for when, start in (("before training", 0), ("later", 64)):
        x, y = data.standardise(digits.train_images[start:start + 64]), digits.train_labels[start:start + 64]
        moments.append((when, recording.record(net, x, y, optimizer, IMAGE)))
        ops.cross_entropy(net(x, training=True), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    path = tmp_path_factory.mktemp("page") / "step.html"
    stepper.page(moments, net, "A step of digits", digits.classes, 20).save(path)
    return path, [recording for _, recording in moments]


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """A step of a net whose paths part and meet."""
    net = models.resnet20(SignedSupermask(tau=0.01), np.random.default_rng(0), input_shape=(8, 8, 3), norm="stem")
    x = np.random.default_rng(1).standard_normal((4, 8, 8, 3)).astype(np.float32)
    seen = recording.record(net, x, np.arange(4), optim.SGD(net.parameters(), lr=0.01))
    path = tmp_path_factory.mktemp("page") / "resnet.html"
    stepper.page([("", seen)], net, "A step of a ResNet").save(path)
    return path, seen


# ---- its numbers -----------------------------------------------------------------------------------------------------


def expected(seen):
    """What each step shows: [(name, array)], in the page's order."""
    calls = seen.calls
    given = [list(zip(call.names, call.inputs)) for call in calls]
    steps = [[("images", calls[0].inputs[0])], *([*given[i], ("value", call.value)] for i, call in enumerate(calls))]
    for call in sorted((call for call in calls if call.order is not None), key=lambda call: call.order):
        parts = [(f"part {n}", calls[i].leaving[which]) for n, (i, which) in enumerate(call.parts, 1)]
        steps.append([*(parts if len(parts) > 1 else ()), ("g of the loss" if call is calls[-1] else "g", call.arrived),
                      *((f"d{name}", back) for name, back in zip(call.names, call.leaving) if back is not None),
                      *given[calls.index(call)]])
    for update in seen.updates:
        name, slots = update.name.split(".")[-1], update.slots.items()
        steps.append([(name, update.before), (f"{name}.grad", update.gradient), *((each, slot[0]) for each, slot in slots),
                      (name, update.after), *((each, slot[1]) for each, slot in slots)])
    return [*steps, []]


def same(figures, wanted, whole=True):
    """Every number in the page is that of the recording at its index; returns how many there were."""
    assert [name for name, _ in figures] == [name for name, _ in wanted]
    for (name, cells), (_, kept) in zip(figures, wanted):
        assert cells, name
        told = [(index[1:] if kept.of_image else index, value) for index, value in cells]
        assert not kept.of_image or not kept.shape or {index[0] for index, _ in cells if index} <= {IMAGE}
        np.testing.assert_allclose([value for _, value in told], [kept.values[index] for index, _ in told], rtol=6e-6, err_msg=name)
        assert len({index for index, _ in told}) == len(told)
    return sum(len(cells) for _, cells in figures)


def test_every_number_of_every_step_is_the_recordings(page, demo):
    """All three acts, by the arrow key; the numbers are read out of the tables."""
    path, (_, seen) = demo
    page.open(path, f"#{seen.number}/forward/0")
    steps, count = expected(seen), 0
    assert len(steps) == 10 + 8 + 3
    for i, wanted in enumerate(steps):
        count += same(page.figures(), wanted)
        if i in (2, 12, 18):
            page.keep(f"step{i}-1200-light")
        page.press(Keys.ARROW_RIGHT)
    assert count > 10_000 and page.heading == "What the step did"
    assert page.find("#place").text == "3 of 3"


def test_a_sum_is_shown_where_two_paths_meet(page, resnet):
    path, seen = resnet
    met = [call for call in seen.calls if len(call.parts) > 1]
    page.open(path, f"#1/backward/{met[0].order}")
    assert "2 paths meet here" in page.find("#step").text
    parts = page.figures()
    assert [name for name, _ in parts][:3] == ["part 1", "part 2", "g"]
    first, second, total = (dict(cells) for _, cells in parts[:3])
    for index, value in total.items():
        assert value == pytest.approx(first[index] + second[index], rel=1e-4, abs=1e-6)
    page.keep("sum-1200-light")


def test_the_end_tells_losses_and_moves(page, demo):
    path, (seen, _) = demo
    page.open(path, "#1/update/9")
    text = page.find("#step").text
    assert f"{seen.loss:.6g}" in text and f"{seen.loss_after:.6g}" in text
    chain = seen.chains[0]
    cells = [number(cell.text.replace(",", "")) for cell in page.driver.find_elements(By.CSS_SELECTOR, "#step table tbody td")][:9]
    assert cells == [np.count_nonzero((chain.before == a) & (chain.after == b)) for a in (1, 0, -1) for b in (1, 0, -1)]


def test_the_source_is_lit_where_the_act_runs(page, demo):
    path, _ = demo
    for place, lit in (("#1/forward/2", "cast(xp, m > tau, m.dtype) - cast(xp, m < -tau, m.dtype)"), ("#1/backward/7", "lambda g: (g,)")):
        page.open(path, place)
        assert [each.text for each in page.driver.find_elements(By.CSS_SELECTOR, "#step mark.lit")] == [lit]
        assert re.fullmatch(r"minimask/mask\.py:\d+", page.find("#step .source h3").text)
        assert "declared, not derived" in page.find("#step").text or "forward" in place


# ---- moving about ----------------------------------------------------------------------------------------------------


def test_keys_buttons_tape_and_address_lead_everywhere(page, demo):
    path, (seen, later) = demo
    page.open(path)
    assert page.heading == "What goes in"
    for keys, place in (((Keys.ARROW_RIGHT,), "1/forward/1"), ("2", "1/backward/0"), ((Keys.END,), "1/backward/7"),
                        ((Keys.ARROW_RIGHT,), "1/update/0"), ((Keys.ARROW_LEFT,), "1/backward/7"), ((Keys.HOME,), "1/backward/0"),
                        ("3", "1/update/0"), ("1", "1/forward/0"), ((Keys.ARROW_LEFT,), "1/forward/0")):
        page.press(*keys)
        assert page.place.startswith(f"#{place}/"), (keys, page.place)
    for button, place in (("last", "1/update/2"), ("back", "1/update/1"), ("first", "1/forward/0"), ("next", "1/forward/1")):
        page.find(f"#{button}").click()
        assert page.place.startswith(f"#{place}/")
        assert page.run("return document.activeElement.id") in (button, "")
    page.driver.find_element(By.LINK_TEXT, "matmul\n#8").click()
    assert page.heading == "#8 matmul in dense2" and page.place.startswith("#1/forward/8/")
    page.find("#acts a:nth-child(2)").click()
    page.find("#tape a[href*='/backward/3']").click()
    assert page.heading.startswith("Back through #6 keep_hide_invert")
    page.find("#moments a:nth-child(2)").click()
    assert page.place.startswith(f"#{later.number}/backward/3/")
    page.find("#step a").click()  # into the step before; the reader's focus goes to its heading
    assert page.run("return document.activeElement.tagName") == "H2"
    place, heading = page.place, page.heading
    page.driver.refresh()
    assert (page.place, page.heading) == (place, heading)
    page.run("location.hash = '#1/update/1'")
    assert page.heading == "Update of dense2.scores"


@pytest.mark.parametrize("place", ["#", "#1/nowhere/3", "#9/forward/99999", "#1/backward/-4/x", "#1/update/%/%E0%A4%A", "#1/forward/1/dense1/1e9"])
def test_an_address_of_nowhere_leads_somewhere(page, demo, place):
    page.open(demo[0], place)
    assert page.heading and page.run("return document.querySelectorAll('#score li').length") > 8


# ---- be one score ----------------------------------------------------------------------------------------------------


def facts(page):
    """What the story says: name -> number, as far as it is one."""
    rows = page.run("return [...document.querySelectorAll('#score li')].map((row) => [row.firstChild.textContent, row.querySelector('.number').textContent])")
    return {name: number(value) for name, value in rows}


def sum_of(page, name):
    """What the formula beside a fact comes to."""
    told = page.run("return [...document.querySelectorAll('#score li')].find((row) => row.firstChild.textContent === arguments[0])"
                    ".querySelector('small').textContent", name)
    formula = told.removeprefix("W \u00d7 that: ").partition(",")[0].replace("\u00d7", "*").replace("\u2212", "-")
    assert re.fullmatch(r"[-+*() .e\d]+", formula), told
    return eval(formula)


def test_a_score_is_followed_through_the_three_acts(page, demo):
    path, recordings = demo
    selection = select(recordings)["dense1"]
    seen, chain = recordings[1], recordings[1].chains[0]
    cell = 5 * len(selection.columns) + 7
    page.open(path, f"#2/forward/2/dense1/{cell}")
    at = selection.rows[5], selection.columns[7]
    step, product, update = seen.calls[chain.step], seen.calls[chain.product], seen.updates[chain.update]
    told = facts(page)
    for name, array in {"m": step.inputs[0], "s": step.value, "W": product.inputs[0], "W s": product.value, "dL/d(W s)": product.arrived,
                        "dL/ds": step.arrived, "dL/dm": step.leaving[0], "velocity": update.slots["velocity"][0],
                        "new velocity": update.slots["velocity"][1], "new m": update.after}.items():
        assert told[name] == pytest.approx(array.values[at], rel=6e-6), name
    assert told["new s"] == chain.after[at] and len(told) == 11
    assert f"[{at[0]}, {at[1]}] of dense1" in page.find("#score").text and "\u2212\u03c4 = \u22120.01" in page.find("#score svg").text
    for name in ("W s", "dL/ds", "new velocity", "new m"):
        assert sum_of(page, name) == pytest.approx(told[name], rel=1e-4, abs=1e-9), name
    lit = "return [...document.querySelectorAll('#score li.now')].map((row) => row.firstChild.textContent)"
    assert page.run(lit) == ["m", "s"]
    page.press("3")
    assert page.run(lit) == ["velocity", "new velocity", "new m"]
    page.driver.find_element(By.LINK_TEXT, "dL/ds").click()
    assert page.heading == "Back through #2 multiply in dense1" and page.run(lit) == ["dL/d(W s)", "dL/ds"]


def test_a_weight_is_picked_by_lists_by_buttons_and_in_a_picture(page, demo):
    path, recordings = demo
    chosen = select(recordings)["dense2"]
    page.open(path, "#1/forward/6")
    Select(page.find("#layer")).select_by_visible_text("dense2")
    Select(page.find("#input")).select_by_index(2)
    Select(page.find("#unit")).select_by_visible_text(str(chosen.columns[3]))
    assert page.place == f"#1/forward/6/dense2/{2 * len(chosen.columns) + 3}"
    assert page.run("return document.activeElement.id") == "unit"
    for button, word in (("next kept", "it was kept"), ("next hidden", "it was hidden"), ("next inverted", "it was inverted"), ("next that flips", "it flipped")):
        page.driver.find_element(By.XPATH, f"//button[text()='{button}']").click()
        assert word in page.find("#score p").text
    canvas = page.find("#step canvas")
    page.run("arguments[0].scrollIntoView({ block: 'center' })", canvas)
    side = page.run("return cellSize(moment().calls[5].inputs[0].view)")
    where = [int(3 + (n + 0.5) * side) for n in (4, 9)]  # column, row
    middle = [canvas.size["width"] / 2, canvas.size["height"] / 2]
    ActionChains(page.driver).move_to_element_with_offset(canvas, where[0] - middle[0], where[1] - middle[1]).click().perform()
    assert page.place == f"#1/forward/6/dense2/{9 * len(chosen.columns) + 4}"
    index = [int(chosen.rows[9]), int(chosen.columns[4])]
    value = recordings[0].calls[5].inputs[0].values[tuple(index)]
    told = page.find("#step output").text
    assert told.startswith(f"{index} is ") and number(told.split()[-1]) == pytest.approx(value, rel=6e-6)


# ---- how it looks ----------------------------------------------------------------------------------------------------


def test_filled_is_positive_and_hollow_negative_without_any_colour(page, demo):
    page.open(demo[0])
    middle = """const canvas = document.createElement("canvas"), context = prepared(canvas, 20, 20);
        mark(context, colours(), 0, 0, 20, arguments[0]);
        return [...context.getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data][3];"""
    assert page.run(middle, 0.8) == 255 and page.run(middle, -0.8) == 0
    filled = """const canvas = document.createElement("canvas"), context = prepared(canvas, 20, 20);
        mark(context, colours(), 0, 0, 20, arguments[0]);
        return context.getImageData(0, 0, canvas.width, canvas.height).data.filter((_, i) => i % 4 === 3).filter(Boolean).length;"""
    assert page.run(filled, 1.0) > 2 * page.run(filled, 0.25) > 0 and page.run(filled, -0.9) > page.run(filled, 0.0) > 0


@pytest.mark.parametrize("width", [400, 1200])
def test_no_step_is_wider_than_the_window(page, demo, resnet, width):
    for path, steps in ((demo[0], 20), (resnet[0], 45)):
        page.open(path, width=width)
        for _ in range(steps):
            assert page.run("return document.scrollingElement.scrollWidth") <= width, page.heading
            page.press(Keys.ARROW_RIGHT)
        page.keep(f"{path.stem}-{width}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_marks_stand_out_in_light_and_dark(page, demo, scheme):
    """Contrast as WCAG 2 counts it: 4.5 for text, 3 for marks."""
    page.open(demo[0], "#1/backward/6", scheme=scheme, width=400 if scheme == "dark" else 1200)
    colours = page.run("""const style = getComputedStyle(document.documentElement);
        return Object.fromEntries(["page", "text", "faint", "link", "positive", "negative", "soft", "lit", "now", "on-now"]
            .map((name) => [name, style.getPropertyValue("--" + name).trim()]));""")

    def light(name):
        parts = np.array([int(colours[name][i:i + 2], 16) for i in (1, 3, 5)]) / 255
        return np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    def contrast(one, other):
        dark, bright = sorted((light(one), light(other)))
        return (bright + 0.05) / (dark + 0.05)

    assert (light("page") < 0.05) == (scheme == "dark")
    for text, ground in (("text", "page"), ("faint", "page"), ("link", "page"), ("text", "soft"), ("faint", "soft"), ("text", "lit"), ("on-now", "now")):
        assert contrast(text, ground) >= 4.5, (text, ground)
    assert min(contrast("positive", "page"), contrast("negative", "page")) >= 3
    page.keep(f"backward-{scheme}")


def test_the_dot_of_a_zero_is_a_whole_pixel_and_no_haze(page, demo):
    path, _ = demo
    page.open(path, "#1/forward/0")
    dot = page.run("""
        const canvas = document.querySelector(".legend li:last-child canvas");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return [...data].filter((value, i) => i % 4 === 3 && value);""")
    assert set(dot) == {255}


def test_everything_has_a_name_and_headings_are_in_order(page, demo):
    """What a screen reader is told: the browser's own tree."""
    for place in ("forward/0", "forward/3", "update/0", "update/2", "backward/6"):
        page.open(demo[0], f"#1/{place}")
        nodes = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        named = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
        for role, name in named:
            assert name or role not in ("link", "button", "combobox", "image", "img", "Canvas", "navigation", "region",
                                        "heading"), (place, role)
        assert sum(role in ("image", "img") for role, _ in named) >= 2
    levels = page.run("return [...document.querySelectorAll('h1, h2, h3')].map((each) => [each.tagName, each.textContent])")
    assert levels[0] == ["H1", "A step of digits"] and levels[1][0] == "H2" and levels[-4] == ["H2", "Be one score"]
    assert page.find("#said").text.startswith("Backward 7 of 8: Back through") or page.run(
        "return document.getElementById('said').textContent").startswith("Backward 7 of 8: Back through")


def test_printed_every_step_has_a_page(page, demo):
    page.open(demo[0], "#2/forward/0")
    pdf = base64.b64decode(page.driver.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True, "printBackground": True})["data"])
    assert pdf.startswith(b"%PDF") and 22 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 30
    page.run("dispatchEvent(new Event('beforeprint'))")
    sections = page.run("return [...document.querySelectorAll('#pages > section')].map((each) => each.querySelector('h2').textContent)")
    assert len(sections) == 10 + 8 + 3 + 1 and sections[-1] == "Be one score"
    page.run("dispatchEvent(new Event('afterprint'))")
    assert page.run("return document.querySelectorAll('#pages > *').length") == 0
    if os.environ.get("MINIMASK_SCREENSHOTS"):
        (Path(os.environ["MINIMASK_SCREENSHOTS"]) / "printed.pdf").write_bytes(pdf)


# ---- nothing from outside --------------------------------------------------------------------------------------------


def test_text_from_files_stays_text_and_nothing_is_loaded(page, tmp_path):
    rng = np.random.default_rng(0)
    net = models.fcn(SignedSupermask(), rng, (4, 4, 1), (3, 2))
    net.layers["<i>x</i>"] = net.layers.pop("dense1")
    net.layers["dense2"] = net.layers.pop("dense2")
    x = rng.standard_normal((2, 4, 4, 1)).astype(np.float32)
    seen = recording.record(net, x, np.array([0, 1]), optim.SGDW(net.parameters(), lr=0.1))
    path = stepper.page([("<b>now</b>", seen)], net, "<i>title</i>", ["<u>zero</u>", "one"]).save(tmp_path / "odd.html")
    page.open(path)
    for _ in range(10 + 8 + 3):
        assert page.run("return document.querySelectorAll('i, b, u, img, iframe, object').length") == 0
        page.press(Keys.ARROW_RIGHT)
    assert page.find("h1").text == "<i>title</i>" and "<u>zero</u>" in page.find("#step").text
    assert "<i>x</i>" in page.find("#score").text
    assert page.run("return performance.getEntriesByType('resource').length") == 0


def test_its_policy_runs_no_other_script(driver, demo):
    page = Page(driver)
    page.open(demo[0])
    page.run("const made = document.createElement('script'); made.textContent = 'window.ran = true'; document.body.append(made);")
    assert page.run("return window.ran") is None
    assert "Content Security Policy" in str(driver.get_log("browser"))  # it says so; the other tests' console is empty


def test_a_notebooks_frame_works(page, demo, tmp_path):
    frame = stepper.Page(demo[0].read_text(encoding="utf-8"))._repr_html_()
    (tmp_path / "notebook.html").write_text(f"<!doctype html><meta charset=utf-8>{frame}", encoding="utf-8")
    page.open(tmp_path / "notebook.html")
    page.driver.switch_to.frame(0)
    try:
        page.find("#next").click()
        assert page.heading == "reshape in flatten1"
        page.find("#tape a[aria-current] span, #tape li:nth-child(2) a").click()
        page.find("#acts a:nth-child(3)").click()
        assert page.heading == "Update of dense1.scores"
    finally:
        page.driver.switch_to.default_content()
