/** <search-app>: the page. The address says what is searched; everything shown follows from it. */

import { Answers } from "./answers.js";
import { begin, Refused, sample, search, useToken } from "./api.js";
import "./details.js";
import { count, el } from "./dom.js";
import { takeFiles } from "./dropping.js";
import "./filters.js";
import { key } from "./keys.js";
import { followPlace, keepPlace } from "./place.js";
import { asks, EMPTY, filtersOf, fromAddress, inWords, searchKey, toAddress, withItem } from "./query.js";
import "./results.js";
import "./search-box.js";
import "./states.js";
import "./toolbar.js";
import { find, keep, wrongWith } from "./uploads.js";
import { silence } from "../media/player.js";

/** Hits of the first request; one for as many as the beam is wide costs no more than one for fewer. */
const FIRST = 30;
/** Milliseconds until grey cards are shown, and until the page says that it takes long. */
const SOON = 120;
const SLOW = [2000, 6000];

class SearchApp extends HTMLElement {
  answers = new Answers();

  connectedCallback() {
    const make = (name) => document.createElement(name);
    this.box = make("search-box");
    this.filters = make("search-filters");
    this.toolbar = make("results-toolbar");
    this.state = make("search-state");
    this.results = make("search-results");
    this.details = make("hit-details");
    this.said = el("p", { className: "said", role: "status" });
    this.note = el("p", { className: "note", role: "alert", hidden: true });
    const home = el("a", { className: "home", href: "/", onclick: (event) => this.home(event) }, el("img", { src: "/page/icon.svg", alt: "", width: 30, height: 30 }), el("span", {}, "Search"));
    this.replaceChildren(
      el("header", { className: "top" }, el("h1", {}, home), this.box),
      el("main", {}, this.note, this.toolbar, this.said, this.state, this.results),
      this.filters, this.details,
    );
    this.listen();
    this.start();
  }

  listen() {
    const on = (name, act) => this.addEventListener(name, ({ detail }) => act(detail));
    on("ask", (query) => this.go(query));
    on("search-now", (query) => this.go(query, true));
    on("file", (file) => this.takeFile(file));
    on("like", ({ way, id }) => this.like(way, id));
    on("filters", () => this.filters.open(this.query));
    on("clear-filters", () => this.go({ ...this.query, where: {}, candidates: "all" }));
    on("open-hit", (hit) => this.details.open(this.results.visible(), hit, this.info.queries.item_id));
    on("more-hits", () => this.more());
    on("drawn", ({ shown }) => this.answer && this.say(shown));
    on("to-box", () => this.box.input.focus());
    on("stop", () => this.stop());
    on("again", () => (this.info ? this.run() : this.start()));
    on("afresh", () => this.go(EMPTY));
    on("token", (token) => this.takeToken(token));
    addEventListener("popstate", ({ state }) => this.info && this.show(fromAddress(location.search), state?.y ?? 0, "kept"));
    addEventListener("keydown", (event) => key(event, this.box.input, this.results));
    followPlace();
    takeFiles(() => Boolean(this.info?.queries.media), (file) => this.takeFile(file));
  }

  /** Ask what the service has, then show what the address says. */
  async start() {
    this.toolbar.hidden = true;
    this.state.clear();
    try {
      const { info, facets } = await begin();
      this.info = info;
      this.filters.offer(facets, info.candidate_sets);
    } catch (error) {
      this.fail(error);
      return;
    }
    this.box.offer(this.info);
    this.show(fromAddress(location.search), history.state?.y ?? 0);
    if (!asks(this.query) && matchMedia("(hover: hover)").matches) this.box.input.focus();
  }

  async takeToken(token) {
    try {
      await useToken(token);
    } catch (error) {
      if (error.kind === "token") this.state.token(true);
      else this.fail(error);
      return;
    }
    this.start();
  }

  /** Go to a query: a new entry of the history, unless it is the same. `again` asks even if its answer is shown. */
  go(query, again = false) {
    this.warn("");
    if (!this.info) return;
    const address = toAddress(query);
    if (address !== toAddress(this.query)) {
      keepPlace();
      history.pushState({ y: 0 }, "", address === "?" ? "/" : address);
    }
    this.show(query, !again && searchKey(query) === this.asked ? scrollY : 0, again ? "never" : "shown");
  }

  home(event) {
    if (event.metaKey || event.ctrlKey) return;
    event.preventDefault();
    this.go(EMPTY);
    this.box.input.focus();
  }

  /** Show a query at a place, and search unless its answer is known. `use`: "never" one, the "shown" one, or a "kept" one. */
  show(query, y, use = "shown") {
    this.query = query;
    this.box.show(query);
    this.filters.show(query);
    document.title = inWords(query) ? `${inWords(query)} – Search` : "Search";
    const begins = !asks(query) && !query.less.length;
    this.classList.toggle("begins", begins);
    this.toolbar.hidden = begins;
    const key = searchKey(query);
    const known = (use !== "never" && key === this.asked && this.answer) || (use === "kept" && this.answers.get(key));
    if (!asks(query) || !known) this.run(y);
    else {
      this.stop(true);
      Object.assign(this, { asked: key, answer: known });
      this.draw(y);
    }
  }

