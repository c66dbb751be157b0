// The side panel: the classes, and the item that is asked.

import { examples } from "./dialogs.js";
import { $, element, item, late, multi, nameOf, page, state, swatch } from "./page.js";

export function classList() {
  const box = $("classes");
  box.replaceChildren(...state.run.classes.filter((one) => one.offered).map((one) => element("div", { class: "class" },
    element("button", { type: "button", "data-class": one.index, onclick: (event) => { if (!multi() && page.doubled(event)) return; state.clicks++; page.choose(one.index); $("canvas").focus(); } },
      swatch(one.index), element("span", { class: "name", title: one.name }, one.name), one.key ? element("kbd", {}, one.key.toUpperCase()) : ""),
    element("button", { type: "button", "aria-label": `Examples of ${one.name}`, title: "Examples", onclick: () => examples(one.index) }, "?"))));
  filter();
}
export function filter() {
  const text = $("filter").value.trim().toLowerCase();
  let first = null;
  for (const row of $("classes").children) {
    const name = row.querySelector(".name").textContent.toLowerCase();
    row.hidden = !name.includes(text);
    if (!row.hidden && !first) first = row.querySelector("[data-class]");
  }
  return first;
}

export function describe() {
  const one = item(), box = $("item"), image = state.image;
  for (const id of ["accept", "void", "unsure", "skip"]) $(id).disabled = !one;
  $("accept").disabled = !one || one.predicted === null || state.painting;
  $("unsure").disabled = !one || late() || state.painting;
  $("skip").disabled = !image || late();
  $("void").disabled = !one;
  $("mode").disabled = !image || state.run?.answer !== "full";
  $("mode").firstChild.textContent = state.painting ? "Keys " : "Paint ";
  $("confirm").hidden = !(multi() && one);
  $("confirm").disabled = !state.chosen.size;
  for (const button of $("classes").querySelectorAll("[data-class]")) {
    const index = Number(button.dataset.class);
    const on = state.painting ? index === page.painter.value : multi() ? state.chosen.has(index) : one?.state === "answered" && one.classes.includes(index);
    button.classList.toggle("on", Boolean(on));
    if (multi()) button.setAttribute("aria-pressed", String(Boolean(on)));
  }
  if (!one) { box.replaceChildren(); return; }
  const size = `${one.pixels} pixel${one.pixels > 1 ? "s" : ""}`;
  const rows = [element("div", {}, element("b", {}, `Item ${state.at + 1} of ${image.items.length}`), ` · ${size}`),
    element("div", { class: "soft" }, `${image.key}${late() ? ` · round ${image.round}` : ""}`)];
  if (one.predicted !== null) rows.push(element("div", {}, "Prediction: ", swatch(one.predicted), ` ${nameOf(one.predicted)}`));
  if (one.state === "answered") rows.push(element("div", {}, "Answer: ", ...one.classes.flatMap((c) => [swatch(c), ` ${nameOf(c)} `]), one.person ? element("span", { class: "soft" }, `(${one.person})`) : ""));
  if (one.state === "unsure") rows.push(element("div", {}, "Unsure: open, asked again at the end"));
  for (const other of one.opinions || []) rows.push(element("div", { class: "soft" }, `${other.person}: ${other.classes.map(nameOf).join(", ")}`));
  box.replaceChildren(...rows);
  $("canvas").setAttribute("aria-label", `${image.key}, item ${state.at + 1} of ${image.items.length}, ${size}`
    + (one.predicted === null ? "" : `, prediction ${nameOf(one.predicted)}`));
}
