// The annotation page: what is asked, one item after another, and the keys that answer it.

import { Outbox, Refused, call, get, query, send, uuid } from "./api.js";
import { Clock } from "./clock.js";
import { ItemIndex, OPEN, SEVERAL, VOID, grey, greyPng, ids } from "./maps.js";
import { Painter } from "./paint.js";
import { showReview, showSummary } from "./panels.js";
import { View } from "./view.js";

const $ = (id) => document.getElementById(id);
const state = {
  run: null, person: localStorage.getItem("regional-al person") || "",
  image: null, at: 0, chosen: new Set(), review: false, painting: false, next: null, keys: 0, clicks: 0,
  view: "annotate", loading: false,
};
const latency = [];
window.regionalAL = { latency, state };
const clock = new Clock();
const view = new View($("canvas"), { onPick: pick, onPaint: (...a) => painter.event(...a) });
const painter = new Painter(view, { units: loadUnits, onChange: paintButtons });
view.hint = (c, v) => { if (state.painting) painter.hint(c, v); };
const outbox = new Outbox({ onReply: replied, onRefused: refused, onOffline: offline });
Object.assign(window.regionalAL, { // for tests
  waiting: () => outbox.size, painted: () => painter.values,
  paint: (values) => painter.replace(Uint8Array.from(values)),
});

// ---- small things ----------------------------------------------------------------------------

function say(text) { $("live").textContent = text; }
function notice(text) { $("notice").textContent = text; $("notice").hidden = !text; }
function offline(waiting, locked = false) {
  if (waiting && locked) notice(`The server cannot be reached with this address any more: it was started again. Open the address that it has printed in another tab; what is kept here (${waiting}) is then sent. Leave this page open.`);
  else if (waiting) notice(`The server cannot be reached. ${waiting} answer${waiting > 1 ? "s are" : " is"} kept here and sent again; leave this page open.`);
  else if ($("notice").textContent.startsWith("The server cannot")) notice("");
}
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}
const nameOf = (c) => (c === VOID ? "void" : state.run.classes[c]?.name ?? "?");
const item = () => state.image?.items[state.at] ?? null;
const params = (more = {}) => query({ key: state.image.key, round: state.image.round, ...more });
const multi = () => state.run.answer === "multiclass";
const late = () => state.image && state.image.round < state.run.round;
const swatch = (c) => {
  const color = c === VOID ? [112, 112, 112] : state.run.classes[c]?.color ?? [200, 200, 200];
  return element("span", { class: "swatch", style: `background:rgb(${color.join(",")})`, "aria-hidden": "true" });
};

// ---- the run ---------------------------------------------------------------------------------

async function loadRun() {
  state.run = await get("/api/run");
  document.title = `${state.run.title} – annotate`;
  $("title").textContent = state.run.title;
  $("title").title = state.run.work_dir;
  $("round").textContent = `round ${state.run.round} · ${state.run.level} · ${answerKind()}`;
  progress(state.run);
  classList();
}
function answerKind() {
  return { full: "a class for each pixel", dominant: "the main class of each region",
    multiclass: "all classes of each region" }[state.run.answer];
}
function progress({ totals, pace }) {
  if (totals) {
    state.run.totals = totals;
    $("bar").value = totals.items ? totals.items_done / totals.items : 1;
    const parts = [`${totals.items_done} of ${totals.items} items`, `${totals.images_done} of ${totals.images} images`];
    if (totals.items_unsure) parts.push(`${totals.items_unsure} unsure`);
    if (totals.images_skipped) parts.push(`${totals.images_skipped} skipped`);
    $("numbers").textContent = parts.join(" · ");
  }
  if (pace) {
    const left = pace.seconds_left;
    $("pace").textContent = pace.items_per_minute === null ? ""
      : `${pace.items_per_minute} a minute · about ${left < 90 ? `${Math.round(left)} s` : `${Math.round(left / 60)} min`} left`;
  }
}

