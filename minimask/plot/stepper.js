"use strict";
/* Shows a recorded training step: forward op by op, backward pullback by pullback, the update.
   All that it knows is in the element "data". Text becomes text nodes; nothing is read as markup. */

const data = JSON.parse(document.getElementById("data").textContent);
const ACTS = [["forward", "Forward"], ["backward", "Backward"], ["update", "Update"]];
const STATES = { "1": "kept", "0": "hidden", "-1": "inverted" };

/* ---- elements and text ------------------------------------------------------------------------------------------ */

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

function drawing(tag, attributes, ...children) { // an element of SVG
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const at = (id) => document.getElementById(id);
const code = (text) => element("code", {}, text);
const number = (value) => element("span", { class: "number" }, written(value));

function written(value) { // a number as text, in six digits; NaN and infinity come as text
  if (typeof value !== "number" || Number.isNaN(value)) return String(value);
  const size = Math.abs(value);
  const text = value === 0 ? "0" : Number.isInteger(value) && size < 1e9 ? String(value)
    : size < 1e-4 || size >= 1e7 ? value.toExponential(5) : String(Number(value.toPrecision(6)));
  return text.replace(/-/g, "\u2212"); // a minus sign as long as the plus
}

const shaped = (shape) => (shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`);
const grouped = (count) => count.toLocaleString("en");

/* ---- arrays ------------------------------------------------------------------------------------------------------ */

const READERS = { f4: [4, "getFloat32"], f8: [8, "getFloat64"], i1: [1, "getInt8"], i4: [4, "getInt32"] };
const decoded = new Map();

function bytesOf(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

function valuesOf(view) { // the numbers of a view, row by row
  if (!decoded.has(view.array)) {
    const [kind, text] = data.arrays[view.array];
    const [size, read] = READERS[kind];
    const bytes = new DataView(bytesOf(text).buffer);
    decoded.set(view.array, Array.from({ length: bytes.byteLength / size }, (_, i) => bytes[read](i * size, true)));
  }
  return decoded.get(view.array);
}

function unravelled(flat, shape) { // a place in row-major order -> an index for every axis
  const index = [];
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    index.unshift(flat % shape[axis]);
    flat = Math.floor(flat / shape[axis]);
  }
  return index;
}

function indexOf(view, cell) { // where in its array a number of a view stands
  const image = view.ofImage ? [moment().image] : [];
  if (view.kind === "flat") return [...image, ...unravelled(cell, view.shape.slice(image.length))];
  if (view.kind === "channels") {
    const place = view.rows * view.columns;
    return [...image, Math.floor(cell % place / view.columns), cell % view.columns, Math.floor(cell / place)];
  }
  const chosen = data.selections[view.selection];
  const row = chosen.rows[Math.floor(cell / view.columns)], column = chosen.columns[cell % view.columns];
  return [...unravelled(row, view.shape.slice(0, -1)), column];
}

const bracketed = (index) => `[${index.join(", ")}]`;

/* ---- where the reader is ----------------------------------------------------------------------------------------- */

const here = { moment: 0, act: "forward", step: 0, layer: "", cell: 0 };

const moment = () => data.moments[here.moment];
const backwards = () => moment().calls.map((call, i) => [call, i]).filter(([call]) => call.order !== null)
  .sort(([a], [b]) => a.order - b.order).map(([, i]) => i);

function steps(act) { // what an act has to show: "batch", the index of a call or of an update, "end"
  if (act === "forward") return ["batch", ...moment().calls.keys()];
  if (act === "backward") return backwards();
  return [...moment().updates.keys(), "end"];
}

function address(change = {}) {
  const to = { ...here, ...change };
  const cell = followed(to.layer) ? [encodeURIComponent(to.layer), to.cell] : [];
  return "#" + [data.moments[to.moment].number, to.act, to.step, ...cell].join("/");
}

function go(change) {
  Object.assign(here, change);
  here.step = Math.max(0, Math.min(here.step, steps(here.act).length - 1));
  try { history.replaceState(null, "", address()); } catch { /* a frame without an address */ }
  show();
}

function comeFrom(hash) { // what the address says, as far as there is such a place
  const [stepNumber, act, step, layer, cell] = hash.slice(1).split("/");
  const which = data.moments.findIndex((each) => String(each.number) === stepNumber);
  if (which >= 0) here.moment = which;
  if (ACTS.some(([name]) => name === act)) here.act = act;
  here.step = Math.max(0, Math.min(Number.parseInt(step, 10) || 0, steps(here.act).length - 1));
  let name = "";
  try { name = decodeURIComponent(layer || ""); } catch { /* not ours */ }
  if (followed(name)) {
    here.layer = name;
    const size = data.selections[name].rows.length * data.selections[name].columns.length;
    here.cell = Math.max(0, Math.min(Number.parseInt(cell, 10) || 0, size - 1));
  }
}

function link(text, change, attributes = {}) {
  const made = element("a", { href: address(change), ...attributes }, text);
  made.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go(change);
  });
  return made;
}

/* ---- pictures: a filled square is positive, a hollow one negative, its area the size ---------------------------- */

const EDGE = 3; // around the cells, for the ring of the picked one
const PAPER = { positive: "#08457e", negative: "#b4500a", faint: "#777777", text: "#000000", page: "#ffffff" };
let printing = false;

function colours() {
  if (printing) return PAPER;
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(Object.keys(PAPER).map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

function mark(context, paint, x, y, side, share) { // one number as a mark in the middle of its cell
  const size = Math.max(1.5, Math.sqrt(Math.min(1, Math.abs(share))) * Math.min(side - 1, 0.84 * side));
  const left = x + (side - size) / 2, top = y + (side - size) / 2;
  if (share === 0 || Number.isNaN(share)) {
    context.fillStyle = paint.faint;
    context.fillRect(x + side / 2 - 0.4, y + side / 2 - 0.4, 0.8, 0.8);
  } else if (share > 0) {
    context.fillStyle = paint.positive;
    context.fillRect(left, top, size, size);
  } else if (size < 3.5) { // too small to be hollow: a dash
    context.fillStyle = paint.negative;
    context.fillRect(x + side / 2 - size, y + side / 2 - 0.5, 2 * size, 1);
  } else {
    const pen = Math.max(1, size * 0.18);
    context.strokeStyle = paint.negative;
    context.lineWidth = pen;
    context.strokeRect(left + pen / 2, top + pen / 2, size - pen, size - pen);
  }
}

function prepared(canvas, width, height) { // as sharp as the screen
  const scale = Math.max(2, window.devicePixelRatio || 1);
  canvas.width = width * scale;
  canvas.height = height * scale;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  return context;
}

function paintView(canvas, view, pane, side, picked) {
  const values = valuesOf(view), count = view.rows * view.columns, paint = colours();
  const most = values.reduce((most, value) => (Math.abs(value) > most ? Math.abs(value) : most), 0) || 1;
  const context = prepared(canvas, view.columns * side + 2 * EDGE, view.rows * side + 2 * EDGE);
  for (let i = 0; i < count && pane * count + i < values.length; i++) {
    const x = EDGE + i % view.columns * side, y = EDGE + Math.floor(i / view.columns) * side;
    mark(context, paint, x, y, side, values[pane * count + i] / most);
    if (pane * count + i === picked) {
      context.strokeStyle = paint.text;
      context.lineWidth = 1.5;
      context.strokeRect(x - 1, y - 1, side + 2, side + 2);
    }
  }
}

function cellSize(view) {
  const room = (printing ? 128 : window.innerWidth < 480 ? 168 : 192) / (view.panes > 2 ? 2 : 1);
  return Math.max(5, Math.min(20, Math.floor(room / view.columns), Math.max(printing ? 5 : 8, Math.floor(240 / view.rows))));
}

/* ---- one array: its name, its picture, the number under the pointer, a table ------------------------------------ */

function figure(view, name, origin = "") {
  const span = view.span.map((end) => written(typeof end === "number" ? Number(end.toPrecision(3)) : end));
  const lines = [`${shaped(view.shape)} ${view.dtype}`, span[0] === span[1] ? span[0] && `everywhere ${span[0]}` : span.join(" to "), extent(view)];
  const caption = element("figcaption", {}, element("strong", {}, code(name)), origin ? [" ", origin] : null,
    lines.filter(Boolean).map((line) => [element("br"), element("span", { class: "faint" }, line)]).flat());
  const values = valuesOf(view);
  if (values.length === 0) return element("figure", {}, caption);
  if (values.length === 1) {
    return element("figure", {}, caption, element("div", { class: "single" }, written(values[0])));
  }
  return element("figure", {}, caption, ...pictures(view, name, values));
}

function extent(view) { // which part of the array is shown
  const shown = view.panes * view.rows * view.columns;
  if (view.kind === "block") {
    const whole = view.shape.reduce((a, b) => a * b, 1);
    const units = view.shape.at(-1);
    return shown === whole ? "all of it" : `shown: ${view.rows} \u00d7 ${view.columns} of ${grouped(whole / units)} \u00d7 ${units}`;
  }
  const image = view.ofImage ? `image ${moment().image} of ${view.shape[0]}` : "";
  const part = view.kind === "channels" && view.panes < view.of ? `${view.panes} of ${view.of} channels`
    : view.kind === "flat" && shown < view.of ? `the first ${grouped(shown)} of ${grouped(view.of)}` : "";
  return [image, part].filter(Boolean).join(", ") || "all of it";
}

function pictures(view, name, values) {
  const side = cellSize(view), told = element("output", {});
  const canvases = Array.from({ length: view.panes }, () => element("canvas", { role: "img" }));
  const say = (cell) => { told.textContent = `${bracketed(indexOf(view, cell))} is ${written(values[cell])}`; };
  const paint = () => canvases.forEach((canvas, pane) => paintView(canvas, view, pane, side, pickedIn(view)));
  canvases.forEach((canvas, pane) => {
    const cellAt = (event) => {
      const box = canvas.getBoundingClientRect();
      const column = Math.min(view.columns - 1, Math.max(0, Math.floor((event.clientX - box.left - EDGE) / side)));
      const row = Math.min(view.rows - 1, Math.max(0, Math.floor((event.clientY - box.top - EDGE) / side)));
      return Math.min(values.length - 1, pane * view.rows * view.columns + row * view.columns + column);
    };
    canvas.setAttribute("aria-label", `${name}${view.panes > 1 ? `, channel ${pane}` : ""}: a picture of `
      + `${view.rows} by ${view.columns} numbers; the table below has them`);
    canvas.addEventListener("pointermove", (event) => say(cellAt(event)));
    canvas.addEventListener("pointerleave", () => say(pickedIn(view)));
    canvas.addEventListener("click", (event) => pick(view, cellAt(event)));
  });
  paint();
  say(pickedIn(view));
  return [element("div", { class: view.panes > 2 ? "pictures many" : "pictures" }, canvases), told, unfolding(view, name, values)];
}

const picks = new Map(); // by array: the entry that the reader picked in it

function pickedIn(view) {
  if (view.kind === "block") return view.selection === here.layer ? here.cell : 0;
  if (picks.has(view.array)) return picks.get(view.array);
  const values = valuesOf(view);
  return values.reduce((best, value, i) => (Math.abs(value) > Math.abs(values[best]) ? i : best), 0);
}

function pick(view, cell) {
  if (view.kind === "block") go({ layer: view.selection, cell });
  else {
    picks.set(view.array, cell);
    show();
  }
}

const unfolded = new Set(); // arrays whose numbers stand open

function unfolding(view, name, values) { // the table is made when it is asked for
  const box = element("details", {}, element("summary", { "aria-label": `numbers of ${name}` }, "numbers"));
  box.addEventListener("toggle", () => {
    unfolded[box.open ? "add" : "delete"](view.array);
    if (box.open && box.children.length === 1) box.append(numbersTable(view, name, values));
  });
  box.open = unfolded.has(view.array) && !printing;
  return box;
}

function numbersTable(view, name, values) { // a row of the picture is a row of the table
  const rows = [];
  for (let start = 0; start < values.length; start += view.columns) {
    const cells = values.slice(start, start + view.columns);
    rows.push(element("tr", {}, element("th", { scope: "row" }, `from ${bracketed(indexOf(view, start))}`),
      cells.map((value, i) => element("td", { title: bracketed(indexOf(view, start + i)) }, written(value)))));
  }
  return element("div", { class: "wide", role: "region", tabindex: "0", "aria-label": `numbers of ${name}` },
    element("table", {}, element("caption", {}, `${name}: ${extent(view)}`), element("tbody", {}, rows)));
}

/* ---- the source, lit where this act runs ------------------------------------------------------------------------ */

function sourcePanel(source, lit) {
  const lines = source.text.split("\n");
  const linesOf = (parts) => [...new Set(parts.map(([first, , last]) => `${source.line + first}${last > first ? `\u2013${source.line + last}` : ""}`))].join(", ");
  const body = element("pre", { tabindex: "0", "aria-label": `source of ${source.file} from line ${source.line}` },
    lines.map((text, row) => element("span", { class: "line", "data-number": source.line + row },
      ...pieces(source, row, text, lit), "\n")));
  const heading = element("h3", {}, code(source.line ? `${source.file}:${source.line}` : source.file));
  const told = source.value.length ? element("p", { class: "faint" }, `value: line ${linesOf(source.value)}`
    + ` \u00b7 pullback: line ${linesOf(source.pullback)}${lit ? ` \u00b7 lit: the ${lit}` : ""}`) : null;
  return element("section", { class: "source" }, heading, told, body);
}

function pieces(source, row, text, lit) { // a line as text and marks
  const marks = ["value", "pullback"].flatMap((kind) => source[kind].map(([first, from, last, to]) => ({
    kind, from: row === first ? from : row > first ? text.search(/\S|$/) : Infinity,
    to: row === last ? to : row < last ? text.length : -1 }))).filter(({ from, to }) => from < to)
    .sort((a, b) => a.from - b.from);
  const made = [];
  let done = 0;
  for (const { kind, from, to } of marks) {
    if (from < done) continue;
    made.push(text.slice(done, from), element("mark", { class: kind === lit ? `${kind} lit` : kind }, text.slice(from, to)));
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

/* ---- the three acts ---------------------------------------------------------------------------------------------- */

const called = (call) => (call.number === null ? call.op : `#${call.number} ${call.op}`);

function originOf(from) { // where an array comes from: the op that made it, or a name
  if (typeof from !== "number") return `is ${from}`;
  return element("span", {}, "of ", link(called(moment().calls[from]), { act: "forward", step: from + 1 }));
}

function group(title, ...figures) {
  return element("div", { class: "group" }, element("h3", {}, title), element("div", { class: "figures" }, figures));
}

function frame(title, lead, source, lit, ...groups) { // heading, lead, source on the left, arrays on the right
  return element("div", {}, element("h2", {}, title), lead,
    element("div", { class: "columns" }, Array.isArray(source) ? element("div", {}, source.map((each) => sourcePanel(each, ""))) : sourcePanel(source, lit),
      element("div", { class: "groups" }, groups)));
}

function batchStep() {
  const now = moment(), first = now.calls.find((call) => call.inputs.some((input) => input.from === "images"));
  const view = first && first.inputs.find((input) => input.from === "images").view;
  return element("div", {}, element("h2", {}, "What goes in"), element("div", { class: "columns" }, element("div", {},
    element("p", {}, `A batch of ${now.batch} images. The net turns each into a number per class, the loss compares them `
      + "with the labels, backward() brings the loss\u2019s slope back to every parameter, and the optimizer moves them. "
      + `Of arrays with an entry for every image this page shows that of image ${now.image}, whose label is ${className(now.label)}.`),
    element("p", {}, `This is step ${grouped(now.number)}${data.total ? ` of ${grouped(data.total)}` : ""}: ${now.optimizer} with ${ratesOf(now)}.`),
    element("h3", {}, "How to read the pictures"), legend(),
    element("p", { class: "faint" }, "The number under the pointer is told below a picture; a click picks it. A click on a weight follows it through the three acts, below.")),
  element("div", { class: "groups" }, view ? group("In", figure(view, "images")) : null, netTable())));
}

function netTable() {
  const rows = data.layers.map(([name, text]) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, text)));
  return element("div", { class: "group" }, element("h3", {}, "The net"),
    element("table", { class: "words" }, element("tbody", {}, rows)));
}

