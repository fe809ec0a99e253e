// @ts-check
/** What all pages have: the API key, the list of models, the dialog with code, and errors beside what caused them. */

import { listModels } from "./api.js";
import { button, byId, choice, el } from "./dom.js";

const LANGUAGES = { python: "Python", javascript: "JavaScript", curl: "curl" };

/** @returns {string} */
export function apiKey() {
  return byId("key").value;
}

/** @param {string} name @param {string} label @param {boolean} checked */
function languageChoice(name, label, checked) {
  return el("label", {}, el("input", { type: "radio", name: "language", value: name, checked }), label);
}

/**
 * The settings dialog, with the key that all pages share, and the dialog for code.
 * @param {(message: string) => void} notify  shows what is wrong, or nothing if it is empty
 */
export function wirePage(notify) {
  byId("key").value = sessionStorage.getItem("key") ?? "";
  byId("key").onchange = () => {
    sessionStorage.setItem("key", apiKey());
    loadModels(notify);
  };
  byId("show-settings").onclick = () => byId("settings").showModal();
  const languages = Object.entries(LANGUAGES).map(([name, label], i) => languageChoice(name, label, i === 0));
  const text = el("code", { id: "code-text" });
  const copy = button("copy", "Copy the code", () => navigator.clipboard.writeText(text.textContent));
  copy.id = "copy-code";
  const choices = el("fieldset", { id: "languages", className: "segments" }, el("legend", { className: "sr" }, "Language"), ...languages);
  const title = el("h2", { id: "code-title" }, "The same request in code");
  const form = el("form", { method: "dialog" }, title, el("div", { className: "bar" }, choices, copy), el("pre", { tabIndex: 0 }, text));
  form.append(el("button", { className: "wide primary" }, "Done"));
  const dialog = el("dialog", { id: "code" }, form);
  dialog.setAttribute("aria-labelledby", "code-title");
  document.body.append(dialog);
  return loadModels(notify);
}

/**
 * Fills the choice of models; the first is the one that is served.
 * @param {(message: string) => void} notify
 */
async function loadModels(notify) {
  try {
    const models = await listModels(apiKey());
    const group = (/** @type {string} */ label, /** @type {boolean} */ ours) =>
      el("optgroup", { label }, ...models.filter((id) => id.startsWith("sensorium") === ours).map((id) => el("option", {}, id)));
    byId("model").replaceChildren(group("Models", true), group("Other names they answer to", false));
    byId("model").dispatchEvent(new Event("change"));
    notify("");
  } catch (error) {
    notify(error.status === 401 ? "This server asks for an API key: give it in the settings." : error.message);
  }
}

/**
 * Opens the dialog with a request as a program.
 * @param {(language: any, server: {base: string, hasKey: boolean}) => string} write
 */
export function showCode(write) {
  const show = () => {
    byId("code-text").textContent = write(choice("language"), { base: `${location.origin}/v1`, hasKey: Boolean(apiKey()) });
  };
  byId("languages").onchange = show;
  show();
  byId("code").showModal();
}

/**
 * Says what is wrong right behind the control that caused it, or at the form's own notice if none did.
 * @param {HTMLFormElement} form  with an element `.notice`
 * @param {{message: string, param?: string | null} | null} error  null: nothing is
 * @param {Record<string, string>} controls  ids by the field of the API that they fill
 */
export function showError(form, error, controls = {}) {
  form.querySelectorAll(".wrong").forEach((note) => note.remove());
  for (const control of form.querySelectorAll("[aria-invalid]")) {
    control.removeAttribute("aria-invalid");
    control.removeAttribute("aria-describedby");
  }
  const notice = /** @type {HTMLElement} */ (form.querySelector(".notice"));
  const id = controls[(error?.param ?? "").replace(/[.[].*/, "")]; // `image[0]` came from where `image` did
  notice.textContent = error && !id ? error.message : "";
  notice.hidden = !notice.textContent;
  if (!error || !id) return;
  const control = byId(id);
  const note = el("p", { id: `${id}-wrong`, className: "notice wrong", role: "alert" }, error.message);
  (control.closest("label") ?? control).after(note);
  control.setAttribute("aria-invalid", "true");
  control.setAttribute("aria-describedby", note.id);
  if (!control.matches("dialog, [type=file]")) control.focus();
}

/**
 * Files come by a button, through the page's file input, or are dropped anywhere.
 * @param {string} opener  id of the button @param {(files: File[]) => void} take
 */
export function takeFiles(opener, take) {
  const input = byId("file");
  byId(opener).onclick = () => input.click();
  input.onchange = () => {
    const files = [...input.files];
    input.value = ""; // so that the same file can be chosen again
    take(files);
  };
  const hint = (/** @type {boolean} */ shown) => document.body.classList.toggle("dropping", shown);
  document.ondragover = (event) => {
    event.preventDefault();
    hint(true);
  };
  document.ondragleave = ({ relatedTarget }) => relatedTarget || hint(false); // none: it left the window
  document.ondrop = (event) => {
    event.preventDefault();
    hint(false);
    take([...(event.dataTransfer?.files ?? [])]);
  };
}

/** In a form's text Enter sends it, and with Shift begins a line. @param {string} text @param {string} form  ids */
export function sendOnEnter(text, form) {
  byId(text).onkeydown = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    byId(form).requestSubmit();
  };
}

/** A file that a browser saves. @param {Blob} blob @param {string} download  its name */
export function save(blob, download) {
  const href = URL.createObjectURL(blob);
  el("a", { href, download }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000); // the browser reads it after the click
}

/** What a file may be called after. @param {string} text */
export function fileName(text) {
  return text.toLowerCase().replace(/[^\p{Letter}\d]+/gu, "-").slice(0, 41).replace(/^-+|-+$/g, "");
}