// ---- images ----------------------------------------------------------------------------------

async function load(place, reviewing = false) {
  const base = query({ key: place.key, round: place.round });
  const blob = async (path) => (await call(path)).blob();
  const [about, picture, asked, answer] = await Promise.all([
    get(`/api/image?${base}&${query({ person: state.person })}`),
    blob(`/img?${base}`).then((data) => createImageBitmap(data, { imageOrientation: "none" })
      .catch(() => createImageBitmap(data))),
    blob(`/map/asked?${base}`).then(ids), blob(`/map/answer?${base}`).then(grey),
  ]);
  const predicted = about.has_prediction ? await blob(`/map/predicted?${base}`).then(grey) : null;
  const image = { ...about, bitmap: picture, asked, answer, predicted, reviewing, index: new ItemIndex(asked) };
  for (const one of image.items) { // a second opinion is given without seeing the first
    if (one.state !== "answered") for (const p of image.index.of(one.i)) if (about.twice) image.answer[p] = OPEN;
  }
  return image;
}

async function advance(after = state.image?.key) {
  if (state.loading) return;
  state.loading = true;
  try {
    let image = await state.next;
    state.next = null;
    if (!image || image.round !== state.run.round) {
      await outbox.settled();
      const place = await get(`/api/next?${query({ person: state.person, ...(after ? { after } : {}) })}`);
      if (place.done) { await nothingLeft(place); return; }
      image = await load(place);
    }
    enter(image);
    prefetch();
  } catch (error) { failed(error); } finally { state.loading = false; }
}

function prefetch() {
  const now = state.image;
  // after what has been answered so far has arrived: else the server gives the last image once more
  state.next = outbox.settled().then(() => get(`/api/next?${query({ person: state.person, after: now.key })}`))
    .then((place) => (place.done || place.key === now.key ? null : load(place))).catch(() => null);
}

function enter(image) {
  endPainting();
  $("panel").hidden = true;
  state.image = image; state.review = image.reviewing; state.chosen.clear();
  view.show(image, state.run.classes.map((one) => one.color));
  const whole = image.items.length && image.items.every((one) => one.pixels > 400);
  const first = image.items.findIndex((one) => one.state === "open");
  const other = image.items.findIndex((one) => one.state === "unsure");
  go(first >= 0 ? first : Math.max(0, other), true);
  if (state.run.answer === "full" && whole && !image.reviewing) startPainting();
}

function go(index, zoom = true) {
  state.at = index; state.chosen.clear(); state.keys = 0; state.clicks = 0;
  const one = item();
  if (multi() && one?.state === "answered") for (const c of one.classes) if (c !== VOID) state.chosen.add(c);
  view.focus(one, zoom && !state.painting);
  clock.start();
  describe();
}

function step(by) {
  if (!state.image?.items.length) return;
  const n = state.image.items.length;
  go((state.at + by + n) % n);
}

function nextOpen() {
  const { items } = state.image, n = items.length;
  for (let k = 1; k <= n; k++) {
    const index = (state.at + k) % n;
    if (items[index].state === "open") { go(index); return true; }
  }
  return false;
}