const className = (label) => (data.classes[label] !== undefined && data.classes[label] !== String(label)
  ? `${label} (${data.classes[label]})` : String(label));

function forwardStep(index) {
  const call = moment().calls[index], source = data.sources[call.source];
  const place = call.site[0] ? [" Called in ", code(`${call.site[0]}:${call.site[1]}`), call.layer ? `, for layer ${call.layer}.` : "."] : [];
  const settings = call.settings.map(([name, value]) => `${name} = ${value}`).join(", ");
  const lead = element("p", {}, source.about ? element("span", {}, source.about, " ") : null, ...place,
    call.number === null ? " Nothing in it wants a gradient, so it is not on the tape." : null);
  return frame(`${called(call)}${call.layer ? ` in ${call.layer}` : ""}`, lead, source, "value",
    group(settings ? `In, with ${settings}` : "In", ...call.inputs.map((input) => figure(input.view, input.name, originOf(input.from)))),
    group("Out", figure(call.value, "value", usedBy(index))));
}

function usedBy(index) {
  const users = [...moment().calls.entries()].filter(([, call]) => call.inputs.some((input) => input.from === index));
  if (!users.length) return "the loss";
  return element("span", {}, "to ", users.flatMap(([i, call], n) => [n ? ", " : "", link(called(call), { act: "forward", step: i + 1 })]));
}

