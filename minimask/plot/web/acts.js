/* ---- the source, lit where this act runs ------------------------------------------------------------------------ */

function sourcePanel(source, lit) {
  const linesOf = (parts) => [...new Set(parts.map(([first, , last]) =>
    (first === last ? `${source.line + first}` : `${source.line + first}\u2013${source.line + last}`)))].join(", ");
  const body = element("pre", { tabindex: "0", "aria-label": `source of ${source.file} from line ${source.line}` },
    source.text.split("\n").map((text, row) => element("span", { class: "line", "data-number": source.line + row },
      ...pieces(source, row, text, lit), "\n")));
  const told = source.value.length ? element("p", { class: "faint" }, `value: line ${linesOf(source.value)} \u00b7 `
    + `pullback: line ${linesOf(source.pullback)}${lit ? ` \u00b7 lit: the ${lit}` : ""}`) : null;
  return element("section", { class: "source" },
    element("h3", {}, code(source.line ? `${source.file}:${source.line}` : source.file)), told, body);
}

function pieces(source, row, text, lit) { // a line as text and marks
  const marks = ["value", "pullback"].flatMap((kind) => source[kind].map(([first, from, last, to]) => ({ kind,
    from: row === first ? from : row > first ? text.search(/\S|$/) : Infinity,
    to: row === last ? to : row < last ? text.length : -1 })))
    .filter(({ from, to }) => from < to).sort((a, b) => a.from - b.from);
  const made = [];
  let done = 0;
  for (const { kind, from, to } of marks) {
    if (from < done) continue;
    const style = kind === lit ? `${kind} lit` : kind;
    made.push(text.slice(done, from), element("mark", { class: style }, text.slice(from, to)));
    done = to;
  }
  return [...made, text.slice(done)];
}

function scrollToLit(root) {
  for (const box of root.querySelectorAll(".source pre")) {
    const lit = box.querySelector(".lit");
    if (lit) box.scrollTop = Math.max(0, lit.offsetTop - box.clientHeight / 3);
  }
}

/* ---- what steps are made of ------------------------------------------------------------------------------------- */

const callOf = (index) => moment().calls[index];
const called = (call) => (call.number === null ? call.op : `#${call.number} ${call.op}`);
const inLayer = (call) => (call.layer ? ` in ${call.layer}` : "");
const forwardLink = (index) => link(called(callOf(index)), { act: "forward", step: index + 1 });
const backLink = (index) => link(called(callOf(index)), { act: "backward", step: callOf(index).order });
const nameOf = (from) => (typeof from === "number" ? called(callOf(from)) : from);
const originOf = (from) => (typeof from === "number" ? span("of ", forwardLink(from)) : `is ${from}`);
const ratesOf = (now) => Object.entries(now.rates).map(([name, value]) => `${name} ${written(value)}`).join(", ");
const className = (label) => (data.classes[label] !== undefined && data.classes[label] !== String(label)
  ? `${label} (${data.classes[label]})` : String(label));

function group(title, ...figures) {
  return element("div", { class: "group" }, element("h3", {}, title), element("div", { class: "figures" }, figures));
}

function frame(title, lead, sources, ...groups) { // heading, lead, source on the left, arrays on the right
  return element("div", {}, element("h2", {}, title), element("p", {}, ...lead), element("div", { class: "columns" },
    element("div", {}, sources), element("div", { class: "groups" }, groups)));
}

/* ---- forward ---------------------------------------------------------------------------------------------------- */

function batchStep() {
  const now = moment(), inputs = now.calls.flatMap((call) => call.inputs);
  const images = inputs.find((input) => input.from === "images");
  const rows = data.layers.map(([name, text]) =>
    element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, text)));
  const net = element("div", { class: "group" }, element("h3", {}, "The net"),
    element("table", { class: "words" }, element("tbody", {}, rows)));
  const about = [`A batch of ${now.batch} images. The net turns each into a number per class, the loss compares them `,
    "with the labels, backward() brings the loss\u2019s slope back to every parameter, and the optimizer moves them. ",
    `Of arrays with an entry for every image this page shows that of image ${now.image}, `,
    `whose label is ${className(now.label)}.`];
  const total = data.total ? ` of ${grouped(data.total)}` : "";
  return element("div", {}, element("h2", {}, "What goes in"), element("div", { class: "columns" },
    element("div", {}, element("p", {}, ...about),
      element("p", {}, `This is step ${grouped(now.number)}${total}: ${now.optimizer} with ${ratesOf(now)}.`),
      element("h3", {}, "How to read the pictures"), legend(),
      element("p", { class: "faint" }, "The number under the pointer is told below a picture; a click picks it. ",
        "A click on a weight follows it through the three acts, below.")),
    element("div", { class: "groups" }, images ? group("In", figure(images.view, "images")) : null, net)));
}

