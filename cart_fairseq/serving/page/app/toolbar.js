/** <results-toolbar>: filters, order, near duplicates, saving. Tells `ask` with the query that is shown otherwise. */

import { el, icon, iconButton, tell } from "./dom.js";
import { filtersOf } from "./query.js";
import { save } from "./saving.js";

const SORTABLE = 24;

export class ResultsToolbar extends HTMLElement {
  connectedCallback() {
    this.number = el("span", { className: "badge" });
    this.filters = el("button", { type: "button", className: "tool", onclick: () => tell(this, "filters") }, icon("filter"), "Filters", this.number);
    this.order = el("select", { "aria-label": "Order", onchange: () => this.ask({ sort: this.order.value, falling: false }) });
    this.turn = iconButton("up", "Ascending", () => this.ask({ falling: !this.query.falling }));
    this.fold = el("input", { type: "checkbox", role: "switch", onchange: () => this.ask({ fold: this.fold.checked }) });
    this.saving = el("details", { className: "menu" },
      el("summary", { className: "tool" }, icon("save"), el("span", {}, "Save")),
      el("div", { className: "menu-items" },
        el("button", { type: "button", onclick: () => this.save("json") }, "as JSON"),
        el("button", { type: "button", onclick: () => this.save("csv") }, "as CSV")));
    this.saving.addEventListener("focusout", (event) => {
      if (event.relatedTarget && !this.saving.contains(event.relatedTarget)) this.saving.open = false;
    });
    this.chips = el("ul", { className: "applied", "aria-label": "Filters in use", hidden: true });
    this.ofResults = el("div", { className: "of-results" },
      el("label", { className: "order" }, icon("layers"), this.order), this.turn,
      el("label", { className: "switch", title: "Show only one of pictures that are nearly the same" }, this.fold, el("span", { className: "track" }), el("span", { className: "fold-label" }, "Fold", el("span", {}, " duplicates"))),
      this.saving);
    this.replaceChildren(el("div", { className: "tools" }, this.filters, this.ofResults), this.chips);
  }

  ask(changes) {
    tell(this, "ask", { ...this.query, ...changes });
  }

  /**
   * Show a query and what can be done with its results.
   * @param {object} query
   * @param {object[]} hits in the order of their scores
   * @param {boolean} filters whether there is anything to filter by
   */
  show(query, hits, filters) {
    Object.assign(this, { query, hits });
    const chosen = filtersOf(query) + (query.candidates === "all" ? 0 : 1);
    this.filters.hidden = !filters;
    this.number.textContent = chosen ? String(chosen) : "";
    this.ofResults.hidden = !hits.length;
    this.fold.checked = query.fold;
    const names = [...new Set([query.sort, ...sortable(hits)])].filter(Boolean);
    this.order.replaceChildren(el("option", { value: "" }, "Best match"), ...names.map((name) => el("option", { value: name }, name === "item_id" ? "Name" : name)));
    this.order.value = query.sort;
    const way = query.falling ? "Descending" : "Ascending";
    this.turn.hidden = !query.sort;
    this.turn.title = way;
    this.turn.setAttribute("aria-label", `Order: ${way.toLowerCase()}`);
    this.turn.replaceChildren(icon(query.falling ? "down" : "up"));
    const chips = Object.entries(query.where).flatMap(([field, values]) => values.map((value) => this.chip(`${field}: ${value}`, () => this.without(field, value))));
    if (query.candidates !== "all") chips.unshift(this.chip(`in: ${query.candidates}`, () => this.ask({ candidates: "all" })));
    this.chips.hidden = !chips.length;
    this.chips.replaceChildren(...chips);
  }

  chip(text, onclick) {
    const remove = el("button", { type: "button", className: "chip-remove", "aria-label": `Remove the filter ${text}`, onclick }, icon("close"));
    return el("li", { className: "chip" }, el("span", { className: "chip-name" }, text), remove);
  }

  without(field, value) {
    const { [field]: before, ...others } = this.query.where;
    const after = before.filter((each) => each !== value);
    this.ask({ where: after.length ? { ...others, [field]: after } : others });
  }

  save(kind) {
    this.saving.open = false;
    this.saving.querySelector("summary").focus();
    save(kind, this.query, this.hits);
  }
}

/** Fields of records by which hits can be sorted: those with one text or number in some of them. */
function sortable(hits) {
  const found = new Set(hits.length ? ["item_id"] : []);
  for (const { record } of hits) {
    for (const [name, value] of Object.entries(record)) {
      if (name !== "media" && ["string", "number", "boolean"].includes(typeof value) && found.size < SORTABLE) found.add(name);
    }
  }
  return found;
}

/** Return hits in the order that a query wants; those without the field come last. */
export function sorted(hits, { sort, falling }) {
  if (!sort) return hits;
  const compare = new Intl.Collator(undefined, { numeric: true }).compare;
  const way = falling ? -1 : 1;
  const has = (hit) => hit.record[sort] !== undefined && hit.record[sort] !== null;
  const order = (one, other) => (typeof one === "number" && typeof other === "number" ? one - other : compare(String(one), String(other)));
  return [
    ...hits.filter(has).sort((one, other) => way * order(one.record[sort], other.record[sort])),
    ...hits.filter((hit) => !has(hit)),
  ];
}

customElements.define("results-toolbar", ResultsToolbar);