const backLink = (index) => link(called(moment().calls[index]), { act: "backward", step: backwards().indexOf(index) });

function arrivals(parts, sum, name) { // a cotangent, and what it is the sum of where paths meet
  if (parts.length < 2) {
    const origin = parts.length ? element("span", {}, "from ", backLink(parts[0][0]))
      : name === "g of the loss" ? "dL/dL is 1" : "from an op that is not recorded";
    return group("Arrives", figure(sum, name, origin));
  }
  const terms = parts.flatMap(([call, which], i) => [i ? element("span", { class: "sign" }, "+") : null,
    figure(moment().calls[call].inputs[which].back, `part ${i + 1}`, element("span", {}, "from ", backLink(call)))]);
  return group(`Arrives: ${parts.length} paths meet here, and the engine adds`, ...terms,
    element("span", { class: "sign" }, "="), figure(sum, name, "the sum"));
}

function backwardStep(index) {
  const call = moment().calls[index], source = data.sources[call.source];
  const lead = element("p", {}, `Pullback ${call.order + 1} of ${backwards().length}. It is given g, the cotangent of the value that `
    + `${called(call)} made, and gives a cotangent for every input.`,
  call.declared ? " This gradient is declared, not derived (straight-through): the step itself has no slope." : "");
  const wanted = call.inputs.filter((input) => input.back), others = call.inputs.filter((input) => !input.back);
  const leaving = wanted.map((input) => figure(input.back, `d${input.name}`, typeof input.from === "number"
    ? element("span", {}, "to ", call.inputs.length && moment().calls[input.from].order !== null ? backLink(input.from) : called(moment().calls[input.from]))
    : `to ${input.from}.grad`));
  const none = others.length ? element("p", { class: "faint" }, "No gradient is wanted of ",
    others.map((input) => `${input.name} (${typeof input.from === "number" ? called(moment().calls[input.from]) : input.from})`).join(", "), ".") : null;
  return frame(`Back through ${called(call)}${call.layer ? ` in ${call.layer}` : ""}`, lead, source, "pullback",
    arrivals(call.parts, call.arrived, index === moment().calls.length - 1 ? "g of the loss" : "g"), group("Leaves", ...leaving), none,
    element("div", { class: "again" }, group("It was given, in the forward act", ...call.inputs.map((input) => figure(input.view, input.name, originOf(input.from))))));
}

