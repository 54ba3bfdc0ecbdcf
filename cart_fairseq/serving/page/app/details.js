/** <hit-details>: one item alone, with all of its record. */

import { el, icon, iconButton } from "./dom.js";
import { likeButtons, probabilityOf } from "./hit-card.js";
import { captionOf, labelOf } from "../media/kinds.js";
import { silence } from "../media/player.js";

export class HitDetails extends HTMLElement {
  connectedCallback() {
    this.stage = el("div", { className: "stage" });
    this.about = el("div", { className: "record" });
    this.previous = iconButton("left", "Previous", () => this.step(-1));
    this.next = iconButton("right", "Next", () => this.step(1));
    this.dialog = el(
      "dialog",
      { className: "details", "aria-label": "Item", onclick: (event) => event.target === this.dialog && this.dialog.close() },
      el("div", { className: "details-inside" },
        el("div", { className: "head" }, this.previous, this.next, el("span", { className: "space" }), iconButton("close", "Close", () => this.dialog.close())),
        this.stage, this.about),
    );
    this.dialog.addEventListener("keydown", (event) => {
      if (event.target.type === "range") return;
      if (event.key === "ArrowLeft") this.step(-1);
      if (event.key === "ArrowRight") this.step(1);
    });
    this.dialog.addEventListener("like", () => this.dialog.close());
    this.dialog.addEventListener("close", () => {
      this.stage.replaceChildren();
      this.cards[this.place]?.openButton.focus();
    });
    this.replaceChildren(this.dialog);
  }

  /**
   * @param {HitCard[]} cards in the order in which they are shown
   * @param {object} hit
   * @param {boolean} likes whether the model takes items as queries
   */
  open(cards, hit, likes) {
    Object.assign(this, { cards, likes, place: cards.findIndex((card) => card.hit === hit) });
    silence();
    this.show();
    if (!this.dialog.open) this.dialog.showModal();
  }

  step(by) {
    const place = this.place + by;
    if (place < 0 || place >= this.cards.length) return;
    this.place = place;
    this.show();
  }

  show() {
    const { hit } = this.cards[this.place];
    this.dialog.setAttribute("aria-label", labelOf(hit));
    this.previous.disabled = this.place === 0;
    this.next.disabled = this.place === this.cards.length - 1;
    const view = document.createElement("media-view").show(hit, true);
    this.stage.replaceChildren(view);
    view.load();
    const file = hit.media_url && el("a", { className: "tool", href: hit.media_url, target: "_blank", rel: "noopener" }, icon("open"), "Open the file");
    this.about.replaceChildren(
      el("h2", { className: captionOf(hit) ? "" : "only-id" }, labelOf(hit)),
      el("div", { className: "actions" }, this.likes && likeButtons(hit), file),
      el("dl", {}, ...rows(hit)),
    );
  }
}

function rows(hit) {
  const { item_id: id, ...fields } = hit.record;
  const shown = [["id", id ?? hit.item_id], ...(hit.score === null ? [] : [["score", hit.score.toFixed(3)]])];
  const probability = probabilityOf(hit);
  if (probability) shown.push(["probability", probability.textContent]);
  const title = captionOf(hit); // it stands above
  shown.push(...Object.entries(fields).filter(([, value]) => value !== null && value !== "" && value !== title));
  return shown.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, inWords(value))));
}

function inWords(value) {
  if (Array.isArray(value) && value.every((each) => typeof each !== "object")) return value.join(" · ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

customElements.define("hit-details", HitDetails);
