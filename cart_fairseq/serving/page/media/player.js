/** <media-player>: plays a sound or a clip, and seeks. One player plays at a time. */

import { el, icon } from "../app/dom.js";

let playing = null;

function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds || 0));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** The controls of a media element, which they are told with `control`. */
export class MediaPlayer extends HTMLElement {
  /**
   * @param {HTMLMediaElement} media
   * @param {string} label what it plays, for screen readers
   */
  control(media, label) {
    this.media = media;
    this.label = label;
    this.length = 0;
    this.button = el("button", { type: "button", className: "play", onclick: () => this.toggle() });
    this.bar = el("input", {
      type: "range", className: "seek", min: 0, max: 1, step: "any", value: 0, "aria-label": `Position in ${label}`,
      oninput: () => this.seek(),
    });
    this.time = el("span", { className: "time" });
    this.replaceChildren(this.button, this.bar, this.time);
    const show = () => this.show();
    for (const event of ["play", "pause", "ended", "timeupdate", "loadedmetadata", "durationchange", "seeked"]) media.addEventListener(event, show);
    media.addEventListener("play", () => {
      if (playing && playing !== media) playing.pause();
      playing = media;
    });
    media.addEventListener("error", () => this.fail());
    show();
  }

  /** Say how long it is, before the media element knows. */
  set duration(seconds) {
    this.length = Number.isFinite(seconds) ? seconds : 0;
    this.show();
  }

  get duration() {
    return Number.isFinite(this.media.duration) ? this.media.duration : this.length;
  }

  toggle() {
    if (this.media.paused) this.media.play().catch((error) => error.name === "NotSupportedError" && this.fail());
    else this.media.pause();
  }

  seek() {
    this.media.currentTime = Number(this.bar.value);
    this.show();
  }

  show() {
    const { media, duration } = this;
    const at = media.currentTime;
    this.classList.toggle("playing", !media.paused);
    const name = media.paused ? "play" : "pause";
    if (this.shown !== name) {
      this.shown = name;
      this.button.replaceChildren(icon(name));
      this.button.setAttribute("aria-label", `${media.paused ? "Play" : "Pause"} ${this.label}`);
    }
    this.bar.max = duration || 1;
    this.bar.value = at;
    this.bar.setAttribute("aria-valuetext", `${clock(at)} of ${clock(duration)}`);
    this.style.setProperty("--played", duration ? Math.min(1, at / duration) : 0);
    this.time.textContent = at > 0 ? `${clock(at)} / ${clock(duration)}` : clock(duration);
  }

  fail() {
    this.replaceChildren(el("span", { className: "unplayable" }, "This browser cannot play it"));
  }

  disconnectedCallback() {
    // sorting moves players, which is no reason to stop
    queueMicrotask(() => !this.isConnected && this.media?.pause());
  }
}

customElements.define("media-player", MediaPlayer);

/** Stop what plays. */
export function silence() {
  playing?.pause();
}