function updateStep(index) {
  const now = moment(), update = now.updates[index], name = update.name.split(".").pop();
  const lead = element("p", {}, `${now.optimizer} moves ${update.name}: ${ratesOf(now)}. Learning rate and weight decay `
    + "are those of this step, after the schedule\u2019s factor.");
  const slots = (when) => update.slots.map((slot) => figure(slot[when], slot.name, when));
  const met = update.parts.length > 1 ? [arrivals(update.parts, update.gradient, `${name}.grad`)] : [];
  return frame(`Update of ${update.name}`, lead, now.updateSources.map((each) => data.sources[each]), "", ...met,
    group("Before", figure(update.before, name, "before"), figure(update.gradient, `${name}.grad`, "from backward"), ...slots("before")),
    group("After", figure(update.after, name, "after"), ...slots("after")));
}

const ratesOf = (now) => Object.entries(now.rates).map(([name, value]) => `${name} ${written(value)}`).join(", ");

function endStep() {
  const now = moment();
  const best = now.logitsAfter.reduce((best, value, i) => (value > now.logitsAfter[best] ? i : best), 0);
  return element("div", {}, element("h2", {}, "What the step did"),
    element("p", {}, "The loss of this batch was ", number(now.loss), " and is now ", number(now.lossAfter),
      `. For image ${now.image}, whose label is ${className(now.label)}, the largest logit is now at ${className(best)}.`),
    now.chains.map((chain) => element("div", { class: "group whole" }, element("h3", {}, `The mask of ${chain.layer}: ${chain.rule}`),
      element("div", { class: "figures" }, movesTable(chain), wholeMask(chain)))));
}

