/** Answers that back and forward show again, unless the catalogue has changed since. */

const MOST = 20;

export class Answers {
  kept = new Map();

  /** Take note of the catalogue that an answer is from: its revision and number of items. */
  note(catalogue) {
    this.catalogue = JSON.stringify(catalogue);
  }

  keep(key, answer) {
    this.note(answer.catalogue);
    this.kept.delete(key);
    this.kept.set(key, answer);
    if (this.kept.size > MOST) this.kept.delete(this.kept.keys().next().value);
  }

  /** Return the answer to a search; null if there is none of the latest catalogue that is known. */
  get(key) {
    const answer = this.kept.get(key);
    return answer && JSON.stringify(answer.catalogue) === this.catalogue ? answer : null;
  }
}
