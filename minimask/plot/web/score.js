/* ---- be one score: a weight on its way through the three acts --------------------------------------------------- */

const followed = (layer) => data.selections[layer] !== undefined
  && moment().updates.some((update) => update.layer === layer && update.before.kind === "block");
const cellsOf = (layer) => data.selections[layer].rows.length * data.selections[layer].columns.length;

function story(layer, cell) { // the numbers of one weight, from the views of the arrays
  const now = moment(), value = (view) => (view ? valuesOf(view)[cell] : undefined);
  const index = now.updates.findIndex((update) => update.layer === layer && update.before.kind === "block");
  const update = now.updates[index], chain = now.chains.find((each) => each.layer === layer);
  const told = { index, update, chain, m: value(update.before), grad: value(update.gradient),
    after: value(update.after), slots: update.slots.map((slot) => (
      { name: slot.name, before: value(slot.before), after: value(slot.after) })) };
  if (!chain) return told;
  const step = callOf(chain.step), product = callOf(chain.product);
  const frozen = product.inputs.find((input) => input.from === `${layer}.frozen`);
  return { ...told, step, s: value(step.value), w: value(frozen.view), ws: value(product.value),
    gws: value(product.arrived), gs: value(step.arrived), gm: value(step.inputs[0].back), sAfter: value(chain.after) };
}

function verdict(before, after) {
  const [from, to] = [STATES[before], STATES[after]];
  return from === to ? `it was ${from} and stays ${from}` : `it was ${from} and is now ${to}: it flipped`;
}

function find(layer, from, fits) { // the next weight shown, from a cell on, of which this is so; -1 where none is
  const size = cellsOf(layer);
  for (let i = 0; i < size; i++) if (fits(story(layer, (from + i) % size))) return (from + i) % size;
  return -1;
}

const flips = (told) => told.chain !== undefined && told.s !== told.sAfter;

function scoreSection() {
  const layer = here.layer, told = story(layer, here.cell), chain = told.chain;
  const index = bracketed(indexOf(told.update.before, here.cell));
  return [element("h2", { id: "score-title" }, chain ? "Be one score" : "Be one weight"),
    element("p", {}, chain ? `Score ${index} of ${layer}: ${chain.rule}. In this step ${verdict(told.s, told.sAfter)}.`
      : `Weight ${index} of ${layer}, trained itself.`),
    controls(layer, chain), chain ? axis(told) : null,
    element("div", { class: "way" }, forwardFacts(told), backwardFacts(told), updateFacts(told))];
}

function controls(layer, chain) {
  const chosen = data.selections[layer], columns = chosen.columns.length;
  const row = Math.floor(here.cell / columns), column = here.cell % columns;
  const choice = (id, label, options, value, change) => element("label", { for: id }, label,
    element("select", { id, onchange: (event) => change(Number(event.target.value)) },
      options.map((text, i) => element("option", { value: i, selected: i === value ? "" : null }, text))));
  const next = (text, fits) => element("button", { type: "button", onclick: () => {
    const cell = find(layer, here.cell + 1, fits);
    if (cell >= 0) go({ cell });
    else at("said").textContent = `none of the weights shown of ${layer}`;
  } }, text);
  const layers = Object.keys(data.selections).filter(followed), before = chosen.shape.slice(0, -1);
  const inputs = chosen.rows.map((each) => (before.length > 1 ? bracketed(unravelled(each, before)) : String(each)));
  return element("div", { class: "controls" },
    choice("layer", "layer", layers, layers.indexOf(layer), (i) => go({ layer: layers[i], cell: 0 })),
    choice("input", "from input", inputs, row, (i) => go({ cell: i * columns + column })),
    choice("unit", "to unit", chosen.columns.map(String), column, (i) => go({ cell: row * columns + i })),
    chain ? [next("next kept", (told) => told.s > 0), next("next hidden", (told) => told.s === 0),
      next("next inverted", (told) => told.s < 0), next("next that flips", flips)] : null);
}

