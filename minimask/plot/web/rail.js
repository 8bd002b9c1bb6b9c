/* ---- where the reader is, and how the address says so ----------------------------------------------------------- */

const here = { moment: 0, act: "forward", step: 0, layer: "", cell: 0 };

const moment = () => data.moments[here.moment];
const backwards = () => [...moment().calls.keys()].filter((i) => callOf(i).order !== null)
  .sort((a, b) => callOf(a).order - callOf(b).order);

function steps(act) { // what an act has to show: "batch", the index of a call or of an update, "end"
  if (act === "forward") return ["batch", ...moment().calls.keys()];
  if (act === "backward") return backwards();
  return [...moment().updates.keys(), "end"];
}

function within(value, count) { // a whole number from 0 to count - 1, from whatever the address says
  return Math.max(0, Math.min(Number.parseInt(value, 10) || 0, count - 1));
}

function address(change = {}) {
  const to = { ...here, ...change }, cell = to.layer ? [encodeURIComponent(to.layer), to.cell] : [];
  return "#" + [data.moments[to.moment].number, to.act, to.step, ...cell].join("/");
}

function comeFrom(hash) { // what the address says, as far as there is such a place
  const [stepNumber, act, step, layer, cell] = hash.slice(1).split("/");
  const which = data.moments.findIndex((each) => String(each.number) === stepNumber);
  if (which >= 0) here.moment = which;
  if (ACTS.some(([name]) => name === act)) here.act = act;
  here.step = within(step, steps(here.act).length);
  let name = "";
  try { name = decodeURIComponent(layer || ""); } catch { /* no address of ours */ }
  if (followed(name)) [here.layer, here.cell] = [name, within(cell, cellsOf(name))];
}

function go(change, jump = false) { // a jump is one that the browser's own Back undoes
  Object.assign(here, change);
  here.step = Math.max(0, Math.min(here.step, steps(here.act).length - 1));
  try { history[jump ? "pushState" : "replaceState"](null, "", address()); } catch { /* a frame without an address */ }
  show();
}

function link(text, change, attributes = {}) {
  const made = element("a", { href: address(change), ...attributes }, text);
  made.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go(change, true);
  });
  return made;
}

/* ---- moments, acts, buttons, the tape --------------------------------------------------------------------------- */

function drawMoments() {
  const pills = data.moments.map((each, i) => link(`${each.when} \u00b7 step ${grouped(each.number)}`, { moment: i },
    { class: "pill", "aria-current": i === here.moment ? "true" : null }));
  at("moments").replaceChildren(...(pills.length > 1 ? pills : []));
}

function drawActs() {
  const all = steps(here.act).length;
  at("acts").replaceChildren(...ACTS.map(([name, title], i) => link(`${i + 1} ${title}`, { act: name, step: 0 },
    { class: "pill", "aria-current": name === here.act ? "true" : null })));
  at("place").textContent = `${here.step + 1} of ${all}`;
  at("first").disabled = at("back").disabled = here.act === "forward" && here.step === 0;
  at("next").disabled = at("last").disabled = here.act === "update" && here.step === all - 1;
}

function chipOf(index) { // a call on the tape: where it leads, whether it is shown, whether it is yet to come
  const call = callOf(index), back = here.act === "backward" && call.order !== null;
  const ahead = here.act === "forward" ? index + 1 > here.step : back && call.order > here.step;
  const pulled = here.act !== "forward" && call.order !== null && !ahead;
  const small = call.number === null ? "off the tape" : `#${call.number}${pulled ? " \u2190" : ""}`;
  return [call.layer || "loss", call.op, small,
    back ? { act: "backward", step: call.order } : { act: "forward", step: index + 1 }, ahead];
}

function drawTape() {
  const now = moment(), last = now.updates.length, groups = [];
  const chips = [["start", "batch", "in", { act: "forward", step: 0 }, false], ...[...now.calls.keys()].map(chipOf),
    ...now.updates.map((update, i) => ["update", update.name, "parameter", { act: "update", step: i },
      here.act !== "update" || i > here.step]),
    ["update", "what it did", "end", { act: "update", step: last }, here.act !== "update" || here.step < last]];
  for (const [title, text, small, to, ahead] of chips) {
    const shown = to.act === here.act && to.step === here.step;
    if (!groups.length || groups.at(-1).title !== title) groups.push({ title, items: [] });
    groups.at(-1).items.push(element("li", {}, link(span(text, element("small", {}, small)), to,
      { "aria-current": shown ? "step" : null, class: ahead ? "ahead" : null })));
  }
  at("tape").replaceChildren(...groups.map(({ title, items }) => element("div", { role: "group", "aria-label": title },
    element("p", { "aria-hidden": "true" }, title), element("ol", {}, items))));
  const box = at("tape"), lit = box.querySelector("[aria-current]");
  if (!lit) return;
  box.scrollTop = lit.closest("div").offsetTop - 6;
  const oneLine = getComputedStyle(box).flexWrap === "nowrap";
  box.scrollLeft = oneLine ? lit.offsetLeft + lit.offsetWidth / 2 - box.clientWidth / 2 : 0;
}

