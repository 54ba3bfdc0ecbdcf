/** The poster of a clip: its first frame that is not nearly one colour. */

import { contrastOf } from "./likeness.js";

/** Contrast of a frame, see `contrastOf`, from which it shows something. */
const SHOWS = 12;
const STEP = 0.2;
const LATEST = 20;
const WIDTH = 640;
const PATIENCE = 8000;

let before = Promise.resolve();

/**
 * Find the poster of a clip. One clip is looked at at a time, because decoders are few.
 * @param {string} address
 * @returns {Promise<{canvas: HTMLCanvasElement, at: number, duration: number}>}
 */
export function posterOf(address) {
  const found = before.then(() => look(address));
  before = found.catch(() => {});
  return found;
}

async function look(address) {
  const video = document.createElement("video");
  Object.assign(video, { muted: true, preload: "auto", playsInline: true, src: address });
  try {
    await happens(video, "loadeddata");
    const { duration } = video;
    const last = Number.isFinite(duration) ? Math.min(duration - 0.05, LATEST) : 0;
    for (let at = 0; ; at += STEP) {
      if (at > 0) {
        video.currentTime = at;
        await happens(video, "seeked");
      }
      if (contrast(video) >= SHOWS || at + STEP > last) return { canvas: drawn(video), at: video.currentTime, duration };
    }
  } finally {
    video.removeAttribute("src");
    video.load(); // gives the decoder back
  }
}

function happens(video, event) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`no ${event}`)), PATIENCE);
    const end = (then) => () => {
      clearTimeout(late);
      then();
    };
    video.addEventListener(event, end(resolve), { once: true });
    video.addEventListener("error", end(() => reject(new Error("cannot be played"))), { once: true });
  });
}

function contrast(video) {
  const canvas = new OffscreenCanvas(16, 16);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(video, 0, 0, 16, 16);
  return contrastOf(context.getImageData(0, 0, 16, 16).data.filter((_, place) => place % 4 < 3));
}

function drawn(video) {
  const canvas = document.createElement("canvas");
  const scale = Math.min(1, WIDTH / video.videoWidth);
  canvas.width = Math.max(1, Math.round(video.videoWidth * scale));
  canvas.height = Math.max(1, Math.round(video.videoHeight * scale));
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return canvas;
}
