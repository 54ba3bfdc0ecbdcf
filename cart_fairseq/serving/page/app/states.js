/** <search-state>: what is seen where no results are: the begin, nothing found, slow, busy, failed, a token is needed. */

import { count, el, icon, tell } from "./dom.js";

function button(text, onclick, className = "main") {
  return el("button", { type: "button", className, onclick }, text);
}

export class SearchState extends HTMLElement {
  clear() {
    clearInterval(this.ticking);
    this.hidden = true;
    this.replaceChildren();
    delete this.dataset.state;
  }

  show(state, sign, title, ...more) {
    this.clear();
    this.hidden = false;
    this.dataset.state = state;
    const said = more.filter(Boolean).map((each) => (typeof each === "string" ? el("p", {}, each) : each));
    this.replaceChildren(...(sign ? [el("div", { className: "sign-of-state" }, icon(sign))] : []), el("h2", {}, title), ...said);
  }

  /** Before the first search. */
  begin(info) {
    const { queries, catalogue } = info;
    const ways = [queries.text && "Write what you look for and press Enter.", queries.media && "Drop or paste a picture, sound or clip to find others like it.", !queries.text && "Or begin with one of these."];
    const keys = el("p", { className: "keys" }, el("kbd", {}, "/"), " search ", el("kbd", {}, "←↑↓→"), " move ", el("kbd", {}, "Enter"), " open ", el("kbd", {}, "Esc"), " to the box, or empty it");
    this.show("begin", null, `Search ${count(catalogue.items, "item")}`, ways.filter(Boolean).join(" "), keys);
  }

  /** Examples to turn away from alone say nothing to look for. */
  onlyLess() {
    this.show("only-less", "minus", "Less like this, but more like what?", "Add a text or an example of what you look for.");
  }

  nothing(filtered) {
    const clear = filtered && button("Clear the filters", () => tell(this, "clear-filters"));
    this.show("nothing", "nothing", "Nothing found", filtered ? "No item fits these filters." : "The catalogue has no item for this search.", clear);
  }

  slow(seconds) {
    const said = seconds < 5 ? "This takes longer than usual." : "The service has much to do. The answer comes as soon as it is there.";
    this.show("slow", "wait", "Still searching", said, button("Stop", () => tell(this, "stop"), "quiet"));
  }

  stopped() {
    this.show("stopped", "pause", "Stopped", button("Search again", () => tell(this, "again")));
  }

  /** The service has no room: count down and try again. */
  busy(seconds) {
    const left = el("span", { className: "left" });
    const bar = el("progress", { max: seconds, value: 0, "aria-label": "Time until the next try" });
    this.show("busy", "wait", "Many are searching right now", el("p", {}, "Trying again in ", left, "."), bar, button("Try now", () => tell(this, "again"), "quiet"));
    const end = performance.now() + seconds * 1000;
    const tick = () => {
      const rest = (end - performance.now()) / 1000;
      left.textContent = count(Math.max(1, Math.ceil(rest)), "second");
      bar.value = seconds - rest;
      if (rest > 0) return;
      clearInterval(this.ticking);
      tell(this, "again");
    };
    tick();
    this.ticking = setInterval(tick, 200);
  }

  /** The service refused. */
  refused({ kind, error, seconds }) {
    const again = button("Try again", () => tell(this, "again"));
    if (kind === "token") this.token(false);
    else if (kind === "busy") this.busy(seconds || 2);
    else if (kind === "network") this.show("failed", "broken", "The service does not answer", "Check the connection, or whether the service runs.", again);
    else if (kind === "request") this.show("wrong", "broken", "The service cannot search for this", error && sentence(error), button("Start afresh", () => tell(this, "afresh"), "quiet"));
    else this.show("failed", "broken", "The service failed", error ? sentence(error) : "Its log says why.", again);
  }

  lostFile() {
    this.show("lost", "file", "The file of this search is not here", "It stays in the browser in which it was dropped. Drop it again to search with it.");
  }

  /** Ask for the token; tells `token`. */
  token(wrong) {
    const input = el("input", { type: "password", id: "token", autocomplete: "current-password", required: true, "aria-describedby": wrong ? "token-wrong" : null });
    const form = el("form", { className: "token", onsubmit: (event) => {
      event.preventDefault();
      tell(this, "token", input.value);
    } },
    el("label", { htmlFor: "token" }, "Token"), el("div", { className: "token-line" }, input, el("button", { type: "submit", className: "main" }, "Continue")),
    wrong && el("p", { id: "token-wrong", className: "wrong", role: "alert" }, "This is not the token of this service."));
    this.show("token", "key", "This search needs a token", "It is kept in this tab until you close it.", form);
    input.focus();
  }
}

function sentence({ field, found, remedy }) {
  const begin = field !== "media" ? `${field}:` : /^(is|has) /.test(found) ? "Your file" : "Your file:";
  return `${begin} ${found}. ${remedy.charAt(0).toUpperCase()}${remedy.slice(1)}.`;
}

customElements.define("search-state", SearchState);
