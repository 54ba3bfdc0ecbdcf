/** Saves what was found as JSON or CSV. */

import { el } from "./dom.js";
import { inWords } from "./query.js";

/**
 * Save hits as a file of the browser's downloads.
 * @param {"json"|"csv"} kind
 * @param {object} query
 * @param {object[]} hits in the order of their scores
 */
export function save(kind, query, hits) {
  const content = kind === "json" ? asJson(query, hits) : asCsv(hits);
  const address = URL.createObjectURL(new Blob([content], { type: kind === "json" ? "application/json" : "text/csv" }));
  const name = inWords(query).toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "search";
  el("a", { href: address, download: `${name}.${kind}` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

function addressOf(hit) {
  return hit.media_url && new URL(hit.media_url, location.href).href;
}

export function asJson(query, hits) {
  const found = hits.map((hit, place) => ({ rank: place + 1, ...hit, media_url: addressOf(hit) }));
  return JSON.stringify({ address: location.href, saved: new Date().toISOString(), query, hits: found }, null, 2);
}

export function asCsv(hits) {
  const own = ["rank", "item_id", "score", "probability", "media_url"];
  const fields = [...new Set(hits.flatMap((hit) => Object.keys(hit.record)))].filter((name) => !own.includes(name));
  const rows = hits.map((hit, place) => [
    place + 1, hit.item_id, hit.score, hit.probability, addressOf(hit), ...fields.map((name) => hit.record[name]),
  ]);
  return [[...own, ...fields], ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

function cell(value) {
  if (value === null || value === undefined) return "";
  let text = typeof value === "object" ? JSON.stringify(value) : String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`; // a spreadsheet would run it as a formula
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
