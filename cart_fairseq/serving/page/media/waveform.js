/** The picture of a sound: how loud it is over its time. */

const BARS = 56;
const RATE = 8000;
const MOST_BYTES = 8 << 20;

/**
 * Measure a sound.
 * @param {string} address
 * @returns {Promise<{bars: number[], duration: number}|null>} loudness from 0 to 1; null for a long sound
 */
export async function loudness(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  if (Number(answer.headers.get("content-length")) > MOST_BYTES) {
    await answer.body?.cancel();
    return null;
  }
  const sound = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await answer.arrayBuffer());
  const samples = sound.getChannelData(0);
  const each = Math.max(1, Math.floor(samples.length / BARS));
  const bars = Array.from({ length: BARS }, (_, bar) => {
    const part = samples.subarray(bar * each, (bar + 1) * each);
    return Math.sqrt(part.reduce((sum, value) => sum + value * value, 0) / Math.max(1, part.length));
  });
  const loudest = Math.max(...bars, 1e-6);
  return { bars: bars.map((bar) => bar / loudest), duration: sound.duration };
}

/** Draw bars as an SVG, which takes the colour of the text around it. */
export function drawing(bars) {
  const space = "http://www.w3.org/2000/svg";
  const made = document.createElementNS(space, "svg");
  made.setAttribute("viewBox", `0 0 ${bars.length * 4} 64`);
  made.setAttribute("preserveAspectRatio", "none");
  made.setAttribute("aria-hidden", "true");
  made.setAttribute("class", "waveform");
  bars.forEach((bar, place) => {
    const height = Math.max(2, bar * 60);
    const shape = document.createElementNS(space, "rect");
    for (const [name, value] of Object.entries({ x: place * 4 + 0.5, y: 32 - height / 2, width: 3, height, rx: 1.5 })) {
      shape.setAttribute(name, value);
    }
    made.append(shape);
  });
  return made;
}
