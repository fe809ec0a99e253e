// @ts-check
/** Elements, made in one expression. */

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {object} properties @param {...(Node | string)} children
 */
export function el(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** @param {string} name of a symbol in icons.svg */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `icons.svg#i-${name}`);
  svg.append(use);
  return svg;
}

/** @param {string} name @param {string} label @param {() => void} onclick */
export function button(name, label, onclick) {
  return el("button", { type: "button", className: "icon", title: label, ariaLabel: label, onclick }, icon(name));
}

/** An element of the page, which must be there. @param {string} id @returns {any} */
export function byId(id) {
  return document.getElementById(id);
}

/** The value chosen in a group of radio buttons. @param {string} name */
export function choice(name) {
  return /** @type {HTMLInputElement} */ (document.querySelector(`input[name=${name}]:checked`)).value;
}
