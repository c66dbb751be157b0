// What the page shows instead of an image: nothing is left, the model is training, an image is gone.

import { send, uuid } from "./api.js";
import { $, element, page, say, state } from "./page.js";

export async function nothingLeft(place) {
  page.leaveImage();
  await page.loadRun();
  const { totals, train } = state.run, open = totals.images - totals.images_done;
  const row = element("div", { class: "row" });
  const lines = [];
  if (state.run.state === "training") { training(); return; }
  state.others = place.others;
  if (!open) {
    lines.push("All that this round asks is answered.");
    if (!train) lines.push(resumeHint());
  } else if (place.others) {
    lines.push(`Other people are working on the last ${place.others} image${place.others > 1 ? "s" : ""}. This page goes on by itself when one is free.`);
    row.append(element("button", { type: "button", class: "primary", onclick: () => page.advance(null) }, "Look again"));
  } else {
    lines.push(`Nothing is left for you; ${open} image${open > 1 ? "s are" : " is"} not complete`
      + ` (${totals.images_skipped} skipped, ${totals.items_unsure} items unsure).`);
  }
  if (open) row.append(...closeButtons());
  row.append(element("button", { type: "button", onclick: () => page.tab("summary") }, "Summary"));
  panel(open ? "Nothing left to answer" : "Round complete", lines, row);
  say(lines.join(" "));
}
// Every image has been seen: those with unsure items are shown once more, as often as a person likes.
export function onlyUnsure(image) {
  page.leaveImage();
  const { items_unsure: n } = state.run.totals;
  const again = element("button", { type: "button", class: "primary", onclick: () => { state.again = new Set([image.key]); page.enter(image); page.prefetch(); $("canvas").focus(); } }, "Look at them again");
  panel("Only unsure items are left", [`${n} item${n === 1 ? " is" : "s are"} open because somebody was unsure.`], element("div", { class: "row" }, again, ...closeButtons()));
  again.focus();
  say("Only unsure items are left");
}
export function cannotShow(place, error) {
  page.leaveImage();
  const button = (text, work) => element("button", { type: "button", onclick: work }, text);
  const skipIt = async () => {
    try {
      await page.reachable(() => send("POST", "/api/skip", { ...page.holder.about(place), query: place.query, token: uuid(), skip: true }));
      page.advance(place.key);
    } catch (problem) { page.failed(problem); }
  };
  panel(`${place.key} cannot be shown`, [error.message], element("div", { class: "row" },
    button("Try again", () => page.advance(null)), button("Next image", () => page.advance(place.key)), button("Skip this image", skipIt)));
  say(`${place.key} cannot be shown`);
}
// While other people work on the last images: one may become free.
export async function lookAgain() {
  if (!state.others || state.loading || state.view !== "annotate") return;
  try {
    const place = await page.nextPlace(null);
    if (state.others && (!place.done || place.others !== state.others)) page.advance(null);
  } catch { /* it is tried again */ }
}
function resumeHint() {
  return `Resume the run to train on the answers: the command that started it, with --resume. (${state.run.work_dir})`;
}
function closeButtons() {
  const close = (unspent) => async () => {
    if (!window.confirm(`Close the round with the answers that are there? What is not answered returns to the pool; its budget is ${unspent === "keep" ? "added to the next round" : "dropped"}.`)) return;
    try {
      await page.outbox.settled();
      const reply = await send("POST", "/api/close", { unspent });
      await page.loadRun();
      if (state.run.train) training();
      else panel("Round closed", [`${reply.message}.`, resumeHint()], "");
    } catch (error) { page.failed(error); }
  };
  return [
    element("button", { type: "button", onclick: close("keep") }, "Close round, keep the rest of the budget"),
    element("button", { type: "button", onclick: close("drop") }, "Close round, drop it"),
  ];
}
export function panel(title, lines, row) {
  $("panel").replaceChildren(element("h2", {}, title), ...lines.map((line) => element("p", {}, line)), row);
  $("panel").hidden = false;
}
export function training() {
  page.leaveImage();
  state.next = null; state.others = 0; state.again = null;
  panel("The model is training", [state.run.message, "This page goes on by itself as soon as the run asks again."], "");
}