/* ---- the page --------------------------------------------------------------------------------------------------- */

function content(act, which) { // one step of an act
  if (which === "batch") return batchStep();
  if (which === "end") return endStep();
  return { forward: forwardStep, backward: backwardStep, update: updateStep }[act](which);
}

function show() {
  const restoreFocus = rememberFocus();
  if (!followed(here.layer)) [here.layer, here.cell] = [Object.keys(data.selections).find(followed) || "", 0];
  drawMoments();
  drawActs();
  drawTape();
  at("step").replaceChildren(content(here.act, steps(here.act)[here.step]));
  scrollToLit(at("step"));
  at("score").replaceChildren(...(here.layer ? scoreSection().filter(Boolean) : []));
  const title = ACTS.find(([name]) => name === here.act)[1];
  const where = `${title} ${here.step + 1} of ${steps(here.act).length}: ${at("step").querySelector("h2").textContent}`;
  if (at("said").textContent !== where) at("said").textContent = where;
  document.title = `${where} \u00b7 ${data.title}`;
  restoreFocus();
}

function rememberFocus() { // what is drawn anew would lose it: in the step the heading gets it, elsewhere its like
  const was = document.activeElement, box = was.closest("#moments, #walk, #tape, #step, #score");
  const likes = () => [...box.querySelectorAll("a, button, select")];
  const index = box && likes().indexOf(was);
  return () => {
    if (!box || was.isConnected) return;
    const like = box.id === "step" ? box.querySelector("h2") : likes()[index];
    if (box.id === "step") like.tabIndex = -1;
    if (like) like.focus({ preventScroll: true });
  };
}

function move(by) { // past the end of an act the next begins
  const act = ACTS.findIndex(([name]) => name === here.act), to = here.step + by;
  if (to >= 0 && to < steps(here.act).length) go({ step: to });
  else if (ACTS[act + by]) go({ act: ACTS[act + by][0], step: by > 0 ? 0 : Infinity });
}

const KEYS = { ArrowRight: () => move(1), ArrowLeft: () => move(-1), Home: () => go({ step: 0 }),
  End: () => go({ step: Infinity }),
  ...Object.fromEntries(ACTS.map(([act], i) => [i + 1, () => go({ act, step: 0 })])) };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, pre, .wide")) return;
  if (!KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});
at("first").addEventListener("click", () => go({ act: "forward", step: 0 }));
at("back").addEventListener("click", () => move(-1));
at("next").addEventListener("click", () => move(1));
at("last").addEventListener("click", () => go({ act: "update", step: Infinity }));
window.addEventListener("hashchange", () => {
  comeFrom(location.hash);
  show();
});
let width = window.innerWidth;
window.addEventListener("resize", () => {
  if (window.innerWidth !== width) show();
  width = window.innerWidth;
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);

/* ---- on paper: every step of this moment a page ----------------------------------------------------------------- */

window.addEventListener("beforeprint", () => {
  printing = true;
  const when = moment().when ? `, ${moment().when}` : "";
  const head = `${data.title}${when} \u00b7 step ${grouped(moment().number)}`;
  const pages = ACTS.flatMap(([act, title]) => steps(act).map((which, i, all) => element("section", {},
    element("p", { class: "faint" }, `${head} \u00b7 ${title} ${i + 1} of ${all.length}`), content(act, which))));
  if (here.layer) pages.push(element("section", {}, scoreSection().filter(Boolean)));
  at("pages").replaceChildren(...pages);
});
window.addEventListener("afterprint", () => {
  printing = false;
  at("pages").replaceChildren();
  show();
});

/* ---- begin ------------------------------------------------------------------------------------------------------ */

at("about").textContent = `${moment().calls.length} ops forward, back through those that want a gradient, and the `
  + "update: the numbers of a real step, and the lines that made them.";
for (const layer of Object.keys(data.selections).filter(followed).reverse()) { // to follow first: one that flips
  const cell = find(layer, 0, flips);
  if (cell >= 0) [here.layer, here.cell] = [layer, cell];
}
comeFrom(location.hash);
show();