function legend() {
  const signs = [[1, "filled: positive"], [-1, "hollow: negative"], [0.15, "area: its size"],
    [-0.02, "dash: small and negative"], [0, "dot: exactly 0"]];
  return element("ul", { class: "legend" }, signs.map(([share, text]) => {
    const canvas = element("canvas", { "aria-hidden": "true" });
    mark(prepared(canvas, 14, 14), colours(), 0, 0, 14, share);
    return element("li", {}, canvas, text);
  }));
}

function forwardStep(index) {
  const call = callOf(index), source = data.sources[call.source], [file, line] = call.site;
  const settings = call.settings.map(([name, value]) => `${name} = ${value}`).join(", ");
  const lead = [source.about ? `${source.about} ` : null,
    ...(file ? ["Called in ", code(`${file}:${line}`), call.layer ? `, for layer ${call.layer}.` : "."] : []),
    call.number === null ? " Nothing in it wants a gradient, so it is not on the tape." : null];
  const users = [...moment().calls.keys()].filter((i) => callOf(i).inputs.some((input) => input.from === index));
  const to = users.flatMap((i, n) => [n ? ", " : "to ", forwardLink(i)]);
  return frame(`${called(call)}${inLayer(call)}`, lead, sourcePanel(source, "value"),
    group(settings ? `In, with ${settings}` : "In", ...givenTo(call)),
    group("Out", figure(call.value, "value", users.length ? span(...to) : "the loss")));
}

const givenTo = (call) => call.inputs.map((input) => figure(input.view, input.name, originOf(input.from)));

/* ---- backward --------------------------------------------------------------------------------------------------- */

function arrivals(parts, sum, name) { // a cotangent; where paths meet, what it is the sum of
  if (parts.length < 2) {
    const origin = parts.length ? span("from ", backLink(parts[0][0]))
      : name === "g of the loss" ? "dL/dL is 1" : "from an op that is not recorded";
    return group("Arrives", figure(sum, name, origin));
  }
  const sign = (text) => element("span", { class: "sign" }, text);
  const terms = parts.flatMap(([call, which], i) => [i ? sign("+") : null,
    figure(callOf(call).inputs[which].back, `part ${i + 1}`, span("from ", backLink(call)))]);
  return group(`Arrives: ${parts.length} paths meet here, and the engine adds`, ...terms, sign("="),
    figure(sum, name, "the sum"));
}

function leaves(input) { // the cotangent of an input, and where it goes
  const on = typeof input.from === "number" && callOf(input.from).order !== null;
  const to = on ? span("to ", backLink(input.from)) : `to ${nameOf(input.from)}.grad`;
  return figure(input.back, `d${input.name}`, to);
}

function backwardStep(index) {
  const call = callOf(index), isLoss = index === moment().calls.length - 1;
  const lead = [`Pullback ${call.order + 1} of ${backwards().length}. It is given g, the cotangent of the value that `,
    `${called(call)} made, and gives a cotangent for every input that wants one.`,
    call.declared ? " This gradient is declared, not derived (straight-through): the step itself has no slope." : ""];
  const others = call.inputs.filter((input) => !input.back)
    .map((input) => `${input.name} (${nameOf(input.from)})`).join(", ");
  return frame(`Back through ${called(call)}${inLayer(call)}`, lead,
    sourcePanel(data.sources[call.source], "pullback"),
    arrivals(call.parts, call.arrived, isLoss ? "g of the loss" : "g"),
    group("Leaves", ...call.inputs.filter((input) => input.back).map(leaves)),
    others ? element("p", { class: "faint" }, `No gradient is wanted of ${others}.`) : null,
    element("div", { class: "again" }, group("It was given, in the forward act", ...givenTo(call))));
}

