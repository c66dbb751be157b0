// What all parts of the page share: its state, the functions that they call of one another, and
// small things about the document.

import { VOID } from "./maps.js";

export const $ = (id) => document.getElementById(id);
export const state = {
  run: null, person: localStorage.getItem("regional-al person") || "",
  image: null, at: 0, chosen: new Set(), review: false, painting: false, next: null, keys: 0, clicks: 0,
  view: "annotate", loading: false, drafts: new Map(), again: null, others: 0, shownAt: 0, undos: 0,
};

// Functions of app.js that other parts call: advance, enter, load, ...
export const page = {};

export function say(text) { $("live").textContent = text; }
export function notice(text) { $("notice").textContent = text; $("notice").hidden = !text; }
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

export const nameOf = (c) => (c === VOID ? "void" : state.run.classes[c]?.name ?? "?");
export const item = () => state.image?.items[state.at] ?? null;
export const multi = () => state.run.answer === "multiclass";
export const late = () => state.image && state.image.round < state.run.round;
export const swatch = (c) => {
  const color = c === VOID ? [112, 112, 112] : state.run.classes[c]?.color ?? [200, 200, 200];
  return element("span", { class: "swatch", style: `background:rgb(${color.join(",")})`, "aria-hidden": "true" });
};
