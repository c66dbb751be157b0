// The annotation page: what is asked, one item after another, and the keys that answer it.

import { Outbox, Unreachable, call, get, patiently, query, send, uuid } from "./api.js";
import { Clock } from "./clock.js";
import { askName, checkedName, help } from "./dialogs.js";
import { cannotShow, lookAgain, nothingLeft, onlyUnsure, panel, training } from "./ends.js";
import { ignored, keyOf } from "./keys.js";
import { Holder } from "./leases.js";
import { ItemIndex, OPEN, SEVERAL, VOID, grey, greyPng, ids } from "./maps.js";
import { $, element, item, late, multi, nameOf, notice, page, say, state, swatch } from "./page.js";
import { Painter } from "./paint.js";
import { showReview, showSummary } from "./panels.js";
import { classList, describe, filter } from "./side.js";
import { View } from "./view.js";

const latency = [];
window.regionalAL = { latency, state };
const clock = new Clock();
const view = new View($("canvas"), { onPick: pick, onPaint: (...a) => painter.event(...a) });
const painter = new Painter(view, { units: loadUnits, onChange: paintButtons });
view.hint = (c, v) => { if (state.painting) painter.hint(c, v); };
const outbox = new Outbox({ onReply: replied, onRefused: refused, onOffline: offline });
const holder = new Holder({
  person: () => state.person, active: () => clock.active,
  place: () => (state.image && !state.review ? state.image : null),
  onLost: (error) => { notice(error.message); state.next = null; advance(); },
});
Object.assign(window.regionalAL, { // for tests
  waiting: () => outbox.size, painted: () => painter.values,
  paint: (values) => painter.replace(Uint8Array.from(values)),
});

// ---- small things ----------------------------------------------------------------------------

function offline(error) {
  const waiting = outbox.size, kept = waiting
    ? `${waiting} answer${waiting > 1 ? "s are" : " is"} kept here and sent again; leave this page open.` : "This page tries again by itself.";
  if (!error) { if ($("notice").textContent.startsWith("The server ")) notice(""); }
  else if (error instanceof Unreachable) notice(`The server cannot be reached. ${kept}`);
  else if (error.status === 401) notice(`The server was started again: open the address that it has printed in another tab. ${kept}`);
  else notice(`The server cannot do this now: ${error.message}. ${kept}`);
}
const reachable = (work) => patiently(work, offline, () => offline(null));
const params = (more = {}) => query({ key: state.image.key, round: state.image.round, ...more });

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
  const image = { ...about, why: place.why, bitmap: picture, asked, answer, predicted, reviewing, index: new ItemIndex(asked) };
  for (const one of image.items) { // a second opinion is given without seeing the first
    if (one.state !== "answered") for (const p of image.index.of(one.i)) if (about.twice) image.answer[p] = OPEN;
  }
  return image;
}

// Whether an image that was loaded in advance may be shown: asked for while the last item before is.
const sure = (image) => (image.sure ??= holder.confirm(image));
const nextPlace = (after, more = {}) => get(`/api/next?${query({ person: state.person, tab: holder.tab, ...(after ? { after } : {}), ...more })}`);

async function advance(after = state.image?.key) {
  if (state.loading) return;
  state.loading = true;
  state.others = 0;
  let place = null;
  try {
    let image = await state.next;
    state.next = null;
    state.ahead = null;
    if (image && (image.round !== state.run.round || !await sure(image))) image = null;
    if (!image) {
      await outbox.settled();
      place = await reachable(() => nextPlace(after));
      if (place.done) { await nothingLeft(place); return; }
      image = await reachable(() => load(place));
    }
    if (image.why === "unsure" && !state.again?.has(image.key) && state.again) state.again.add(image.key);
    else if (image.why === "unsure") { onlyUnsure(image); return; }
    else state.again = null;
    enter(image);
    prefetch();
  } catch (error) { if (place?.key) cannotShow(place, error); else failed(error); } finally { state.loading = false; }
}

function prefetch() {
  const now = state.image;
  // after what has been answered so far has arrived: else the server gives the last image once more
  state.next = outbox.settled().then(() => nextPlace(now.key, { reserve: 1 }))
    .then((place) => {
      if (place.done || place.key === now.key) return null;
      state.ahead = place;
      return load(place);
    }).then((image) => {
      const { items } = now;
      if (image && now === state.image && items.filter((one) => one.state === "open").length <= 1) sure(image);
      return image;
    }).catch(() => null);
}

function leaveImage() {
  endPainting();
  if (state.image) { const { bitmap } = state.image; requestAnimationFrame(() => bitmap.close()); }
  state.image = null; view.image = null; view.path = null; view.draw(); describe();
}

function enter(image) {
  if (state.image !== image) leaveImage();
  $("panel").hidden = true;
  state.image = image; state.review = image.reviewing; state.chosen.clear();
  view.show(image, state.run.classes.map((one) => one.color));
  const whole = image.items.length && image.items.every((one) => one.pixels > 400);
  const first = image.items.findIndex((one) => one.state === "open");
  const other = image.items.findIndex((one) => one.state === "unsure");
  go(first >= 0 ? first : Math.max(0, other), true);
  const begun = state.drafts.has(draftOf(image));
  if (state.run.answer === "full" && (begun || (whole && !image.reviewing))) startPainting();
}