  /** Search for what the query says. */
  async run(y = 0) {
    this.stop(true);
    this.asked = searchKey(this.query);
    this.answer = null;
    if (!asks(this.query)) {
      this.results.clear();
      this.said.textContent = "";
      this.toolbar.show(this.query, [], this.filters.some);
      if (this.query.less.length) this.state.onlyLess();
      else this.beginHere();
      return;
    }
    const answer = await this.request(Math.min(Math.max(FIRST, this.info.model?.beam ?? 0), this.info.limits.k));
    if (!answer) return;
    this.answers.keep(this.asked, answer);
    this.answer = answer;
    this.draw(y);
  }

  /** Before the first search; who cannot write one is shown some items to begin from. */
  async beginHere() {
    this.state.begin(this.info);
    if (this.info.queries.text) return;
    const { query } = this;
    try {
      const items = await sample();
      if (query === this.query) await this.results.show(items, { ...query, fold: false }, this.info.queries.item_id);
    } catch (error) {
      this.fail(error);
    }
  }

  /** Ask for k hits; null if there is no answer, which then is said. */
  async request(k) {
    const stopping = (this.stopping = new AbortController());
    const { query } = this;
    this.results.begin();
    const timers = [
      setTimeout(() => this.waiting(), SOON),
      ...SLOW.map((ms) => setTimeout(() => this.state.slow(ms / 1000), ms)),
    ];
    try {
      const file = await find(query.file);
      if (query.file && !file) {
        this.results.clear();
        this.state.lostFile();
        return null;
      }
      const { results, catalogue } = await search(query, file, k, stopping.signal);
      return stopping.signal.aborted ? null : { hits: results[0].hits, k, catalogue };
    } catch (error) {
      if (this.stopping === stopping && error.name !== "AbortError") this.fail(error);
      return null;
    } finally {
      timers.forEach(clearTimeout);
      if (this.stopping === stopping) this.stopping = null;
    }
  }

  waiting() {
    silence();
    this.state.clear();
    this.toolbar.show(this.query, [], this.filters.some);
    this.results.wait();
    this.said.textContent = "Searching …";
  }

  stop(quiet = false) {
    this.stopping?.abort();
    this.stopping = null;
    if (quiet) return;
    this.results.clear();
    this.said.textContent = "";
    this.state.stopped();
  }

  async draw(y) {
    const { answer } = this;
    this.state.clear();
    this.toolbar.show(this.query, answer.hits, this.filters.some);
    if (!answer.hits.length) {
      this.results.clear();
      this.said.textContent = "Nothing found";
      this.state.nothing(filtersOf(this.query) > 0 || this.query.candidates !== "all");
      return;
    }
    await this.results.show(answer.hits, this.query, this.info.queries.item_id);
    if (answer !== this.answer) return;
    scrollTo(0, y);
    this.finish();
  }

  finish() {
    const { hits, k } = this.answer;
    const complete = hits.length < k;
    const limit = this.info.limits.k;
    if (complete) this.results.finish(hits.length > 8 ? "That is all." : "", false);
    else if (k >= limit) this.results.finish(`These are the best ${limit.toLocaleString("en")}. The service shows no more at once.`, false);
    else this.results.finish("", true);
  }

  /** Ask for twice as many; what is shown stays in its place. */
  async more() {
    const { answer } = this;
    const limit = this.info.limits.k;
    if (!answer || this.asking || answer.hits.length < answer.k || answer.k >= limit) return;
    this.asking = true;
    const k = Math.min(answer.k * 2, limit);
    try {
      const { results, catalogue } = await search(this.query, await find(this.query.file), k);
      this.answers.note(catalogue);
      const known = new Set(answer.hits.map((hit) => hit.item_id));
      answer.hits = [...answer.hits, ...results[0].hits.filter((hit) => !known.has(hit.item_id))];
      answer.k = results[0].hits.length < k ? Infinity : k;
    } catch (error) {
      if (error instanceof Refused && error.kind === "busy") setTimeout(() => this.more(), 1000 * (error.seconds || 2));
      else this.warn("More results could not be loaded.");
      return;
    } finally {
      this.asking = false;
    }
    if (answer === this.answer) this.draw(scrollY);
  }

  fail(error) {
    if (!(error instanceof Refused)) throw error;
    this.results.clear();
    this.said.textContent = "";
    if (this.query) this.toolbar.show(this.query, [], this.filters.some);
    this.state.refused(error);
    if (error.kind !== "token") this.said.textContent = this.state.querySelector("h2").textContent;
  }

  /** Say how many hits there are, for screen readers too. */
  say(shown) {
    const { hits } = this.answer;
    const folded = hits.length - shown;
    const order = this.query.sort ? `, by ${this.query.sort === "item_id" ? "name" : this.query.sort}` : "";
    this.said.textContent = `${count(hits.length, "hit")}${folded > 0 ? `, ${folded} folded` : ""}${order}`;
  }

  warn(text) {
    this.note.hidden = !text;
    this.note.textContent = text;
  }

  takeFile(file) {
    const wrong = wrongWith(file, this.info.limits);
    if (wrong) this.warn(wrong);
    else this.go({ ...this.query, text: this.box.text, file: keep(file) });
  }

  like(way, id) {
    const query = withItem(this.query, way, id);
    if (query.more.length + query.less.length > this.info.limits.parts) this.warn(`A search takes at most ${this.info.limits.parts} examples.`);
    else this.go({ ...query, text: this.box.text });
  }
}

customElements.define("search-app", SearchApp);
