// Review and summary: tables of a round.

const minutes = (seconds) => (seconds < 90 ? `${seconds.toFixed(1)} s` : `${(seconds / 60).toFixed(1)} min`);
const percent = (share) => (share === null ? "–" : `${(100 * share).toFixed(0)} %`);

function table(element, heads, rows) {
  return element("div", { class: "scroll" }, element("table", {},
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell)))))));
}

function rounds(element, run, shown, choose) {
  const select = element("select", { "aria-label": "Round", onchange: () => choose(Number(select.value)) },
    ...run.rounds.map(({ round }) => element("option", { value: round, selected: round === shown }, `Round ${round}`)));
  return select;
}

export async function showReview(box, tools, round = tools.run.round) {
  const { get, element, nameOf, swatch, run, open } = tools;
  const [{ images }, { events }] = await Promise.all([
    get(`/api/images?round=${round}`), get(`/api/history?round=${round}&limit=100`)]);
  const link = (text, place, i) => element("button", { type: "button", onclick: () => open(place, i) }, text);
  const imageRows = images.map((one) => [
    link(one.key, { key: one.key, round }), `${one.answered} of ${one.items}`, String(one.unsure),
    one.skipped ? "skipped" : one.lease ? `with ${one.lease}` : "", one.people.join(", ")]);
  const eventRows = events.map((one) => [
    link(one.key, { key: one.key, round }, one.items[0]), one.kind + (one.review ? " (review)" : ""),
    element("span", {}, ...one.classes.flatMap((c) => [swatch(c), ` ${nameOf(c)} `])), one.person, new Date(one.time).toLocaleString()]);
  box.replaceChildren(
    element("div", { class: "row" }, element("h2", {}, "Review"), rounds(element, run, round, (r) => showReview(box, tools, r))),
    element("p", {}, round < run.round ? "Answers of an earlier round can be changed to another class or to void. The next training uses them."
      : "Open an image to look at its answers, and to change them."),
    element("div", { class: "columns" },
      element("div", {}, element("h3", {}, "Images"), table(element, ["Image", "Answered", "Unsure", "State", "People"], imageRows)),
      element("div", {}, element("h3", {}, "Last answers"), table(element, ["Image", "Answer", "Classes", "Person", "Time"], eventRows))));
}

export async function showSummary(box, tools, round = tools.run.round) {
  const { get, element, swatch, run, open } = tools;
  const data = await get(`/api/summary?round=${round}`);
  const each = (one) => (one.seconds_per_item === null ? "–" : `${one.seconds_per_item.toFixed(2)} s`);
  const classes = data.classes.map((one) => [element("span", {}, swatch(one.index), ` ${one.name}`), String(one.items),
    minutes(one.seconds), each(one), percent(one.agree_with_model), one.pairs ? `${percent(one.agreement)} of ${one.pairs}` : "–"]);
  const sizes = data.sizes.map((one) => [one.name, String(one.items), minutes(one.seconds), each(one)]);
  const slow = data.slowest.map((one) => [
    element("button", { type: "button", onclick: () => open({ key: one.key, round }, one.i) }, one.key), minutes(one.seconds)]);
  box.replaceChildren(
    element("div", { class: "row" }, element("h2", {}, "Summary"), rounds(element, run, round, (r) => showSummary(box, tools, r))),
    element("div", { class: "columns" },
      element("div", {}, element("h3", {}, "By class"), table(element,
        ["Class", "Items", "Time", "Per item", "Model agrees", "People agree"], classes)),
      element("div", {}, element("h3", {}, "By size of region"), table(element, ["Pixels", "Items", "Time", "Per item"], sizes)),
      element("div", {}, element("h3", {}, "Slowest items"), table(element, ["Image", "Time"], slow))));
}
