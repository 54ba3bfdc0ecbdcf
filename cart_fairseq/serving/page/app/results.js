/** <search-results>: the grid of hits, with near duplicates folded and a line before what probably does not fit. */

import { el, share, tell } from "./dom.js";
import "./hit-card.js";
import { alike } from "../media/likeness.js";
import { sorted } from "./toolbar.js";

/** The line stands where the probability that the wanted item comes later falls below this. */
const REST = 0.2;
const FITS = 0.5;
/** Hits that are loaded before any is shown, and the longest wait for them in milliseconds. */
const FIRST = 12;
const PATIENCE = 120;
/** After what the user did: the longest wait in milliseconds for pictures that are folded even on the screen. */
const SETTLING = 4000;
/** Pixels below the screen at which pictures are loaded. */
const BELOW = 500;
const ARROWS = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: 0, ArrowDown: 0 };

/**
 * Where the line belongs.
 * @param {object[]} hits in the order of their scores
 * @returns {{before: number, rest: number}|null} the number of hits before it, and the probability after it
 */
export function lineOf(hits) {
  if (!hits.length || hits.some((hit) => hit.probability === null)) return null;
  let rest = hits.reduce((sum, hit) => sum + hit.probability, 0);
  if (rest < FITS) return { before: 0, rest };
  for (let before = 1; before < hits.length; before += 1) {
    rest -= hits[before - 1].probability;
    if (rest < REST) return { before, rest: Math.max(0, rest) };
  }
  return null;
}

export class SearchResults extends HTMLElement {
  cards = new Map();
  unfolded = new Set();
  /** For each folded hit the one that it is folded into. */
  leaders = new Map();
  /** How often the user did something. */
  acts = 0;

  connectedCallback() {
    this.grid = el("ul", { className: "grid", "aria-label": "Results" });
    this.end = el("p", { className: "end", hidden: true });
    this.replaceChildren(this.grid, this.end);
    this.grid.addEventListener("keydown", (event) => this.move(event));
    this.grid.addEventListener("focusin", (event) => this.makeCurrent(event.target.closest("hit-card")));
    this.grid.addEventListener("likeness", () => this.foldSoon());
    this.grid.addEventListener("unfold", ({ detail }) => {
      if (!this.unfolded.delete(detail)) this.unfolded.add(detail);
      this.draw(true);
    });
    for (const act of ["pointerdown", "keydown", "wheel"]) addEventListener(act, () => (this.acts += 1), { passive: true, capture: true });
    new IntersectionObserver(([entry]) => entry.isIntersecting && !this.end.hidden && tell(this, "more-hits"), { rootMargin: "900px" }).observe(this.end);
  }

  /** Say that a search goes on. What is shown stays. */
  begin() {
    this.grid.setAttribute("aria-busy", "true");
  }

  /** Show grey cards while a search goes on. */
  wait(number = 12) {
    this.leave();
    this.forget();
    this.end.hidden = true;
    this.begin();
    const bones = () => el("li", { className: "skeleton", "aria-hidden": "true" }, el("div", { className: "media" }), el("p", { className: "bone" }), el("p", { className: "bone short" }));
    this.grid.replaceChildren(...Array.from({ length: number }, bones));
  }

  /** Show nothing. */
  clear() {
    this.leave();
    this.forget();
    this.end.hidden = true;
    this.grid.removeAttribute("aria-busy");
    this.grid.replaceChildren();
  }

  /** If the focus is on a hit that goes away, the hits that come next get it. */
  leave() {
    this.givesFocus ||= this.grid.contains(document.activeElement);
  }

  forget() {
    clearTimeout(this.folding);
    this.folding = null;
    this.cards.clear();
    this.unfolded.clear();
    this.leaders.clear();
    this.hits = [];
  }

  /**
   * Show hits; those that are on the screen already stay where they are.
   * @param {object[]} hits in the order of their scores
   * @param {object} query
   * @param {boolean} likes whether the model takes items as queries
   */
  async show(hits, query, likes) {
    if (hits[0] !== this.hits?.[0]) this.forget();
    const fresh = !this.cards.size;
    const grows = !fresh && query === this.query; // scrolling asked for more hits
    Object.assign(this, { hits, query });
    for (const hit of hits) {
      if (!this.cards.has(hit.item_id)) this.cards.set(hit.item_id, el("li", {}, document.createElement("hit-card").show(hit, likes)));
    }
    if (fresh) {
      const first = this.ordered().slice(0, FIRST).map((hit) => this.card(hit).view.load());
      await Promise.race([Promise.allSettled(first), new Promise((resolve) => setTimeout(resolve, PATIENCE))]);
      if (this.hits !== hits) return; // another search came in between
    }
    this.grid.removeAttribute("aria-busy");
    this.draw(grows);
    if (fresh || !this.grid.querySelector(":focus")) this.makeCurrent(this.visible()[0]);
    if (!grows && query.fold) this.settle();
  }

  /** Fold what the user's action brought onto the screen as soon as its pictures are there, unless another action came. */
  async settle() {
    const { hits, query, acts } = this;
    await new Promise(requestAnimationFrame);
    const near = this.visible().filter((card) => inside(card, BELOW)).map((card) => card.view.load());
    await Promise.race([Promise.allSettled(near), new Promise((resolve) => setTimeout(resolve, SETTLING))]);
    if (this.hits === hits && this.query === query && this.acts === acts) this.draw();
  }

  /** Say what comes after the last hit; empty while more can be asked for. */
  finish(text, more) {
    this.end.hidden = false;
    this.end.textContent = text;
    if (more && this.end.getBoundingClientRect().top < innerHeight + 900) tell(this, "more-hits");
  }