function movesTable(chain) { // who went from where to where
  const names = ["kept", "hidden", "inverted"];
  return element("table", {}, element("caption", {}, `weights of ${chain.layer}, before (rows) and after (columns)`),
    element("thead", {}, element("tr", {}, element("td", {}), names.map((name) => element("th", { scope: "col" }, name)))),
    element("tbody", {}, chain.moves.map((row, i) => element("tr", {}, element("th", { scope: "row" }, names[i]),
      row.map((count) => element("td", {}, grouped(count)))))));
}

function wholeMask(chain) { // every weight a cell, the longer side across
  const { rows, columns, every, data: text } = chain.whole, bytes = bytesOf(text), paint = colours();
  const tall = rows > columns, across = tall ? rows : columns, down = tall ? columns : rows;
  const room = printing ? 600 : Math.min(640, document.documentElement.clientWidth - 40);
  const side = Math.max(1, Math.min(6, Math.floor(room / across)));
  const canvas = element("canvas", { role: "img", "aria-label": `the whole mask of ${chain.layer} as a picture; the table has its numbers` });
  const context = prepared(canvas, across * side, down * side), rings = [];
  for (let i = 0; i < rows * columns; i++) {
    const state = bytes[i >> 2] >> 2 * (i & 3) & 3, row = Math.floor(i / columns), column = i % columns;
    const x = (tall ? row : column) * side, y = (tall ? column : row) * side;
    if (state === 3) rings.push([x, y]);
    else if (state) {
      context.fillStyle = state === 1 ? paint.positive : paint.negative;
      context.fillRect(x, y + (state === 1 ? 0 : side / 3), side, state === 1 ? side : side / 3); // inverted: a dash
    }
  }
  context.strokeStyle = paint.text;
  context.lineWidth = 1.25;
  for (const [x, y] of rings) {
    context.beginPath();
    context.arc(x + side / 2, y + side / 2, Math.max(3, side / 2), 0, 7);
    context.stroke();
  }
  const size = `${chain.shape.map(grouped).join(" x ")}, inputs ${tall ? "across, units down" : "down, units across"}`;
  return element("figure", {}, element("figcaption", {}, `the whole mask${every > 1 ? `, one of ${every} inputs and units` : ""}: ${size}; `
    + "full: kept, dash: inverted, ring: changed in this step"), element("div", { class: "wide low" }, canvas));
}

function legend() {
  const sample = (share) => {
    const canvas = element("canvas", { "aria-hidden": "true" });
    mark(prepared(canvas, 14, 14), colours(), 0, 0, 14, share);
    return canvas;
  };
  return element("ul", { class: "legend", "aria-label": "How to read the pictures" },
    [[1, "filled: positive"], [-1, "hollow: negative"], [0.15, "area: its size"], [-0.02, "dash: small and negative"], [0, "dot: exactly 0"]]
      .map(([share, text]) => element("li", {}, sample(share), text)));
}

/* ---- be one score ------------------------------------------------------------------------------------------------ */

const followed = (layer) => data.selections[layer] !== undefined && moment().updates.some((update) => update.layer === layer);
const chainOf = (layer) => moment().chains.find((chain) => chain.layer === layer);