async function nothingLeft(place) {
  state.image = null; view.image = null; view.path = null; view.draw(); describe();
  await loadRun();
  const { totals, train } = state.run, open = totals.images - totals.images_done;
  const row = element("div", { class: "row" });
  const lines = [];
  if (state.run.state === "training") { training(); return; }
  if (!open) {
    lines.push("All that this round asks is answered.");
    if (!train) lines.push(resumeHint());
  } else if (place.others) {
    lines.push(`Other people are working on the last ${place.others} image${place.others > 1 ? "s" : ""}.`);
    row.append(element("button", { type: "button", class: "primary", onclick: () => advance(null) }, "Look again"));
  } else {
    lines.push(`Nothing is left for you; ${open} image${open > 1 ? "s are" : " is"} not complete`
      + ` (${totals.images_skipped} skipped, ${totals.items_unsure} items unsure).`);
  }
  if (open) row.append(...closeButtons());
  row.append(element("button", { type: "button", onclick: () => tab("summary") }, "Summary"));
  panel(open ? "Nothing left to answer" : "Round complete", lines, row);
  say(lines.join(" "));
}
function resumeHint() {
  return `Resume the run to train on the answers: the command that started it, with --resume. (${state.run.work_dir})`;
}
function closeButtons() {
  const close = (unspent) => async () => {
    if (!window.confirm(`Close the round with the answers that are there? What is not answered returns to the pool; its budget is ${unspent === "keep" ? "added to the next round" : "dropped"}.`)) return;
    try {
      await outbox.settled();
      const reply = await send("POST", "/api/close", { unspent });
      await loadRun();
      if (state.run.train) training();
      else panel("Round closed", [`${reply.message}.`, resumeHint()], "");
    } catch (error) { failed(error); }
  };
  return [
    element("button", { type: "button", onclick: close("keep") }, "Close round, keep the rest of the budget"),
    element("button", { type: "button", onclick: close("drop") }, "Close round, drop it"),
  ];
}

function panel(title, lines, row) {
  $("panel").replaceChildren(element("h2", {}, title), ...lines.map((line) => element("p", {}, line)), row);
  $("panel").hidden = false;
}
function training() {
  endPainting();
  state.image = null; state.next = null; view.image = null; view.path = null; view.draw(); describe();
  panel("The model is training", [state.run.message, "This page goes on by itself as soon as the run asks again."], "");
}

// ---- answers ---------------------------------------------------------------------------------

function request(kind, items, classes = []) {
  const place = state.image;
  return {
    key: place.key, round: place.round, query: place.query, person: state.person, token: uuid(), kind, items,
    classes, ms: clock.take(), keys: state.keys, clicks: state.clicks,
    review: state.review && (late() || items.some((i) => place.items.find((one) => one.i === i)?.person)),
  };
}

function answer(kind, classes = []) {
  const one = item();
  if (!one || state.loading) return;
  const began = performance.now();
  if (kind === "accept" && one.predicted === null) { say("There is no prediction."); return; }
  if (late() && ["unsure", "clear"].includes(kind)) { say("An answer of an earlier round can be changed, not taken back."); return; }
  const data = request(kind, [one.i], classes), place = state.image;
  outbox.push({ place, data, send: () => send("PUT", "/api/answer", data) });
  foresee(one, kind, classes);
  say(kind === "unsure" ? "unsure" : kind === "clear" ? "open again" : one.classes.map(nameOf).join(", "));
  if (state.review) step(1);
  else if (!nextOpen()) { advance(); return; }
  requestAnimationFrame(() => requestAnimationFrame(() => {
    latency.push(performance.now() - began);
    if (latency.length > 2000) latency.shift();
    if (!$("debug").hidden) $("debug").textContent = `key to next item: ${latency.at(-1).toFixed(1)} ms`;
  }));
}

// Show an answer before the server has confirmed it.
function foresee(one, kind, classes) {
  const { answer: map, index, predicted } = state.image, positions = index.of(one.i);
  const open = kind === "unsure" || kind === "clear";
  one.state = open ? (kind === "unsure" ? "unsure" : "open") : "answered";
  one.person = open ? null : state.person;
  one.classes = open ? [] : kind === "void" ? [VOID] : kind === "accept" ? [one.predicted] : [...classes];
  const value = open ? OPEN : one.classes.length > 1 ? SEVERAL : one.classes[0];
  const each = kind === "accept" && state.run.answer === "full" && predicted;
  for (const p of positions) map[p] = each ? predicted[p] : value;
  view.repaint(positions);
}

