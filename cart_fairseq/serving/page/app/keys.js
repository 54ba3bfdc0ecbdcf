/** Keys of the whole page: to the search box, and from it to the hits. */

/**
 * @param {KeyboardEvent} event
 * @param {HTMLInputElement} input the search box
 * @param {HTMLElement} results the hits
 */
export function key(event, input, results) {
  const writes = event.target.matches?.("input:not([type=checkbox], [type=radio], [type=range]), select, textarea");
  const inDialog = Boolean(document.querySelector("dialog[open]"));
  if (event.key === "/" && !writes && !inDialog) {
    event.preventDefault();
    input.select();
    input.focus();
  } else if (event.key === "ArrowDown" && event.target === input) {
    if (results.enter()) event.preventDefault();
  } else if (event.key === "Escape" && !inDialog && event.target !== input) {
    input.focus();
  }
}