function story(layer, cell) { // the numbers of one weight on its way, from the views of the arrays
  const now = moment(), chain = chainOf(layer), value = (view) => valuesOf(view)[cell];
  const index = now.updates.findIndex((update) => update.layer === layer && update.before.kind === "block");
  const update = now.updates[index];
  const common = { index, m: value(update.before), grad: value(update.gradient), after: value(update.after),
    slots: update.slots.map((slot) => ({ name: slot.name, before: value(slot.before), after: value(slot.after) })) };
  if (!chain) return common;
  const step = now.calls[chain.step], product = now.calls[chain.product];
  const frozen = product.inputs.find((input) => input.from === `${layer}.frozen`);
  return { ...common, chain, s: value(step.value), w: value(frozen.view), ws: value(product.value), op: step.op,
    gws: product.arrived && value(product.arrived), gs: step.arrived && value(step.arrived),
    gm: step.inputs[0].back && value(step.inputs[0].back), sAfter: value(chain.after) };
}

function flips(layer) { // the first of the weights shown that flips
  const size = data.selections[layer].rows.length * data.selections[layer].columns.length;
  return Array.from({ length: size }, (_, cell) => cell).findIndex((cell) => story(layer, cell).s !== story(layer, cell).sAfter);
}

function verdict(before, after) {
  const [from, to] = [STATES[before], STATES[after]];
  return from === to ? `it was ${from} and stays ${from}` : `it was ${from} and is now ${to}: it flipped`;
}

function scoreSection() {
  const layer = here.layer, told = story(layer, here.cell), view = moment().updates[told.index].before;
  const index = bracketed(indexOf(view, here.cell));
  const what = told.chain ? "Be one score" : "Be one weight";
  return [element("h2", { id: "score-title" }, what),
    element("p", {}, `${told.chain ? "Score" : "Weight"} ${index} of ${layer}`, told.chain
      ? `: ${told.chain.rule}. In this step ${verdict(told.s, told.sAfter)}.` : ", trained itself."),
    controls(layer, told), told.chain ? axis(told) : null, way(layer, told)];
}

function controls(layer, told) {
  const chosen = data.selections[layer], columns = chosen.columns.length;
  const row = Math.floor(here.cell / columns), column = here.cell % columns;
  const choice = (id, label, options, value, change) => element("label", { for: id }, label,
    element("select", { id, onchange: (event) => change(Number(event.target.value)) },
      options.map((text, i) => element("option", { value: i, selected: i === value ? "" : null }, text))));
  const layers = Object.keys(data.selections).filter(followed);
  const inputs = chosen.rows.map((each) => chosen.shape.length > 2 ? bracketed(unravelled(each, chosen.shape.slice(0, -1))) : String(each));
  const find = (text, fits) => element("button", { type: "button", onclick: () => {
    const size = chosen.rows.length * columns;
    for (let i = 1; i <= size; i++) {
      const cell = (here.cell + i) % size;
      if (fits(story(layer, cell))) return go({ cell });
    }
    at("said").textContent = `none is shown of ${layer}`;
    return undefined;
  } }, text);
  return element("div", { class: "controls" },
    choice("layer", "layer", layers, layers.indexOf(layer), (i) => go({ layer: layers[i], cell: 0 })),
    choice("input", "from input", inputs, row, (i) => go({ cell: i * columns + column })),
    choice("unit", "to unit", chosen.columns.map(String), column, (i) => go({ cell: row * columns + i })),
    told.chain ? [find("next kept", (each) => each.s > 0), find("next hidden", (each) => each.s === 0),
      find("next inverted", (each) => each.s < 0), find("next that flips", (each) => each.s !== each.sAfter)] : null);
}

function axis(told) { // the score before and after, between its thresholds
  const cuts = told.chain.thresholds;
  const far = 1.2 * Math.max(Math.abs(told.m), Math.abs(told.after), ...cuts.map((cut) => 2 * cut)) || 1;
  const wide = printing ? 640 : Math.max(280, Math.min(640, document.documentElement.clientWidth - 40)), middle = wide / 2;
  const x = (value) => middle + (middle - 20) * value / far;
  const from = cuts.length > 1 ? x(cuts[0]) : 20, to = cuts.length ? x(cuts.at(-1)) : 20;
  const words = cuts.length ? [["start", 20, cuts.length > 1 ? "inverted" : "hidden"], ["end", wide - 20, "kept"]] : [];
  const zone = cuts.length ? [drawing("rect", { class: "hidden", x: from, y: 34, width: Math.max(1, to - from), height: 32 })] : [];
  return drawing("svg", { class: "axis", width: wide, height: 116, viewBox: `0 0 ${wide} 116`, role: "img", "aria-label":
    `the score goes from ${written(told.m)} to ${written(told.after)}; thresholds ${cuts.map(written).join(" and ") || "none"}` },
  ...zone, drawing("line", { class: "rule", x1: 20, x2: wide - 20, y1: 50, y2: 50 }),
  ...cuts.map((cut) => drawing("line", { class: "cut", x1: x(cut), x2: x(cut), y1: 28, y2: 72 })),
  ...cuts.map((cut, i) => drawing("text", { x: x(cut), y: 86, "text-anchor": cuts.length > 1 ? (i ? "start" : "end") : "middle" },
    `${cut < 0 ? "\u2212" : ""}\u03c4 = ${written(cut)}`)),
  ...words.map(([anchor, place, text]) => drawing("text", { x: place, y: 24, "text-anchor": anchor }, text)),
  ...(cuts.length > 1 ? [drawing("text", { x: middle, y: 24, "text-anchor": "middle" }, "hidden")] : []),
  drawing("circle", { class: "before", cx: x(told.m), cy: 50, r: 5 }),
  drawing("circle", { class: "after", cx: x(told.after), cy: 50, r: 9 }),
  drawing("circle", { class: "before", cx: 26, cy: 106, r: 5 }), drawing("text", { x: 38, y: 111 }, "m"),
  drawing("circle", { class: "after", cx: 84, cy: 106, r: 7 }), drawing("text", { x: 98, y: 111 }, "new m"));
}