function axis(told) { // the score before and after, between its thresholds
  const cuts = told.chain.thresholds, two = cuts.length > 1;
  const far = 1.2 * Math.max(Math.abs(told.m), Math.abs(told.after), ...cuts.map((cut) => 2 * cut)) || 1;
  const wide = printing ? 640 : Math.max(280, Math.min(640, document.documentElement.clientWidth - 40));
  const middle = wide / 2, x = (value) => middle + (middle - 20) * value / far;
  const text = (place, y, words, anchor = "start") => drawing("text", { x: place, y, "text-anchor": anchor }, words);
  const rule = (kind, x1, x2, y1, y2) => drawing("line", { class: kind, x1, x2, y1, y2 });
  const disc = (kind, cx, cy, r) => drawing("circle", { class: kind, cx, cy, r });
  const zone = (from, to) => drawing("rect",
    { class: "hidden", x: from, y: 34, width: Math.max(1, to - from), height: 32 });
  const drawn = [rule("rule", 20, wide - 20, 50, 50)];
  if (cuts.length) {
    drawn.unshift(zone(two ? x(cuts[0]) : 20, x(cuts.at(-1))));
    drawn.push(text(20, 24, two ? "inverted" : "hidden"), text(wide - 20, 24, "kept", "end"));
    if (two) drawn.push(text(middle, 24, "hidden", "middle"));
  }
  cuts.forEach((cut, i) => drawn.push(rule("cut", x(cut), x(cut), 28, 72), text(x(cut), 86,
    `${cut < 0 ? "\u2212" : ""}\u03c4 = ${written(cut)}`, two ? (i ? "start" : "end") : "middle")));
  drawn.push(disc("before", x(told.m), 50, 5), disc("after", x(told.after), 50, 9),
    disc("before", 26, 106, 5), text(38, 111, "m"), disc("after", 84, 106, 7), text(98, 111, "new m"));
  return drawing("svg", { class: "axis", width: wide, height: 116, viewBox: `0 0 ${wide} 116`, role: "img",
    "aria-label": `the score goes from ${written(told.m)} to ${written(told.after)}; `
      + `thresholds: ${cuts.map((each) => written(each)).join(" and ") || "none"}` }, ...drawn);
}

/* ---- its facts, act by act: each leads to the step where it is made --------------------------------------------- */

function facts(title, rows) { // rows: name, value, how it came about, where
  const items = rows.filter(([, value]) => value !== undefined && value !== null).map(([name, value, about, where]) => {
    const now = where && where.act === here.act && where.step === here.step;
    return element("li", { class: now ? "now" : null, "aria-current": now ? "step" : null },
      where ? link(name, where) : name, " = ", number(value), about ? element("small", {}, about) : null);
  });
  return element("div", {}, element("h3", {}, title), element("ol", {}, items));
}

const usedIn = (update) => moment().calls.findIndex((call) => call.inputs.some((input) => input.from === update.name));
const times = (...factors) => factors.map((each) => written(each)).join(" \u00d7 ");

function forwardFacts(told) {
  const { chain } = told;
  if (!chain) return facts("Forward", [["W", told.m, "the weight before the step",
    { act: "forward", step: usedIn(told.update) + 1 }]]);
  const made = { act: "forward", step: chain.step + 1 }, used = { act: "forward", step: chain.product + 1 };
  const cuts = chain.thresholds.map((each) => written(each)).join(" and ");
  return facts("Forward", [["m", told.m, `the score before the step${cuts && `, beside ${cuts}`}`, made],
    ["s", told.s, `${told.step.op}(m): ${STATES[told.s] || "its mask"}`, made],
    ["W", told.w, "frozen, it never changes", used],
    ["W s", told.ws, `${times(told.w, told.s)}, what the layer multiplies with`, used]]);
}

function backwardFacts(told) {
  const { chain } = told;
  const to = (index) => ({ act: "backward", step: callOf(index).order });
  if (!chain) return facts("Backward", [["dL/dW", told.grad, "summed over the batch", to(usedIn(told.update))]]);
  const declared = told.gm === told.gs ? "dL/dm := dL/ds" : "not the slope of the step, which is 0";
  return facts("Backward", [["dL/d(W s)", told.gws, "arrives from the layer, summed over the batch", to(chain.product)],
    ["dL/ds", told.gs, `W \u00d7 that: ${times(told.w, told.gws)}`, to(chain.product)],
    ["dL/dm", told.gm, told.step.declared ? `declared: ${declared}` : "", to(chain.step)]]);
}

function updateFacts(told) {
  const { rates } = moment(), where = { act: "update", step: told.index }, [v] = told.slots;
  const nesterov = moment().optimizer === "SGDW" && told.slots.length === 1;
  const speed = nesterov ? `${times(rates.momentum, v.before)} \u2212 ${times(rates.lr, told.grad)}` : "";
  const place = nesterov ? `${written(told.m)} \u00d7 (1 \u2212 ${written(rates.wd)}) + `
    + `${times(rates.momentum, v.after)} \u2212 ${times(rates.lr, told.grad)}` : "";
  return facts("Update", [...told.slots.map((slot) => [slot.name, slot.before, "before the step", where]),
    ...told.slots.map((slot) => [`new ${slot.name}`, slot.after, speed, where]),
    [told.chain ? "new m" : "new W", told.after, place, where],
    ["new s", told.sAfter, verdict(told.s, told.sAfter), { act: "update", step: steps("update").length - 1 }]]);
}