function go(index, zoom = true) {
  state.at = index; state.chosen.clear(); state.keys = 0; state.clicks = 0;
  const one = item();
  if (multi() && one?.state === "answered") for (const c of one.classes) if (c !== VOID) state.chosen.add(c);
  view.focus(one, zoom && !state.painting);
  clock.start();
  state.shownAt = performance.now();
  const last = state.image?.items.every((one, k) => k === index || one.state !== "open");
  if (last && !state.review) state.next?.then((image) => image && image.round === state.run.round && sure(image));
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
  if (state.image.why !== "unsure") return false;
  const index = items.findIndex((one, k) => k > state.at && one.state === "unsure");
  if (index >= 0) go(index);
  return index >= 0;
}

// ---- answers ---------------------------------------------------------------------------------

function request(kind, items, classes = []) {
  const place = state.image;
  return {
    key: place.key, round: place.round, query: place.query, person: state.person, tab: holder.tab, token: uuid(), kind,
    items, classes, ms: clock.take(), keys: state.keys, clicks: state.clicks,
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
  else if (!nextOpen()) { advance().then(() => took(began)); return; }
  took(began);
}
// Note how long the next item has taken, until it is drawn.
function took(began) {
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
  notice(`Not stored: ${error.message}${job.values ? ". What you have painted is kept: open the image under Review" : ""}`);
  say(error.message);
  try {
    await loadRun();
    if (job.values) state.drafts.set(draftOf(job.place), job.values);
    if (job.place && job.place === state.image) {
      if (error.status === 409 && !state.review) { state.next = null; await advance(); }
      else enter(await load(job.place, state.review));
    }
  } catch (problem) { failed(problem); }
}
function failed(error) {
  if (error instanceof Unreachable) offline(error); else notice(error.message);
}

async function undo() {
  if (state.painting && painter.back()) return;
  if (state.loading && !state.undos) return;
  state.undos++;
  if (state.undos > 1) return; // it is done after the one under way
  try {
    await outbox.settled();
    for (; state.undos > 0 && !state.loading; state.undos--) {
      state.loading = true;
      if (!await undoOne()) break;
      state.loading = false;
    }
  } catch (error) { failed(error); } finally { state.loading = false; state.undos = 0; }
}
async function undoOne() {
  const reply = await reachable(() => send("POST", "/api/undo", { person: state.person, round: state.run.round, query: state.run.query, tab: holder.tab }));
  if (reply.nothing) { say("Nothing to undo"); return false; }
  progress(reply);
  const painted = state.painting;
  state.again = null;
  enter(await reachable(() => load(reply)));
  if (!painted) endPainting();
  const index = state.image.items.findIndex((one) => one.i === reply.items[0]?.i);
  if (index >= 0) go(index);
  prefetch();
  say(`Undone: ${reply.kind}`);
  return true;
}

function skip() {
  if (!state.image || late() || state.loading) return;
  const data = { ...request("skip", []), skip: true }, place = state.image;
  outbox.push({ place, data, send: () => send("POST", "/api/skip", data) });
  say("Image skipped");
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
  const draft = state.drafts.get(draftOf(state.image));
  if (draft) { painter.replace(draft); state.drafts.delete(draftOf(state.image)); }
  view.fit();
  paintButtons(); describe();
}
const draftOf = (image) => `${image.round} ${image.key}`;
function endPainting() { // what has not been sent is kept, for when the image is painted again
  if (!state.painting) return;
  if (painter.dirty && state.image) state.drafts.set(draftOf(state.image), painter.values);
  state.painting = view.painting = false;
  painter.end();
  if (state.image) view.repaint();
  paintButtons(); describe();
}
function toggleMode() { if (state.painting) { endPainting(); view.focus(item()); } else startPainting(); }
async function sendPaint() {
  if (!painter.dirty || state.loading) { say("Nothing is painted"); return; }
  const place = state.image, values = painter.values.slice();
  state.loading = true;
  try { await pushPaint(place, values); } finally { state.loading = false; }
  if (!state.review && place.items.every((one) => one.state === "answered")) advance();
  else describe();
}
async function pushPaint(place, values) {
  state.clicks += painter.strokes;
  const data = request("paint", []);
  data.review = state.review;
  const { width, height } = place;
  const body = await greyPng(values, width, height);
  const more = { key: data.key, round: data.round, query: data.query, person: data.person, token: data.token, ms: data.ms, keys: data.keys, clicks: data.clicks, review: data.review ? 1 : 0, tab: data.tab };
  outbox.push({ place, data, values, send: async () => (await call(`/api/paint?${query(more)}`, { method: "PUT", headers: { "Content-Type": "image/png" }, body })).json() });
  place.answer.set(values);
  for (const one of place.items) {
    const open = place.index.of(one.i).some((p) => values[p] === OPEN);
    if (!open) one.state = "answered"; else if (one.state === "answered") one.state = "open";
  }
  painter.begin(place.answer);
  state.keys = 0; state.clicks = 0;
  say("Sent");
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
  const key = keyOf(event), typing = event.target === $("filter");
  if (typing) {
    if (key === "enter") {
      const first = filter();
      $("filter").value = ""; filter(); $("filter").blur(); $("canvas").focus();
      if (first && !event.repeat) { state.keys++; choose(Number(first.dataset.class)); }
      event.preventDefault();
    } else if (key === "escape") { $("filter").value = ""; filter(); $("canvas").focus(); }
    return;
  }
  if (state.view !== "annotate" || event.target.matches("input:not([type=range]), select, textarea")) return;
  if (event.target.matches("input") && (key.startsWith("arrow") || key === "home")) return;
  if (event.target.matches("button") && (key === " " || key === "enter") && event.target.closest("header, #panel, .class, .choices, #zoom, #toolbar")) return;
  if (key === "/") { $("filter").focus(); event.preventDefault(); return; }
  if (!event.repeat) state.keys++;
  const named = state.run?.classes.find((one) => one.key === key);
  const command = named ? () => choose(named.index) : COMMANDS[key];
  if (!command) return;
  event.preventDefault();
  if (!ignored(event, key)) command();
});

