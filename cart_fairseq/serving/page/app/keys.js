/** Keys of the whole page: to the search box, in it, and from it to the hits. */

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
  } else if (event.key === "Escape" && !inDialog) {
    if (event.target !== input) input.focus();
    else if (input.value) {
      event.preventDefault(); // not every browser does it
      input.value = "";
      input.dispatchEvent(new Event("input", { bubbles: true }));
    }
  }
}