async function replied(job, reply) {
  progress(reply);
  if (job.place && reply.items) {
    for (const fresh of reply.items) {
      const mine = job.place.items.find((one) => one.i === fresh.i);
      if (mine && !outbox.waiting.some((other) => other.data?.items?.includes(fresh.i) && other.place === job.place)) Object.assign(mine, fresh);
    }
    if (job.place === state.image) describe();
  }
}
async function refused(job, error) {
  notice(`Not stored: ${error.message}`);
  say(error.message);
  if (error.status === 401) return;
  try {
    await loadRun();
    if (job.place && job.place === state.image) {
      if (error.status === 409 && !state.review) { state.next = null; await advance(); }
      else enter(await load(job.place, state.review));
    }
  } catch (problem) { failed(problem); }
}
function failed(error) {
  notice(error instanceof Refused ? error.message : `The server cannot be reached: ${error.message}`);
}

async function undo() {
  if (state.painting && painter.back()) return;
  await outbox.settled();
  try {
    const reply = await send("POST", "/api/undo", { person: state.person, round: state.run.round, query: state.run.query });
    if (reply.nothing) { say("Nothing to undo"); return; }
    progress(reply);
    const painted = state.painting;
    enter(await load(reply));
    if (!painted) endPainting();
    const index = state.image.items.findIndex((one) => one.i === reply.items[0]?.i);
    if (index >= 0) go(index);
    prefetch();
    say(`Undone: ${reply.kind}`);
  } catch (error) { failed(error); }
}

async function skip() {
  if (!state.image || late()) return;
  const data = { ...request("skip", []), skip: true }, place = state.image;
  outbox.push({ place, data, send: () => send("POST", "/api/skip", data) });
  say("Image skipped");
  await outbox.settled();
  advance(place.key);
}

function choose(index) {
  if (state.painting) { painter.value = index; if (painter.tool === "erase") painter.tool = "brush"; paintButtons(); return; }
  if (!item()) return;
  if (multi()) {
    if (state.chosen.has(index)) state.chosen.delete(index); else state.chosen.add(index);
    describe();
    return;
  }
  answer("class", [index]);
}
function confirm() {
  if (state.painting) { if (painter.tool === "polygon" && painter.corners.length) painter.close(); else sendPaint(); return; }
  if (multi() && state.chosen.size) answer("classes", [...state.chosen].sort((a, b) => a - b));
}

function pick(at) {
  const i = state.image?.asked[at.position];
  state.clicks++;
  if (!i) return;
  const index = state.image.items.findIndex((one) => one.i === i);
  if (index >= 0) go(index, false);
}

// ---- painting --------------------------------------------------------------------------------

function startPainting() {
  if (!state.image || state.run.answer !== "full") { say("Painting is for answers with a class for each pixel."); return; }
  state.painting = view.painting = true;
  painter.begin(state.image.answer);
  view.fit();
  paintButtons(); describe();
}
function endPainting() {
  if (!state.painting) return;
  state.painting = view.painting = false;
  painter.end();
  if (state.image) view.repaint();
  paintButtons(); describe();
}
function toggleMode() { if (state.painting) { endPainting(); view.focus(item()); } else startPainting(); }
async function sendPaint() {
  if (!painter.dirty) { say("Nothing is painted"); return; }
  const place = state.image, values = painter.values.slice();
  state.clicks += painter.strokes;
  const data = request("paint", []);
  data.review = state.review;
  const { width, height } = place;
  const body = await greyPng(values, width, height);
  const more = { key: data.key, round: data.round, query: data.query, person: data.person, token: data.token, ms: data.ms, keys: data.keys, clicks: data.clicks, review: data.review ? 1 : 0 };
  outbox.push({ place, data, send: async () => (await call(`/api/paint?${query(more)}`, { method: "PUT", headers: { "Content-Type": "image/png" }, body })).json() });
  place.answer.set(values);
  for (const one of place.items) {
    const open = place.index.of(one.i).some((p) => values[p] === OPEN);
    if (!open) one.state = "answered"; else if (one.state === "answered") one.state = "open";
  }
  painter.begin(place.answer);
  state.keys = 0; state.clicks = 0;
  say("Sent");
  if (!state.review && place.items.every((one) => one.state === "answered")) advance();
  else describe();
}
function paintButtons() {
  $("toolbar").hidden = !state.painting;
  for (const button of $("toolbar").querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-pressed", String(state.painting && painter.tool === button.dataset.tool));
  }
  $("from-prediction").disabled = !state.image?.predicted;
  $("send-paint").disabled = !painter.dirty;
  for (const button of $("classes").querySelectorAll("[data-class]")) {
    button.classList.toggle("on", state.painting && Number(button.dataset.class) === painter.value);
  }
}
async function loadUnits() {
  const image = state.image;
  if (!image.units) {
    try { image.units = await ids(await (await call(`/map/units?${params()}`)).blob()); }
    catch (error) { failed(error); return null; }
  }
  return image.units;
}

