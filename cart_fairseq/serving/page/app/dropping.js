/** Files that are dropped onto the page or pasted into it. */

import { el, icon } from "./dom.js";

/**
 * Listen for files.
 * @param {() => boolean} wanted whether a file may be a query now
 * @param {(file: File) => void} take called with a file
 */
export function takeFiles(wanted, take) {
  const veil = el("div", { className: "veil", hidden: true }, el("p", {}, icon("attach"), "Drop a picture, sound or clip to search with it"));
  document.body.append(veil);
  const has = (event) => wanted() && [...(event.dataTransfer?.types ?? [])].includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!has(event)) return;
    event.preventDefault();
    veil.hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) veil.hidden = true;
  });
  document.addEventListener("drop", (event) => {
    veil.hidden = true;
    if (!has(event)) return;
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) take(file);
  });
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData?.files ?? [];
    if (!file || !wanted()) return;
    event.preventDefault();
    take(file);
  });
}
