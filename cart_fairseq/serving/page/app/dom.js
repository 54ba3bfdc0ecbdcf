/** Makes elements and icons. */

/**
 * Make an element.
 * @param {string} tag
 * @param {object} given properties; names with a hyphen and `role` become attributes, `on…` are listeners
 * @param {...(Node|string|null|undefined|false)} children what is null or false is left out
 */
export function el(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name.includes("-") || !(name in made)) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((each) => each !== null && each !== undefined && each !== false));
  return made;
}

const SHAPES = {
  search: ["M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Z", "m15.5 15.5 5 5"],
  close: ["M6 6l12 12", "M18 6 6 18"],
  plus: ["M12 5v14", "M5 12h14"],
  minus: ["M5 12h14"],
  attach: ["M4 17V7a2 2 0 0 1 2-2h12a2 2 0 0 1 2 2v10a2 2 0 0 1-2 2H6a2 2 0 0 1-2-2Z", "m4 16 5-5 4 4 3-3 4 4", "M15.5 9h.01"],
  filter: ["M4 7h16", "M7 12h10", "M10 17h4"],
  sound: ["M9 18V6l10-2v12", "M9 18a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0Z", "M19 16a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0Z"],
  clip: ["M4 6h11v12H4Z", "m15 11 5-3v8l-5-3"],
  file: ["M6 3h8l4 4v14H6Z", "M14 3v4h4"],
  play: ["M8 5.5v13l10.5-6.5Z"],
  pause: ["M8 5.5v13", "M16 5.5v13"],
  save: ["M12 4v11", "m7.5 11 4.5 4.5 4.5-4.5", "M5 20h14"],
  left: ["m14.5 6-6 6 6 6"],
  right: ["m9.5 6 6 6-6 6"],
  up: ["M12 19V5", "m6 11 6-6 6 6"],
  down: ["M12 5v14", "m6 13 6 6 6-6"],
  wait: ["M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16Z", "M12 8v4.5l3 2"],
  broken: ["M12 4 3 20h18Z", "M12 10v5", "M12 17.5h.01"],
  key: ["M8 10.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9Z", "m11.2 11.8 8.3-8.3", "m16 7 3 3"],
  nothing: ["M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Z", "m15.5 15.5 5 5", "M8 10.5h5"],
  layers: ["m12 4 8 4.5-8 4.5-8-4.5Z", "m4 13 8 4.5 8-4.5"],
  open: ["M14 4h6v6", "m20 4-9 9", "M18 14v6H4V6h6"],
};

/** Make an icon, which screen readers skip. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const made = document.createElementNS(space, "svg");
  made.setAttribute("viewBox", "0 0 24 24");
  made.setAttribute("aria-hidden", "true");
  made.setAttribute("class", `icon icon-${name}`);
  for (const shape of SHAPES[name]) {
    const path = document.createElementNS(space, "path");
    path.setAttribute("d", shape);
    made.append(path);
  }
  return made;
}

/** Make a button with an icon; `label` is its name for screen readers and its tooltip unless a text is shown. */
export function iconButton(name, label, onclick, given = {}) {
  return el("button", { type: "button", className: "icon-button", title: label, "aria-label": label, onclick, ...given }, icon(name));
}

/** Dispatch an event that the application listens to. */
export function tell(element, name, detail = null) {
  element.dispatchEvent(new CustomEvent(name, { bubbles: true, detail }));
}

/** @returns {string} a number of things, in words: `count(1, "hit")` is "1 hit" */
export function count(number, word) {
  return `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;
}

/** @returns {string} a probability as a share */
export function share(probability) {
  if (probability < 0.01) return "< 1 %";
  if (probability > 0.99) return "> 99 %";
  return `${Math.round(probability * 100)} %`;
}