function way(layer, told) {
  const chain = told.chain, calls = moment().calls, list = (title, facts) => element("div", {}, element("h3", {}, title), element("ol", {}, facts.filter(Boolean)));
  const fact = (name, value, about, change) => value === null || value === undefined ? null : element("li", {
    class: change && change.act === here.act && change.step === here.step ? "now" : null,
    "aria-current": change && change.act === here.act && change.step === here.step ? "step" : null },
  change ? link(name, change) : name, " = ", number(value), about ? element("small", {}, about) : null);
  const to = (act, index) => (act === "forward" ? { act, step: index + 1 } : { act, step: backwards().indexOf(index) });
  const rates = moment().rates, updated = { act: "update", step: told.index };
  const forward = chain ? [fact("m", told.m, `the score before the step${chain.thresholds.length ? `, beside ${chain.thresholds.map(written).join(" and ")}` : ""}`, to("forward", chain.step)),
    fact("s", told.s, `${told.op}(m): ${STATES[told.s] || "its mask"}`, to("forward", chain.step)),
    fact("W", told.w, "frozen, it never changes", to("forward", chain.product)),
    fact("W s", told.ws, `${written(told.w)} \u00d7 ${written(told.s)}, what the layer multiplies with`, to("forward", chain.product))]
    : [fact("W", told.m, "the weight before the step", null)];
  const backward = chain ? [fact("dL/d(W s)", told.gws, "arrives from the layer, summed over the batch", to("backward", chain.product)),
    fact("dL/ds", told.gs, `W \u00d7 that: ${written(told.w)} \u00d7 ${written(told.gws)}`, to("backward", chain.product)),
    fact("dL/dm", told.gm, calls[chain.step].declared ? "declared: " + (told.gm === told.gs ? "dL/dm := dL/ds" : "not the step's slope, which is 0") : "", to("backward", chain.step))]
    : [fact("dL/dW", told.grad, "summed over the batch", null)];
  const sgdw = "wd" in rates && told.slots.length === 1, v = told.slots[0];
  const update = [...told.slots.map((slot) => fact(slot.name, slot.before, "before the step", updated)),
    ...told.slots.map((slot) => fact(`new ${slot.name}`, slot.after, sgdw ? `${written(rates.momentum)} \u00d7 ${written(slot.before)} \u2212 ${written(rates.lr)} \u00d7 ${written(told.grad)}` : "", updated)),
    fact(chain ? "new m" : "new W", told.after, sgdw ? `${written(told.m)} \u00d7 (1 \u2212 ${written(rates.wd)}) + ${written(rates.momentum)} \u00d7 ${written(v.after)} \u2212 ${written(rates.lr)} \u00d7 ${written(told.grad)}` : "", updated),
    chain ? fact("new s", told.sAfter, verdict(told.s, told.sAfter), { act: "update", step: steps("update").length - 1 }) : null];
  return element("div", { class: "way" }, list("Forward", forward), list("Backward", backward), list("Update", update));
}

/* ---- the rail: moments, acts, buttons, the tape ------------------------------------------------------------------ */

function drawMoments() {
  at("moments").replaceChildren(...(data.moments.length < 2 ? [] : data.moments.map((each, i) => link(
    `${each.when} \u00b7 step ${grouped(each.number)}`, { moment: i }, { class: "pill", "aria-current": i === here.moment ? "true" : null }))));
}

function drawActs() {
  at("acts").replaceChildren(...ACTS.map(([name, title], i) => link(`${i + 1} ${title}`, { act: name, step: 0 },
    { class: "pill", "aria-current": name === here.act ? "true" : null })));
  const all = steps(here.act).length;
  at("place").textContent = `${here.step + 1} of ${all}`;
  at("first").disabled = at("back").disabled = here.act === "forward" && here.step === 0;
  at("next").disabled = at("last").disabled = here.act === "update" && here.step === all - 1;
}

