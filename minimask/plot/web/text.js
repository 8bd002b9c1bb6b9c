"use strict";
/* The page of a recorded training step: forward op by op, backward pullback by pullback, the update.

   The parts of this script, in order: text.js (elements, numbers, arrays), pictures.js (one array as a picture and a
   table), acts.js (the source, and what each step shows), score.js (one score on its way), rail.js (where the reader
   is, the tape, keys, paper). All that they know is in the element "data"; text becomes text, never markup. */

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
const span = (...children) => element("span", {}, ...children);
const code = (text) => element("code", {}, text);
const number = (value) => element("span", { class: "number" }, written(value));

function written(value, digits = 6) { // a number; NaN and infinity come as text
  if (typeof value !== "number" || Number.isNaN(value)) return String(value);
  const size = Math.abs(value);
  const text = value === 0 ? "0" : Number.isInteger(value) && size < 1e9 ? String(value)
    : size < 1e-4 || size >= 1e7 ? value.toExponential(digits - 1) : String(Number(value.toPrecision(digits)));
  return text.replace(/-/g, "\u2212"); // a minus sign as long as the plus
}

const short = (value) => written(value, 3);
const shaped = (shape) => (shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`);
const bracketed = (index) => `[${index.join(", ")}]`;
const grouped = (count) => count.toLocaleString("en");
const product = (numbers) => numbers.reduce((a, b) => a * b, 1);

/* ---- arrays: a view is what the page holds of one --------------------------------------------------------------- */

const READERS = { f4: [4, "getFloat32"], f8: [8, "getFloat64"], i1: [1, "getInt8"], i4: [4, "getInt32"] };
const decoded = new Map();

function bytesOf(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

function valuesOf(view) { // its numbers, row by row
  if (!decoded.has(view.array)) {
    const [kind, text] = data.arrays[view.array], [size, read] = READERS[kind];
    const bytes = new DataView(bytesOf(text).buffer), count = bytes.byteLength / size;
    decoded.set(view.array, Array.from({ length: count }, (_, i) => bytes[read](i * size, true)));
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
  const row = Math.floor(cell / view.columns), column = cell % view.columns;
  if (view.kind === "channels") return [...image, row % view.rows, column, Math.floor(row / view.rows)];
  const chosen = data.selections[view.selection];
  return [...unravelled(chosen.rows[row], view.shape.slice(0, -1)), chosen.columns[column]];
}
