/** Which pictures look alike: no cell of their thumbnails of 16 × 16 cells differs much, in any colour. */

const SIDE = 16;
/** Pixels of a cell in each direction; their mean hardly depends on how large the picture is. */
const CELL = 4;
/** Largest mean difference of two thumbnails, and of one cell: of 255, and as a part of their contrast. */
const MEAN = [1, 0.08];
const MOST = [8, 0.25];
const SAME_SHAPE = 1.05;

/**
 * Return a picture's thumbnail.
 * @param {CanvasImageSource} source
 * @param {number} width of the source
 * @param {number} height of the source
 */
export function thumbnail(source, width, height) {
  const side = SIDE * CELL;
  const canvas = new OffscreenCanvas(side, side);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff"; // behind what is transparent
  context.fillRect(0, 0, side, side);
  context.drawImage(source, 0, 0, side, side);
  const { data } = context.getImageData(0, 0, side, side);
  const values = new Float32Array(SIDE * SIDE * 3);
  for (let pixel = 0; pixel < side * side; pixel += 1) {
    const cell = Math.floor(pixel / side / CELL) * SIDE + Math.floor((pixel % side) / CELL);
    for (let colour = 0; colour < 3; colour += 1) values[cell * 3 + colour] += data[pixel * 4 + colour] / CELL ** 2;
  }
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
  const contrast = Math.min(one.contrast, other.contrast);
  const [mean, most] = [MEAN, MOST].map(([least, part]) => least + part * contrast);
  let sum = 0;
  for (let place = 0; place < one.values.length; place += 1) {
    const difference = Math.abs(one.values[place] - other.values[place]);
    if (difference > most) return false;
    sum += difference;
  }
  return sum / one.values.length <= mean;
}
