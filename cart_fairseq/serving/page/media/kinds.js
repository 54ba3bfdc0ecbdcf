/** What an item is, and its texts. */

const ENDINGS = {
  image: ["png", "jpg", "jpeg", "gif", "webp", "svg", "avif", "bmp", "tif", "tiff"],
  audio: ["wav", "mp3", "ogg", "oga", "opus", "flac", "m4a"],
  video: ["mp4", "webm", "ogv", "mov", "m4v", "mkv", "avi"],
};
const TEXTS = ["caption", "text", "title", "description", "name"];

/**
 * Say what an item's file is, by its record or else by what the service says.
 * @returns {Promise<"image"|"audio"|"video"|"other"|"none">}
 */
export async function kindOf(hit) {
  if (!hit.media_url) return "none";
  const { modality } = hit.record;
  const ending = String(hit.record.media).split(".").pop().toLowerCase();
  if (modality === "video" && ENDINGS.image.includes(ending)) return "image"; // an animation, which no player plays
  if (modality in ENDINGS) return modality;
  const known = Object.keys(ENDINGS).find((kind) => ENDINGS[kind].includes(ending));
  if (known) return known;
  const answer = await fetch(hit.media_url, { method: "HEAD" }).catch(() => null);
  const kind = answer?.ok ? (answer.headers.get("content-type") ?? "").split("/")[0] : "other";
  return kind in ENDINGS ? kind : "other";
}

/** @returns {string} the kind of an item's file, as its name ends: `TIFF` */
export function formatOf(hit) {
  const ending = /\.([a-z0-9]{1,5})$/i.exec(String(hit.record.media))?.[1].toUpperCase() ?? "File";
  return { TIF: "TIFF", JPG: "JPEG" }[ending] ?? ending;
}

/** @returns {string} a record's text; empty if it has none */
export function captionOf(hit) {
  for (const name of TEXTS) {
    const value = Array.isArray(hit.record[name]) ? hit.record[name][0] : hit.record[name];
    if (typeof value === "string" && value.trim()) return value.trim();
  }
  return "";
}

/** @returns {string} what a screen reader says of an item */
export function labelOf(hit) {
  return captionOf(hit) || hit.item_id;
}
