// Dialogs: examples of a class, the keys, the name of the person.

import { get, query } from "./api.js";
import { HELP } from "./keys.js";
import { $, element, nameOf, page, state } from "./page.js";

function dialog(title, ...children) {
  const close = element("button", { type: "button", class: "primary", onclick: () => $("dialog").close() }, "Close");
  $("dialog").replaceChildren(element("h2", { id: "dialog-title" }, title), ...children, element("div", { class: "row" }, close));
  $("dialog").showModal();
}
export async function examples(index) {
  try {
    const { examples: found } = await get(`/api/examples?class=${index}`);
    const pictures = found.map((one) => element("img", { src: one.src, alt: `${nameOf(index)} in ${one.key}`, loading: "lazy" }));
    dialog(`Examples of ${nameOf(index)}`, found.length ? element("div", { class: "examples" }, ...pictures)
      : element("p", {}, "Nothing has been labelled as this class yet."));
  } catch (error) { page.failed(error); }
}
export function help() {
  dialog("Keys", element("dl", { class: "keys" }, ...HELP.flatMap(([key, what]) => [element("dt", {}, element("kbd", {}, key)), element("dd", {}, what)])));
}
// A name as the server takes it; throws what it says about another one.
export async function checkedName(text) {
  const name = text.normalize("NFC").replace(/\s+/g, " ").trim();
  return (await get(`/api/person?${query({ person: name })}`)).person;
}
export function askName() {
  return new Promise((done) => {
    const input = element("input", { type: "text", maxlength: 64, required: true, "aria-label": "Your name", "aria-describedby": "wrong-name", value: state.person });
    const wrong = element("p", { id: "wrong-name", role: "alert" });
    const form = element("form", {}, element("p", {}, "Answers are kept with the name of who has given them."), input, wrong,
      element("div", { class: "row" }, element("button", { class: "primary" }, "Start")));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      try {
        const name = await checkedName(input.value);
        if (state.person && name !== state.person) {
          await (await state.next)?.sure;  // what is still being taken under the old name
          await page.holder.release([state.image, state.ahead]);
        }
        state.person = name;
        localStorage.setItem("regional-al person", name);
        $("person").textContent = name;
        $("dialog").close();
      } catch (error) { wrong.textContent = error.message; input.focus(); }
    });
    $("dialog").replaceChildren(element("h2", { id: "dialog-title" }, "Who is annotating?"), form);
    $("dialog").addEventListener("close", () => (state.person ? done() : askName().then(done)), { once: true });
    $("dialog").showModal();
    input.select();
  });
}