function drawTape() {
  const now = moment(), current = steps(here.act)[here.step], order = backwards();
  const chip = (text, small, change, isNow, ahead) => element("li", {}, link(element("span", {}, text, element("small", {}, small)), change,
    { "aria-current": isNow ? "step" : null, class: ahead ? "ahead" : null }));
  const groups = [];
  const add = (title, made) => (groups.length && groups.at(-1).title === title ? groups.at(-1).items.push(made) : groups.push({ title, items: [made] }));
  add("start", chip("batch", "in", { act: "forward", step: 0 }, current === "batch", false));
  now.calls.forEach((call, i) => {
    const back = here.act !== "forward" && call.order !== null;
    const isNow = here.act !== "update" && current === i;
    const ahead = here.act === "forward" ? i + 1 > here.step : here.act === "backward" && call.order !== null && call.order > here.step;
    const small = call.number === null ? "off the tape" : back && !ahead ? `#${call.number} \u2190` : `#${call.number}`;
    add(call.layer || "loss", chip(call.op, small, back && here.act === "backward" ? { act: "backward", step: order.indexOf(i) } : { act: "forward", step: i + 1 }, isNow, ahead));
  });
  now.updates.forEach((update, i) => add("update", chip(update.name, "parameter", { act: "update", step: i }, here.act === "update" && current === i,
    here.act !== "update" || i > here.step)));
  add("update", chip("what it did", "end", { act: "update", step: now.updates.length }, current === "end", current !== "end"));
  at("tape").replaceChildren(...groups.map(({ title, items }) => element("div", { role: "group", "aria-label": title },
    element("p", { "aria-hidden": "true" }, title), element("ol", {}, items))));
  const lit = at("tape").querySelector("[aria-current]");
  if (lit) at("tape").scrollTop = lit.closest("div").offsetTop - 6;
  if (lit && getComputedStyle(at("tape")).flexWrap === "nowrap") at("tape").scrollLeft = lit.offsetLeft - at("tape").clientWidth / 2 + lit.offsetWidth / 2;
}

function content(act, which) { // one step of an act, as elements
  if (which === "batch") return batchStep();
  if (which === "end") return endStep();
  return { forward: forwardStep, backward: backwardStep, update: updateStep }[act](which);
}

function show() {
  const restoreFocus = rememberFocus();
  if (!followed(here.layer)) here.layer = Object.keys(data.selections).find(followed) || "";
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

function rememberFocus() { // what is drawn anew would lose it: in the step it goes to the heading, elsewhere to its like
  const was = document.activeElement, box = was.closest("#moments, #walk, #tape, #step, #score");
  const within = () => [...box.querySelectorAll("a, button, select")];
  const index = box && within().indexOf(was);
  return () => {
    if (!box || was.isConnected) return;
    const like = box.id === "step" ? box.querySelector("h2") : within()[index];
    if (box.id === "step") like.tabIndex = -1;
    if (like) like.focus({ preventScroll: true });
  };
}

/* ---- moving about ------------------------------------------------------------------------------------------------ */

function move(by) { // past the end of an act the next begins
  const act = ACTS.findIndex(([name]) => name === here.act), to = here.step + by;
  if (to >= 0 && to < steps(here.act).length) go({ step: to });
  else if (ACTS[act + by]) {
    const name = ACTS[act + by][0];
    go({ act: name, step: by > 0 ? 0 : steps(name).length - 1 });
  }
}

const KEYS = { ArrowRight: () => move(1), ArrowLeft: () => move(-1), Home: () => go({ step: 0 }),
  End: () => go({ step: Infinity }), 1: () => go({ act: "forward", step: 0 }), 2: () => go({ act: "backward", step: 0 }),
  3: () => go({ act: "update", step: 0 }) };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, pre, .wide")) return;
  if (KEYS[event.key]) {
    event.preventDefault();
    KEYS[event.key]();
  }
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
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show());

/* ---- on paper: every step of this moment a page ------------------------------------------------------------------ */

window.addEventListener("beforeprint", () => {
  printing = true;
  const pages = ACTS.flatMap(([act, title]) => steps(act).map((which, i) => element("section", {},
    element("p", { class: "faint" }, `${data.title}${moment().when ? `, ${moment().when}` : ""} \u00b7 step ${grouped(moment().number)} \u00b7 ${title} ${i + 1} of ${steps(act).length}`), content(act, which))));
  const score = here.layer ? [element("section", {}, scoreSection().filter((part) => part && !part.classList.contains("controls")))] : [];
  at("pages").replaceChildren(...pages, ...score);
});
window.addEventListener("afterprint", () => {
  printing = false;
  at("pages").replaceChildren();
  show();
});

const sizes = data.moments[0].calls.length;
at("about").textContent = `${sizes} ops forward, back through those that want a gradient, and the update: the numbers of a real step, and the lines that made them.`;
const first = data.moments[0].chains.map((chain) => chain.layer).find((layer) => flips(layer) >= 0);
if (first) [here.layer, here.cell] = [first, flips(first)]; // a weight that flips is the first to follow
comeFrom(location.hash);
show();
