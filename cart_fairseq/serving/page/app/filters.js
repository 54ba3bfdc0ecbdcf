/** <search-filters>: the panel with the fields of the catalogue. Tells `ask` with the query that has other filters. */

import { el, iconButton, tell } from "./dom.js";
import { filtersOf } from "./query.js";

/** Values of a field that are shown before one looks for others. */
const SHOWN = 12;
/** Fields with few values whose values are shown at once. */
const OPEN = 5;
/** Fields that stand before all others. */
const FIRST = ["modality", "folder"];
/** Mean number of items of a value below which a field of many values tells items apart rather than groups them. */
const SHARED = 1.5;

/**
 * Choose the fields to filter by: those that divide the items into groups; first those that most items have.
 * @param {{field: string, values: {count: number}[]}[]} fields
 * @param {number} items in the catalogue
 */
function chosen(fields, items) {
  const had = ({ values }) => Math.min(items, values.reduce((sum, { count }) => sum + count, 0));
  const place = ({ field }) => (FIRST.includes(field) ? FIRST.indexOf(field) : FIRST.length);
  const divides = (facet) => facet.values.length > 1 || facet.values[0].count < items;
  const groups = (facet) => FIRST.includes(facet.field) || facet.values.length <= OPEN || had(facet) >= SHARED * facet.values.length;
  return fields
    .filter((facet) => divides(facet) && groups(facet))
    .sort((one, other) => place(one) - place(other) || had(other) - had(one) || one.values.length - other.values.length);
}

export class SearchFilters extends HTMLElement {
  connectedCallback() {
    const close = iconButton("close", "Close the filters", () => this.dialog.close());
    this.fields = el("div", { className: "fields" });
    this.reset = el("button", { type: "button", className: "quiet", onclick: () => this.ask({ where: {}, candidates: "all" }) }, "Clear all");
    const done = el("button", { type: "button", className: "main", onclick: () => this.dialog.close() }, "Done");
    this.dialog = el(
      "dialog",
      { className: "panel", "aria-labelledby": "filters-title", onclick: (event) => event.target === this.dialog && this.dialog.close() },
      el("div", { className: "panel-inside" },
        el("div", { className: "head" }, el("h2", { id: "filters-title" }, "Filters"), close),
        this.fields,
        el("div", { className: "foot" }, this.reset, done)),
    );
    this.replaceChildren(this.dialog);
  }

  /** Take the fields and candidate sets of the catalogue. */
  offer(facets, sets) {
    const { items } = facets.catalogue;
    this.facets = chosen(facets.fields, items);
    this.sets = sets.filter(({ name, items: size }) => name === "all" || size < items);
  }

  get some() {
    return this.facets.length > 0 || this.sets.length > 1;
  }

  open(query) {
    this.show(query);
    this.dialog.showModal();
  }

  /** Show a query's filters. */
  show(query) {
    this.query = query;
    if (!this.facets) return;
    if (!this.drawn) {
      this.fields.replaceChildren(...(this.sets.length > 1 ? [this.choiceOfSet()] : []), ...this.facets.map((facet, place) => this.group(facet, place < OPEN && facet.values.length <= SHOWN)));
      this.drawn = true;
    }
    for (const box of this.fields.querySelectorAll("input[type=checkbox]")) box.checked = (query.where[box.facet] ?? []).includes(box.facetValue);
    for (const box of this.fields.querySelectorAll("input[type=radio]")) box.checked = query.candidates === box.value;
    for (const group of this.fields.querySelectorAll("details")) {
      const chosen = (query.where[group.facet] ?? []).length;
      group.querySelector(".chosen").textContent = chosen ? String(chosen) : "";
      if (chosen) group.open = true;
    }
    this.reset.disabled = !filtersOf(query) && query.candidates === "all";
  }

  ask(changes) {
    tell(this, "ask", { ...this.query, ...changes });
  }

  choiceOfSet() {
    const choices = [...this.sets].sort((one, other) => other.items - one.items).map(({ name, items }) =>
      el("label", { className: "choice" },
        el("input", { type: "radio", name: "candidates", value: name, onchange: () => this.ask({ candidates: name }) }),
        el("span", { className: "value" }, name === "all" ? "everything" : name),
        el("span", { className: "number" }, items.toLocaleString("en"))));
    return el("fieldset", {}, el("legend", {}, "Search in"), ...choices);
  }

  group({ field, values }, open) {
    const list = el("div", { className: "values" });
    const draw = (wanted) => {
      const fitting = values.filter(({ value }) => String(value).toLowerCase().includes(wanted.toLowerCase()));
      const chosen = fitting.filter(({ value }, place) => place >= SHOWN && (this.query.where[field] ?? []).includes(value));
      const shown = [...fitting.slice(0, SHOWN), ...chosen];
      const rest = fitting.length - shown.length;
      list.replaceChildren(
        ...shown.map((each) => this.choice(field, each)),
        ...(rest > 0 ? [el("p", { className: "rest" }, `and ${rest.toLocaleString("en")} more`)] : []));
    };
    draw("");
    const look = values.length > SHOWN && el("input", {
      type: "search", className: "look", placeholder: "Find a value", "aria-label": `Find a value of ${field}`,
      oninput: (event) => draw(event.target.value),
    });
    const made = el("details", { open }, el("summary", {}, field, el("span", { className: "chosen" })), look, list);
    made.facet = field;
    return made;
  }

  choice(field, { value, count }) {
    const box = el("input", { type: "checkbox", onchange: () => this.toggle(field, value, box.checked) });
    Object.assign(box, { facet: field, facetValue: value, checked: (this.query.where[field] ?? []).includes(value) });
    return el("label", { className: "choice" }, box, el("span", { className: "value" }, String(value)), el("span", { className: "number" }, count.toLocaleString("en")));
  }

  toggle(field, value, on) {
    const { [field]: before = [], ...others } = this.query.where;
    const after = on ? [...before, value] : before.filter((each) => each !== value);
    this.ask({ where: after.length ? { ...others, [field]: after } : others });
  }
}

customElements.define("search-filters", SearchFilters);