// ---- the side panel --------------------------------------------------------------------------

function classList() {
  const box = $("classes");
  box.replaceChildren(...state.run.classes.map((one) => element("div", { class: "class" },
    element("button", { type: "button", "data-class": one.index, onclick: () => { state.clicks++; choose(one.index); $("canvas").focus(); } },
      swatch(one.index), element("span", { class: "name", title: one.name }, one.name), one.key ? element("kbd", {}, one.key.toUpperCase()) : ""),
    element("button", { type: "button", "aria-label": `Examples of ${one.name}`, title: "Examples", onclick: () => examples(one.index) }, "?"))));
  filter();
}
function filter() {
  const text = $("filter").value.trim().toLowerCase();
  let first = null;
  for (const row of $("classes").children) {
    const name = row.querySelector(".name").textContent.toLowerCase();
    row.hidden = !name.includes(text);
    if (!row.hidden && !first) first = row.querySelector("[data-class]");
  }
  return first;
}

function describe() {
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
    const on = state.painting ? index === painter.value : multi() ? state.chosen.has(index) : one?.state === "answered" && one.classes.includes(index);
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

// ---- dialogs ---------------------------------------------------------------------------------

function dialog(title, ...children) {
  const close = element("button", { type: "button", class: "primary", onclick: () => $("dialog").close() }, "Close");
  $("dialog").replaceChildren(element("h2", { id: "dialog-title" }, title), ...children, element("div", { class: "row" }, close));
  $("dialog").showModal();
}
async function examples(index) {
  try {
    const { examples: found } = await get(`/api/examples?class=${index}`);
    const pictures = found.map((one) => element("img", { src: one.src, alt: `${nameOf(index)} in ${one.key}`, loading: "lazy" }));
    dialog(`Examples of ${nameOf(index)}`, found.length ? element("div", { class: "examples" }, ...pictures)
      : element("p", {}, "Nothing has been labelled as this class yet."));
  } catch (error) { failed(error); }
}
const KEYS = [
  ["1 2 3 …", "the class with this key"], ["Space", "accept the prediction"], ["V", "void: no class"],
  ["U", "unsure: stays open, asked again at the end"], ["S", "skip this image"], ["Z", "undo"],
  ["C", "open again (clear the answer)"], ["/", "find a class by its name, then Enter"],
  ["Enter", "several classes: confirm; painting: close the polygon, or send"],
  ["← →  J K", "previous and next item"], ["N", "next image"], ["+ − Home", "zoom; whole image"],
  ["P", "painting on or off"], ["B G F X E", "brush, polygon, fill, superpixel, eraser"], ["[ ]", "size of the brush"],
  ["R", "painting: start from the prediction"], ["O", "opacity of the answers"], ["T", "light or dark"], ["H ?", "this help"],
];
function help() {
  dialog("Keys", element("dl", { class: "keys" }, ...KEYS.flatMap(([key, what]) => [element("dt", {}, element("kbd", {}, key)), element("dd", {}, what)])));
}
function askName() {
  return new Promise((done) => {
    const input = element("input", { type: "text", maxlength: 64, required: true, "aria-label": "Your name", value: state.person });
    const form = element("form", { method: "dialog" }, element("p", {}, "Answers are kept with the name of who has given them."), input,
      element("div", { class: "row" }, element("button", { class: "primary" }, "Start")));
    form.addEventListener("submit", (event) => {
      const name = input.value.trim();
      if (!name) { event.preventDefault(); return; }
      state.person = name;
      localStorage.setItem("regional-al person", name);
      $("person").textContent = name;
    });
    $("dialog").replaceChildren(element("h2", { id: "dialog-title" }, "Who is annotating?"), form);
    $("dialog").addEventListener("close", () => (state.person ? done() : askName().then(done)), { once: true });
    $("dialog").showModal();
    input.select();
  });
}

// ---- views, keys, start ----------------------------------------------------------------------

async function tab(name) {
  state.view = name;
  for (const one of ["annotate", "review", "summary"]) $(`tab-${one}`).setAttribute("aria-pressed", String(one === name));
  document.querySelector("main").hidden = name !== "annotate";
  $("review").hidden = name !== "review";
  $("summary").hidden = name !== "summary";
  try {
    await outbox.settled();
    if (name === "review") await showReview($("review"), { get, element, nameOf, swatch, run: state.run, open: reviewImage });
    if (name === "summary") await showSummary($("summary"), { get, element, nameOf, swatch, run: state.run, open: reviewImage });
    if (name === "annotate" && state.review) { state.next = null; await advance(null); }
    else if (name === "annotate") view.draw();
  } catch (error) { failed(error); }
}
async function reviewImage(place, i = null) {
  try {
    const image = await load(place, true);
    state.view = "annotate";
    for (const one of ["annotate", "review", "summary"]) $(`tab-${one}`).setAttribute("aria-pressed", String(one === "review"));
    document.querySelector("main").hidden = false; $("review").hidden = true; $("summary").hidden = true;
    view.resize();
    enter(image);
    const index = image.items.findIndex((one) => one.i === i);
    if (index >= 0) go(index);
  } catch (error) { failed(error); }
}
function theme() {
  const dark = document.documentElement.dataset.theme === "dark"
    || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("regional-al theme", document.documentElement.dataset.theme);
}
function opacity(value) { view.opacity = value / 100; view.repaint(null, state.painting ? painter.values : null); view.draw(); }
function tool(name) { if (!state.painting) startPainting(); if (state.painting) { painter.tool = name; painter.corners = []; paintButtons(); view.draw(); } }
function resize(by) { painter.size = Math.max(1, Math.min(60, painter.size + by)); $("size").value = painter.size; }

const COMMANDS = {
  " ": () => !state.painting && answer("accept"), v: () => (state.painting ? choose(VOID) : answer("void")),
  u: () => !state.painting && answer("unsure"), c: () => !state.painting && item() && answer("clear"),
  s: skip, z: undo, p: toggleMode, n: () => { state.next = null; advance(); },
  arrowright: () => step(1), arrowleft: () => step(-1), j: () => step(-1), k: () => step(1),
  "+": () => view.zoomAt(view.width / 2, view.height / 2, 1.4), "=": () => view.zoomAt(view.width / 2, view.height / 2, 1.4),
  "-": () => view.zoomAt(view.width / 2, view.height / 2, 1 / 1.4), home: () => view.fit(),
  arrowup: () => view.pan(0, 60), arrowdown: () => view.pan(0, -60),
  b: () => tool("brush"), g: () => tool("polygon"), f: () => tool("fill"), x: () => tool("superpixel"), e: () => tool("erase"),
  "[": () => resize(-2), "]": () => resize(2), r: () => state.painting && state.image.predicted && painter.replace(state.image.predicted),
  o: () => { const now = (Number($("opacity").value) + 25) % 125; $("opacity").value = now; opacity(now); },
  t: theme, h: help, "?": help, enter: confirm,
  escape: () => { if (painter.corners.length) { painter.corners = []; view.draw(); } else if (state.painting) toggleMode(); },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("dialog").open) return;
  const key = event.key.toLowerCase(), typing = event.target === $("filter");
  if (typing) {
    if (key === "enter") {
      const first = filter();
      $("filter").value = ""; filter(); $("filter").blur(); $("canvas").focus();
      if (first) { state.keys++; choose(Number(first.dataset.class)); }
      event.preventDefault();
    } else if (key === "escape") { $("filter").value = ""; filter(); $("canvas").focus(); }
    return;
  }
  if (state.view !== "annotate" || event.target.matches("input:not([type=range]), select, textarea")) return;
  if (event.target.matches("input") && (key.startsWith("arrow") || key === "home")) return;
  if (event.target.matches("button") && (key === " " || key === "enter") && event.target.closest("header, #panel, .class, .choices, #zoom, #toolbar")) return;
  if (key === "/") { $("filter").focus(); event.preventDefault(); return; }
  state.keys++;
  const named = state.run?.classes.find((one) => one.key === key);
  const command = named ? () => choose(named.index) : COMMANDS[key];
  if (!command) return;
  event.preventDefault();
  command();
});

