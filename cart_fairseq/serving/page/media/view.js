/** <media-view>: an item's picture, sound or clip. It is loaded when it comes near the screen. */

import { el, icon } from "../app/dom.js";
import { captionOf, formatOf, kindOf, labelOf } from "./kinds.js";
import { thumbnail } from "./likeness.js";
import "./player.js";
import { posterOf } from "./poster.js";
import { drawing, loudness } from "./waveform.js";

/** Shapes, as width : height, that are cut to fill their place. */
const CUT = [0.8, 2.1];
const SMALL = 128;

const near = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting) {
        near.unobserve(target);
        target.load();
      }
    }
  },
  { rootMargin: "500px" },
);

/**
 * Shows the item that `show` is called with. Fires `likeness` as soon as it has a thumbnail.
 * @property {object|null} thumbnail see likeness.js
 */
export class MediaView extends HTMLElement {
  thumbnail = null;

  /**
   * @param {object} hit
   * @param {boolean} large whether it is shown alone
   */
  show(hit, large = false) {
    Object.assign(this, { hit, large });
    if (this.isConnected) near.observe(this);
    return this;
  }

  connectedCallback() {
    if (this.hit && !this.loading) near.observe(this);
  }

  disconnectedCallback() {
    near.unobserve(this);
  }

  /** Load it; the promise ends when a picture is there or failed, and for others at once. */
  load() {
    this.loading ??= kindOf(this.hit).then((kind) => {
      this.dataset.kind = kind;
      const shown = this[kind]();
      return kind === "image" ? shown : null;
    });
    return this.loading;
  }

  async image() {
    const picture = el("img", { src: this.hit.media_url, alt: labelOf(this.hit), decoding: "async", draggable: false });
    this.replaceChildren(picture);
    try {
      await picture.decode();
    } catch {
      this.fail("The picture cannot be shown");
      return;
    }
    this.fit(picture.naturalWidth, picture.naturalHeight);
    this.remember(picture, picture.naturalWidth, picture.naturalHeight);
  }

  async video() {
    const clip = el("video", { src: this.hit.media_url, preload: "none", playsInline: true, "aria-label": labelOf(this.hit) });
    const player = this.withPlayer(clip);
    try {
      const { canvas, duration } = await posterOf(this.hit.media_url);
      player.duration = duration;
      this.fit(canvas.width, canvas.height);
      this.remember(canvas, canvas.width, canvas.height);
      canvas.className = "poster";
      canvas.setAttribute("aria-hidden", "true");
      clip.after(canvas);
      for (const event of ["playing", "seeked"]) clip.addEventListener(event, () => canvas.remove(), { once: true });
    } catch {
      this.fail("This browser cannot play the clip");
    }
  }

  async audio() {
    const sound = el("audio", { src: this.hit.media_url, preload: "metadata" });
    const place = el("div", { className: "sound" }, icon("sound"));
    const player = this.withPlayer(sound, place);
    try {
      const found = await loudness(this.hit.media_url);
      if (!found) return;
      player.duration = found.duration;
      place.replaceChildren(drawing(found.bars));
      this.classList.add("loaded");
    } catch {
      this.fail("This browser cannot play the sound");
    }
  }

  other() {
    this.fail("The file cannot be shown");
  }

  none() {
    this.replaceChildren(el("p", { className: "words" }, captionOf(this.hit) || this.hit.item_id));
    this.classList.add("loaded");
  }

  withPlayer(media, ...others) {
    const player = document.createElement("media-player");
    player.control(media, labelOf(this.hit));
    this.replaceChildren(media, ...others, player);
    return player;
  }

  /** Fill the place with what has nearly its shape; show the whole of anything else. */
  fit(width, height) {
    const shape = width / height || 1; // a drawing may have no size
    const small = Math.max(width, height) <= SMALL;
    this.classList.add("loaded");
    this.classList.toggle("whole", this.large || small || shape < CUT[0] || shape > CUT[1]);
    this.classList.toggle("small", small);
  }

  remember(source, width, height) {
    this.thumbnail = thumbnail(source, width, height);
    this.dispatchEvent(new CustomEvent("likeness", { bubbles: true }));
  }

  /** Say why nothing is shown, and offer the file. */
  fail(why) {
    const tabIndex = this.closest("hit-card")?.isCurrent === false ? -1 : 0;
    const file = el("a", { href: this.hit.media_url, target: "_blank", rel: "noopener", tabIndex }, `${formatOf(this.hit)}: open the file`);
    this.replaceChildren(el("p", { className: "failed" }, icon("broken"), why, file));
    this.classList.add("loaded");
  }
}

customElements.define("media-view", MediaView);