  card(hit) {
    return this.cards.get(hit.item_id).firstChild;
  }

  ordered() {
    return sorted(this.hits, this.query);
  }

  /**
   * Put the cards into the grid. A card that does not change its place is not touched, so that its player goes on.
   * @param {boolean} still whether cards on the screen stay where they are, though they could be folded
   */
  draw(still = false) {
    const line = this.query.sort ? null : lineOf(this.hits);
    const rank = new Map(this.hits.map((hit, place) => [hit, place]));
    const drawn = [];
    let lined = !line;
    for (const { hit, others } of this.groups(still)) {
      const open = this.unfolded.has(hit.item_id);
      this.card(hit).showAlike(others.length, open);
      for (const each of open ? [hit, ...others] : [hit]) {
        if (!lined && rank.get(each) >= line.before) {
          drawn.push(lineElement(line));
          lined = true;
        }
        this.cards.get(each.item_id).classList.toggle("unlikely", Boolean(line) && lined && line.before > 0);
        drawn.push(this.cards.get(each.item_id));
      }
    }
    const before = [...this.grid.children];
    const same = before.every((each, place) => each === drawn[place] || (each.className === "line" && drawn[place]?.className === "line"));
    const focused = this.grid.contains(document.activeElement) ? document.activeElement : null;
    if (same) this.grid.append(...drawn.slice(before.length));
    else this.grid.replaceChildren(...drawn);
    if (focused?.isConnected) focused.focus({ preventScroll: true }); // it was taken out and put back
    else if ((focused || this.givesFocus) && document.activeElement === document.body) this.enter();
    this.givesFocus = false;
    tell(this, "drawn", { shown: drawn.filter((each) => each.className !== "line").length });
  }

  /** Hits in order, each with those that look alike and come later. `still`: see draw. */
  groups(still) {
    const groups = [];
    const leaders = new Map();
    for (const hit of this.ordered()) {
      const found = this.query.fold && groups.find((group) => this.same(group.hit, hit));
      if (found && !(still && this.stays(hit, found.hit))) {
        found.others.push(hit);
        leaders.set(hit, found.hit);
      } else groups.push({ hit, others: [] });
    }
    this.leaders = leaders;
    return groups;
  }

  /** Whether folding a hit into another one would move what is on the screen. */
  stays(hit, leader) {
    const card = this.cards.get(hit.item_id);
    if (!card.isConnected || this.leaders.get(hit) === leader) return false;
    return this.unfolded.has(leader.item_id) || card.getBoundingClientRect().top <= innerHeight;
  }

  same(one, other) {
    if (one.record.media && one.record.media === other.record.media) return true;
    const [first, second] = [this.card(one).view.thumbnail, this.card(other).view.thumbnail];
    return Boolean(first && second && alike(first, second));
  }

  /** Fold what was loaded meanwhile, below the screen. */
  foldSoon() {
    if (this.folding || !this.query?.fold || this.grid.getAttribute("aria-busy")) return;
    this.folding = setTimeout(() => {
      this.folding = null;
      this.draw(true);
    }, 150);
  }

  visible() {
    return [...this.grid.querySelectorAll("hit-card")];
  }

  makeCurrent(card) {
    for (const each of this.visible()) each.current = each === card;
  }

  /** Put the focus on the first card; false if there is none. */
  enter() {
    const first = this.visible().find((card) => card.isCurrent) ?? this.visible()[0];
    first?.openButton.focus({ preventScroll: true });
    first?.scrollIntoView({ block: "nearest" });
    return Boolean(first);
  }

  move(event) {
    const card = event.target.closest("hit-card");
    if (!card || event.target.type === "range" || event.altKey || event.ctrlKey || event.metaKey) return;
    const cards = this.visible();
    const place = cards.indexOf(card);
    let next = null;
    if (event.key === "Home") [next] = cards;
    else if (event.key === "End") next = cards.at(-1);
    else if (event.key === "+" || event.key === "-") card.querySelector(event.key === "+" ? ".more" : ".less")?.click();
    else if (!(event.key in ARROWS)) return;
    else if (ARROWS[event.key]) next = cards[place + ARROWS[event.key]];
    else next = below(cards, place, event.key === "ArrowDown");
    event.preventDefault();
    if (next) {
      next.openButton.focus();
      next.scrollIntoView({ block: "nearest" });
    } else if (event.key === "ArrowUp") tell(this, "to-box");
  }
}

/** Whether an element is on the screen, or less than so many pixels below it. */
function inside(element, below) {
  const { top, bottom } = element.getBoundingClientRect();
  return bottom > 0 && top < innerHeight + below;
}

/** The card under or above another one. */
function below(cards, place, down) {
  const own = cards[place].getBoundingClientRect();
  const rest = down ? cards.slice(place + 1) : cards.slice(0, place).reverse();
  const distance = (card) => Math.abs(card.getBoundingClientRect().left - own.left);
  const others = rest.filter((card) => Math.abs(card.getBoundingClientRect().top - own.top) > 4);
  if (!others.length) return null;
  const top = others[0].getBoundingClientRect().top;
  const row = others.filter((card) => Math.abs(card.getBoundingClientRect().top - top) <= 4);
  return row.reduce((best, card) => (distance(card) < distance(best) ? card : best));
}

function lineElement({ before, rest }) {
  const text = before
    ? [el("strong", {}, "The rest probably does not fit"), `: ${share(rest)} that what you mean is among it.`]
    : [el("strong", {}, "Probably nothing fits"), `: ${share(rest)} that what you mean is among these.`];
  return el("li", { className: "line" }, el("p", {}, ...text));
}

customElements.define("search-results", SearchResults);
