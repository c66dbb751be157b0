// The live report: what the server says of the run, and the report, fetched again when it has changed.

import { call, get } from "./api.js";
import { $ } from "./page.js";

const NAMES = { none: "no run yet", running: "running", waiting: "waits for answers", finished: "finished",
  stopped: "not running", unreadable: "cannot be read" };
const SVG = "http://www.w3.org/2000/svg";
let shown = null, version = "", fetching = false;

const text = (id, value) => { $(id).textContent = value; $(id).hidden = !value; };
const number = (value) => value === null ? "–" : Number(value.toPrecision(4)).toString();

function draw(now) {
  shown = now;
  text("state", NAMES[now.state]);
  $("state").className = `state ${now.state}`;
  text("title", now.title ?? "");
  text("sentence", now.sentence + (now.waits ? ` It has been waiting for ${now.waits}.` : ""));
  document.title = `${NAMES[now.state]}: ${now.title || "regional-al watch"}`;
  training(now.training);
  annotation(now.annotate);
  const process = now.process && now.state === "running" ? `process ${now.process}` : "";
  const rounds = now.rounds && now.state !== "finished" ? `round ${now.round} of ${now.rounds}` : "";
  const seen = now.seen ? `files changed ${now.seen} ago` : "";
  text("life", [rounds, process, seen].filter(Boolean).join(" · "));
  chart(now.losses ?? []);
  if (now.version && now.version !== version) report(now.version);
}

function training(now) {
  $("training").hidden = !now;
  if (!now) return;
  $("bar").hidden = !now.length;
  $("bar").max = now.length ?? 1;
  $("bar").value = now.iteration;
  const of = now.length ? ` of ${now.length.toLocaleString("en")}` : "";
  const parts = [`iteration ${now.iteration.toLocaleString("en")}${of}`, `loss ${number(now.loss)}`,
    `learning rate ${number(now.rate)}`];
  if (now.left) parts.push(`about ${now.left} left`);
  text("numbers", parts.join(" · "));
}

function annotation(now) {
  $("annotate").hidden = !now;
  $("annotate").replaceChildren();
  if (!now) return;
  if (!now.here) {
    text("annotate", `The annotation page is served on ${now.machine}, at ${now.url}`);
    return;
  }
  const link = document.createElement("a");
  link.href = now.url;
  link.rel = "noreferrer";
  link.target = "_blank";
  link.textContent = "Annotation page";
  $("annotate").append(link, " (the first time, open the address that regional-al annotate has printed)");
}

function piece(name, attributes, content = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = content;
  return made;
}

function chart(losses) {
  const svg = $("losses");
  $("chart").hidden = losses.length < 2;
  if (losses.length < 2) return;
  const width = svg.clientWidth || 600, height = svg.clientHeight || 170;
  const [left, right, top, bottom] = [48, 8, 10, 22];
  const values = losses.map((point) => point[2]);
  let low = Math.min(...values), high = Math.max(...values);
  if (high - low < 1e-9) { low -= 0.5; high += 0.5; }
  const first = losses[0][0], last = losses[losses.length - 1][0];
  const x = (step) => left + (width - left - right) * (step - first) / Math.max(1, last - first);
  const y = (value) => top + (height - top - bottom) * (high - value) / (high - low);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  for (const value of [low, (low + high) / 2, high]) {
    svg.append(piece("line", { class: "axis", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
      piece("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, Number(value.toPrecision(3))));
  }
  svg.append(piece("text", { x: left, y: height - 5 }, first.toLocaleString("en")),
    piece("text", { x: width - right, y: height - 5, "text-anchor": "end" }, last.toLocaleString("en")));
  const rounds = [...new Set(losses.map((point) => point[1]))];
  for (const round of rounds) {
    const own = losses.filter((point) => point[1] === round);
    const line = own.map((point) => `${x(point[0]).toFixed(1)},${y(point[2]).toFixed(1)}`).join(" ");
    if (round !== rounds[0]) {
      const at = x(own[0][0]);
      svg.append(piece("line", { class: "part", x1: at, x2: at, y1: top, y2: height - bottom }));
    }
    svg.append(piece("polyline", { points: line, class: round === rounds[rounds.length - 1] ? "" : "old" }));
  }
}

// The report is a page of its own, with the same style; what is inside its <main> is shown.
async function report(wanted) {
  if (fetching) return;
  fetching = true;
  try {
    const page = new DOMParser().parseFromString(await (await call("/report")).text(), "text/html");
    const open = $("report").querySelector("details")?.open ?? false;
    $("report").replaceChildren(...page.querySelector("main").childNodes);
    const details = $("report").querySelector("details");
    if (details) details.open = open;
    version = wanted;
    text("notice", "");
  } catch (error) {
    version = wanted;  // asked again when something has changed
    text("notice", error.message);
  }
  $("report").setAttribute("aria-busy", "false");
  fetching = false;
  if (shown?.version && shown.version !== version) report(shown.version);
}

const source = new EventSource("/events");
source.addEventListener("now", (event) => { text("notice", ""); draw(JSON.parse(event.data)); });
source.addEventListener("error", () => text("notice", "The server does not answer; the page goes on when it does."));
addEventListener("resize", () => chart(shown?.losses ?? []));
get("/api/now").then(draw).catch((error) => text("notice", error.message));