/* ---- the update, and what came of it ---------------------------------------------------------------------------- */

function updateStep(index) {
  const now = moment(), update = now.updates[index], name = update.name.split(".").pop();
  const lead = [`${now.optimizer} moves ${update.name}: ${ratesOf(now)}. `,
    "Learning rate and weight decay are those of this step, after the schedule\u2019s factor."];
  const slots = (when) => update.slots.map((slot) => figure(slot[when], slot.name, when));
  return frame(`Update of ${update.name}`, lead, now.updateSources.map((each) => sourcePanel(data.sources[each], "")),
    update.parts.length > 1 ? arrivals(update.parts, update.gradient, `${name}.grad`) : null,
    group("Before", figure(update.before, name, "before"), figure(update.gradient, `${name}.grad`, "from backward"),
      ...slots("before")),
    group("After", figure(update.after, name, "after"), ...slots("after")));
}

function endStep() {
  const now = moment(), logits = now.logitsAfter;
  const best = logits.reduce((best, value, i) => (value > logits[best] ? i : best), 0);
  return element("div", {}, element("h2", {}, "What the step did"),
    element("p", {}, "The loss of this batch was ", number(now.loss), " and is now ", number(now.lossAfter),
      `. For image ${now.image}, whose label is ${className(now.label)}, `,
      `the largest logit is now at ${className(best)}.`),
    now.chains.map((chain) => element("div", { class: "group whole" },
      element("h3", {}, `The mask of ${chain.layer}: ${chain.rule}`),
      element("div", { class: "figures" }, movesTable(chain), wholeMask(chain)))));
}

function movesTable(chain) { // who went from where to where
  const names = ["kept", "hidden", "inverted"], head = names.map((name) => element("th", { scope: "col" }, name));
  const rows = chain.moves.map((row, i) => element("tr", {}, element("th", { scope: "row" }, names[i]),
    row.map((count) => element("td", {}, grouped(count)))));
  return element("table", {},
    element("caption", {}, `weights of ${chain.layer}, before (rows) and after (columns)`),
    element("thead", {}, element("tr", {}, element("td"), head)), element("tbody", {}, rows));
}

function wholeMask(chain) { // every weight a cell, the longer side across
  const { rows, columns, every, data: text } = chain.whole, bytes = bytesOf(text), paint = colours();
  const tall = rows > columns, across = Math.max(rows, columns), down = Math.min(rows, columns);
  const room = printing ? 600 : Math.min(640, document.documentElement.clientWidth - 40);
  const side = Math.max(1, Math.min(6, Math.floor(room / across)));
  const canvas = element("canvas", { role: "img",
    "aria-label": `the whole mask of ${chain.layer} as a picture; the table has its numbers` });
  const context = prepared(canvas, across * side, down * side), changed = [];
  for (let i = 0; i < rows * columns; i++) {
    const state = bytes[i >> 2] >> 2 * (i & 3) & 3, row = Math.floor(i / columns), column = i % columns;
    const x = (tall ? row : column) * side, y = (tall ? column : row) * side;
    if (state === 3) changed.push([x + side / 2, y + side / 2]);
    else if (state) {
      context.fillStyle = state === 1 ? paint.positive : paint.negative;
      context.fillRect(x, y + (state === 1 ? 0 : side / 3), side, state === 1 ? side : side / 3); // inverted: a dash
    }
  }
  context.strokeStyle = paint.text;
  context.lineWidth = 1.25;
  for (const [x, y] of changed) {
    context.beginPath();
    context.arc(x, y, Math.max(3, side / 2), 0, 7);
    context.stroke();
  }
  const how = tall ? "inputs across, units down" : "inputs down, units across";
  const part = every > 1 ? `, one of ${every} inputs and units` : "";
  return element("figure", {}, element("figcaption", {},
    `the whole mask${part}: ${chain.shape.map(grouped).join(" \u00d7 ")}, ${how}; `,
    "full: kept, dash: inverted, ring: changed in this step"), element("div", { class: "wide low" }, canvas));
}
