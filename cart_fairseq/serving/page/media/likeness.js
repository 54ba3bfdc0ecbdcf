/** Which pictures look alike: their thumbnails of 8 × 8 pixels hardly differ. */

const SIDE = 8;
/** Largest mean difference of two thumbnails: of 255, and as a part of their contrast. */
const SAME = 1;
const OF_CONTRAST = 0.08;
const SAME_SHAPE = 1.05;

/**
 * Return a picture's thumbnail.
 * @param {CanvasImageSource} source
 * @param {number} width of the source
 * @param {number} height of the source
 */
export function thumbnail(source, width, height) {
  const canvas = new OffscreenCanvas(SIDE, SIDE);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff"; // behind what is transparent
  context.fillRect(0, 0, SIDE, SIDE);
  context.drawImage(source, 0, 0, SIDE, SIDE);
  const values = context.getImageData(0, 0, SIDE, SIDE).data.filter((_, place) => place % 4 < 3);
  return { values, contrast: contrastOf(values), shape: width / height };
}

/** @returns {number} standard deviation of the values of each colour around its mean */
export function contrastOf(values) {
  let sum = 0;
  for (let colour = 0; colour < 3; colour += 1) {
    const own = values.filter((_, place) => place % 3 === colour);
    const mean = own.reduce((total, value) => total + value, 0) / own.length;
    sum += own.reduce((total, value) => total + (value - mean) ** 2, 0);
  }
  return Math.sqrt(sum / values.length);
}

/** @returns {boolean} whether two thumbnails are of nearly the same picture */
export function alike(one, other) {
  const shape = one.shape / other.shape;
  if (Math.max(shape, 1 / shape) > SAME_SHAPE) return false;
  const most = SAME + OF_CONTRAST * Math.min(one.contrast, other.contrast);
  let sum = 0;
  for (let place = 0; place < one.values.length; place += 1) sum += Math.abs(one.values[place] - other.values[place]);
  return sum / one.values.length <= most;
}