// The second half of a double click, on a button that has moved on to an item that nobody has seen.
const doubled = (event) => event.detail > 1 && performance.now() - state.shownAt < 400;
const ANSWERS = new Set(["accept", "void", "unsure", "skip", "undo", "confirm", "send-paint", "mode"]);

function wire() {
  const clicks = {
    accept: () => answer("accept"), void: () => (state.painting ? choose(VOID) : answer("void")), unsure: () => answer("unsure"), skip, undo,
    mode: toggleMode, confirm, help, theme, "zoom-in": COMMANDS["+"], "zoom-out": COMMANDS["-"], "zoom-fit": () => view.fit(),
    "from-prediction": COMMANDS.r, "send-paint": sendPaint, person: () => askName().then(() => { leaveImage(); state.next = null; return advance(null); }),
    "tab-annotate": () => tab("annotate"), "tab-review": () => tab("review"), "tab-summary": () => tab("summary"),
  };
  for (const [id, work] of Object.entries(clicks)) {
    $(id).addEventListener("click", (event) => {
      if (ANSWERS.has(id) && doubled(event)) return;
      state.clicks++;
      if (event.detail && ANSWERS.has(id)) $("canvas").focus(); // else Space would press the button again
      work();
    });
  }
  for (const button of $("toolbar").querySelectorAll("[data-tool]")) button.addEventListener("click", () => tool(button.dataset.tool));
  $("filter").addEventListener("input", filter);
  $("size").addEventListener("input", () => { painter.size = Number($("size").value); });
  $("opacity").addEventListener("input", () => opacity(Number($("opacity").value)));
  window.addEventListener("beforeunload", (event) => { if (outbox.size || state.drafts.size || (state.painting && painter.dirty)) event.preventDefault(); });
  window.addEventListener("pagehide", () => { holder.release([state.image, state.ahead]); });
  window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  holder.begin(state.run.lease);
  setInterval(lookAgain, 3000);
  follow();
}

// What the server tells. The browser connects again by itself unless it is refused, as it is after the
// server was started again: then here.
function follow() {
  const events = new EventSource("/events");
  events.addEventListener("error", () => { if (events.readyState === EventSource.CLOSED) setTimeout(follow, 3000); });
  events.addEventListener("totals", (event) => { if (state.run) progress(JSON.parse(event.data)); });
  events.addEventListener("state", async (event) => {
    if (!state.run) return;
    const before = { ...state.run }, now = JSON.parse(event.data);
    Object.assign(state.run, { state: now.state, message: now.message });
    if (now.state === "training") { if (!state.review || before.state !== "training") training(); return; }
    if (now.query !== before.query || (before.state === "training" && now.state === "waiting")) {
      await loadRun(); state.next = null; say(`Round ${state.run.round} begins`); await advance(null);
    } else if (now.state === "failed") { panel("The training has failed", [now.message, "See annotate_train.log in the work dir, and resume the run yourself."], ""); }
    else if (now.state === "finished") { await loadRun(); leaveImage(); panel("The run is finished", [now.message], ""); }
  });
}

async function start() {
  const stored = localStorage.getItem("regional-al theme");
  if (stored) document.documentElement.dataset.theme = stored;
  $("debug").hidden = !new URLSearchParams(location.search).has("debug");
  try { await loadRun(); } catch (error) { failed(error); return; }
  wire();
  try { if (state.person) state.person = await checkedName(state.person); } catch { state.person = ""; }
  if (!state.person) await askName();
  $("person").textContent = state.person;
  $("canvas").focus();
  if (state.run.state === "training") training();
  else if (state.run.state === "finished") panel("The run is finished", [state.run.message], "");
  else await advance(null);
}
Object.assign(page, {
  outbox, holder, painter, leaveImage, loadRun, tab, advance, enter, prefetch, failed, reachable, nextPlace, choose,
  doubled,
});
start();
