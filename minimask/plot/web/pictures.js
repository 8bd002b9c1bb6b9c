/* ---- marks: a filled square is positive, a hollow one negative, its area the size ------------------------------- */

const EDGE = 3; // around the cells, for the ring of the picked one
const PAPER = { positive: "#08457e", negative: "#b4500a", faint: "#777777", text: "#000000", page: "#ffffff" };
let printing = false;

function colours() {
  if (printing) return PAPER;
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(Object.keys(PAPER).map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

function mark(context, paint, x, y, side, share) { // one number in the middle of its cell; share: of the largest
  const size = Math.max(1.5, Math.sqrt(Math.min(1, Math.abs(share))) * Math.min(side - 1, 0.84 * side));
  const left = x + (side - size) / 2, top = y + (side - size) / 2;
  if (share === 0 || Number.isNaN(share)) {
    context.fillStyle = paint.faint;
    context.fillRect(Math.floor(x + side / 2), Math.floor(y + side / 2), 1, 1); // between pixels it would be a haze
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
  const high = Math.max(printing ? 5 : 8, Math.floor(240 / view.rows));
  return Math.max(5, Math.min(20, Math.floor(room / view.columns), high));
}

/* ---- one array: its name, its picture, the number under the pointer, a table ------------------------------------ */

function figure(view, name, origin = "") {
  const [least, most] = view.span.map(short);
  const range = least === undefined ? "" : least === most ? `everywhere ${least}` : `${least} to ${most}`;
  const lines = [`${shaped(view.shape)} ${view.dtype}`, range, extent(view)].filter(Boolean);
  const caption = element("figcaption", {}, element("strong", {}, code(name)), origin ? [" ", origin] : null,
    lines.flatMap((line) => [element("br"), element("span", { class: "faint" }, line)]));
  const values = valuesOf(view);
  if (values.length === 0) return element("figure", {}, caption);
  if (values.length > 1) return element("figure", {}, caption, ...pictures(view, name, values));
  return element("figure", {}, caption, element("div", { class: "single" }, written(values[0])));
}

function extent(view) { // which part of the array is shown
  const shown = view.panes * view.rows * view.columns;
  if (view.kind === "block") {
    const units = view.shape.at(-1), inputs = product(view.shape) / units;
    return shown === units * inputs ? "all of it"
      : `shown: ${view.rows} \u00d7 ${view.columns} of ${grouped(inputs)} \u00d7 ${units}`;
  }
  const image = view.ofImage ? `image ${moment().image} of ${view.shape[0]}` : "";
  const part = view.kind === "channels" && view.panes < view.of ? `${view.panes} of ${view.of} channels`
    : view.kind === "flat" && shown < view.of ? `the first ${grouped(shown)} of ${grouped(view.of)}` : "";
  return [image, part].filter(Boolean).join(", ") || "all of it";
}

function pictures(view, name, values) { // a picture for every channel; below them the number, and the table
  const side = cellSize(view), size = view.rows * view.columns, told = element("output", {});
  const say = (cell) => { told.textContent = `${bracketed(indexOf(view, cell))} is ${written(values[cell])}`; };
  const canvases = Array.from({ length: view.panes }, (_, pane) => {
    const channel = view.panes > 1 ? `, channel ${pane}` : "";
    const canvas = element("canvas", { role: "img", "aria-label":
      `${name}${channel}: a picture of ${view.rows} by ${view.columns} numbers; the table below has them` });
    const cellAt = (event) => {
      const box = canvas.getBoundingClientRect();
      const within = (place, count) => Math.min(count - 1, Math.max(0, Math.floor((place - EDGE) / side)));
      const row = within(event.clientY - box.top, view.rows), column = within(event.clientX - box.left, view.columns);
      return Math.min(values.length - 1, pane * size + row * view.columns + column);
    };
    canvas.addEventListener("pointermove", (event) => say(cellAt(event)));
    canvas.addEventListener("pointerleave", () => say(pickedIn(view)));
    canvas.addEventListener("click", (event) => pick(view, cellAt(event)));
    paintView(canvas, view, pane, side, pickedIn(view));
    return canvas;
  });
  say(pickedIn(view));
  const kind = view.panes > 2 ? "pictures many" : "pictures";
  return [element("div", { class: kind }, canvases), told, unfolding(view, name, values)];
}

const picks = new Map(); // by array: the entry that the reader picked in it

function pickedIn(view) { // of weights the one that is followed; else what was picked, or the largest
  if (view.kind === "block") return view.selection === here.layer ? here.cell : 0;
  if (picks.has(view.array)) return picks.get(view.array);
  const values = valuesOf(view);
  return values.reduce((best, value, i) => (Math.abs(value) > Math.abs(values[best]) ? i : best), 0);
}

function pick(view, cell) {
  if (view.kind === "block") return go({ layer: view.selection, cell });
  picks.set(view.array, cell);
  return show();
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
  const rows = [], units = view.kind === "block" ? data.selections[view.selection].columns : [];
  const head = units.length ? element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "unit"),
    units.map((unit) => element("th", { scope: "col" }, String(unit))))) : null;
  for (let start = 0; start < values.length; start += view.columns) {
    const cells = values.slice(start, start + view.columns), first = indexOf(view, start);
    const title = units.length ? bracketed([...first.slice(0, -1), ":"]) : `from ${bracketed(first)}`;
    rows.push(element("tr", {}, element("th", { scope: "row" }, title),
      cells.map((value, i) => element("td", { title: bracketed(indexOf(view, start + i)) }, written(value)))));
  }
  return element("div", { class: "wide", role: "region", tabindex: "0", "aria-label": `numbers of ${name}` },
    element("table", {}, element("caption", {}, `${name}: ${extent(view)}`), head, element("tbody", {}, rows)));
}