function wire() {
  const clicks = {
    accept: () => answer("accept"), void: () => (state.painting ? choose(VOID) : answer("void")), unsure: () => answer("unsure"), skip, undo,
    mode: toggleMode, confirm, help, theme, "zoom-in": COMMANDS["+"], "zoom-out": COMMANDS["-"], "zoom-fit": () => view.fit(),
    "from-prediction": COMMANDS.r, "send-paint": sendPaint, person: () => askName().then(() => { state.next = null; return advance(null); }),
    "tab-annotate": () => tab("annotate"), "tab-review": () => tab("review"), "tab-summary": () => tab("summary"),
  };
  for (const [id, work] of Object.entries(clicks)) $(id).addEventListener("click", () => { state.clicks++; work(); });
  for (const button of $("toolbar").querySelectorAll("[data-tool]")) button.addEventListener("click", () => tool(button.dataset.tool));
  $("filter").addEventListener("input", filter);
  $("size").addEventListener("input", () => { painter.size = Number($("size").value); });
  $("opacity").addEventListener("input", () => opacity(Number($("opacity").value)));
  window.addEventListener("beforeunload", (event) => { if (outbox.size) event.preventDefault(); });
  const events = new EventSource("/events");
  events.addEventListener("totals", (event) => { if (state.run) progress(JSON.parse(event.data)); });
  events.addEventListener("state", async (event) => {
    if (!state.run) return;
    const before = { ...state.run }, now = JSON.parse(event.data);
    Object.assign(state.run, { state: now.state, message: now.message });
    if (now.state === "training") { if (!state.review || before.state !== "training") training(); return; }
    if (now.query !== before.query || (before.state === "training" && now.state === "waiting")) {
      await loadRun(); state.next = null; say(`Round ${state.run.round} begins`); await advance(null);
    } else if (now.state === "failed") { panel("The training has failed", [now.message, "See annotate_train.log in the work dir, and resume the run yourself."], ""); }
    else if (now.state === "finished") { await loadRun(); state.image = null; view.image = null; view.draw(); panel("The run is finished", [now.message], ""); }
  });
}

async function start() {
  const stored = localStorage.getItem("regional-al theme");
  if (stored) document.documentElement.dataset.theme = stored;
  $("debug").hidden = !new URLSearchParams(location.search).has("debug");
  try { await loadRun(); } catch (error) { failed(error); return; }
  wire();
  if (!state.person) await askName();
  $("person").textContent = state.person;
  $("canvas").focus();
  if (state.run.state === "training") training();
  else if (state.run.state === "finished") panel("The run is finished", [state.run.message], "");
  else await advance(null);
}
start();
