/** <hit-card>: one item of the results. */

import { el, iconButton, share, tell } from "./dom.js";
import { captionOf, labelOf } from "../media/kinds.js";
import "../media/view.js";

/** Make the buttons "more like this" and "less like this" of an item. */
export function likeButtons(hit) {
  const name = labelOf(hit);
  const button = (sign, way) =>
    iconButton(sign, `${way === "more" ? "More" : "Less"} like this`, (event) => tell(event.currentTarget, "like", { way, id: hit.item_id }), {
      className: `icon-button like ${way}`,
      "aria-label": `${way === "more" ? "More" : "Less"} like this: ${name}`,
    });
  return el("div", { className: "likes" }, button("plus", "more"), button("minus", "less"));
}

/** @returns {HTMLElement|null} the probability that an item is what was meant */
export function probabilityOf(hit) {
  if (hit.probability === null) return null;
  return el("span", { className: "probability", title: "Probability that this is what you mean" }, share(hit.probability));
}

export class HitCard extends HTMLElement {
  /**
   * @param {object} hit
   * @param {boolean} likes whether the model takes items as queries
   */
  show(hit, likes) {
    this.hit = hit;
    this.view = document.createElement("media-view").show(hit);
    this.openButton = el("button", {
      type: "button", className: "open", "aria-label": `Open ${labelOf(hit)}`, onclick: () => tell(this, "open-hit", hit),
    });
    const caption = captionOf(hit);
    const title = el("p", { className: caption ? "caption" : "caption only-id", title: caption || hit.item_id }, caption || hit.item_id);
    this.alikeButton = el("button", { type: "button", className: "alike", hidden: true, onclick: () => tell(this, "unfold", hit.item_id) });
    this.replaceChildren(
      el("div", { className: "media" }, this.view, this.openButton, this.alikeButton),
      el("div", { className: "about" },
        hit.media_url && title, // an item without a file shows its text in the place of the picture
        el("p", { className: "below" }, probabilityOf(hit), caption ? el("span", { className: "id", title: hit.item_id }, hit.item_id) : null)),
      ...(likes ? [likeButtons(hit)] : []),
    );
    return this;
  }

  /** Say how many items that look alike are folded behind this one, or shown after it. */
  showAlike(number, open) {
    this.alikeButton.hidden = !number;
    this.alikeButton.textContent = open ? "Fold again" : `+ ${number} alike`;
    this.alikeButton.setAttribute("aria-expanded", String(open));
  }

  /** Whether Tab stops at the card's buttons: only those of one card are in the order of Tab. */
  set current(on) {
    for (const each of this.querySelectorAll("a, button, input, video, audio")) each.tabIndex = on ? 0 : -1;
    this.isCurrent = on;
  }
}

customElements.define("hit-card", HitCard);
