/** The place on the page, which each entry of the history keeps, so that back and forward go to it. */

const PAUSE = 200;
let soon;

/** Keep the place from now on whenever scrolling pauses. */
export function followPlace() {
  history.scrollRestoration = "manual";
  addEventListener("scroll", () => {
    clearTimeout(soon);
    soon = setTimeout(keepPlace, PAUSE);
  }, { passive: true });
}

/** Keep the place now: another entry begins. */
export function keepPlace() {
  clearTimeout(soon);
  history.replaceState({ y: scrollY }, "");
}
