/** What is searched for and how it is shown: the address of the page, and the request to the service. */

/** Weight of an item that the search turns away from; all other parts have 1. */
const LESS = -0.5;
const FIELD = "f.";

export const EMPTY = Object.freeze({
  text: "", more: [], less: [], file: null, where: {}, candidates: "all", sort: "", falling: false, fold: true,
});

/** Read a query from the address, as `location.search` has it. */
export function fromAddress(search) {
  const given = new URLSearchParams(search);
  const where = {};
  for (const [name, value] of given) {
    if (name.startsWith(FIELD)) (where[name.slice(FIELD.length)] ??= []).push(readValue(value));
  }
  const sort = given.get("sort") ?? "";
  return {
    text: given.get("q") ?? "",
    more: given.getAll("more"),
    less: given.getAll("less"),
    file: given.get("file"),
    where,
    candidates: given.get("in") ?? "all",
    sort: sort.replace(/^-/, ""),
    falling: sort.startsWith("-"),
    fold: given.get("fold") !== "0",
  };
}

/** Return the address of a query, from its `?` on. */
export function toAddress(query) {
  const made = new URLSearchParams();
  if (query.text) made.set("q", query.text);
  query.more.forEach((id) => made.append("more", id));
  query.less.forEach((id) => made.append("less", id));
  if (query.file) made.set("file", query.file);
  for (const [name, values] of Object.entries(query.where)) {
    values.forEach((value) => made.append(FIELD + name, writeValue(value)));
  }
  if (query.candidates !== "all") made.set("in", query.candidates);
  if (query.sort) made.set("sort", (query.falling ? "-" : "") + query.sort);
  if (!query.fold) made.set("fold", "0");
  return `?${made}`;
}

/** A text that reads like a number or a truth value is quoted, so that it stays a text. */
function writeValue(value) {
  return typeof value === "string" && readValue(value) === value ? value : JSON.stringify(value);
}

function readValue(written) {
  try {
    const value = JSON.parse(written);
    return ["string", "number", "boolean"].includes(typeof value) ? value : written;
  } catch {
    return written;
  }
}

/** @returns {boolean} whether there is something to search for */
export function asks(query) {
  return Boolean(query.text.trim() || query.more.length || query.file);
}

/** @returns {number} how many values of filters are set */
export function filtersOf(query) {
  return Object.values(query.where).reduce((sum, values) => sum + values.length, 0);
}

/** Return the JSON of the search, without the file. */
export function toRequest(query, k) {
  const body = {};
  const items = [...query.more, ...query.less];
  if (query.text.trim()) body.text = query.text.trim();
  if (items.length) {
    body.item_id = items;
    body.weights = { item_id: items.map((_, place) => (place < query.more.length ? 1 : LESS)) };
  }
  const made = { k };
  if (items.length || body.text) made.query = body;
  if (filtersOf(query)) made.where = query.where;
  if (query.candidates !== "all") made.candidates = query.candidates;
  return made;
}

/** Return what two queries with the same answer have in common. */
export function searchKey(query) {
  return JSON.stringify([toRequest(query, 0), query.file]);
}

/** Return the query with an item as an example; `way` is "more" or "less". */
export function withItem(query, way, id) {
  const without = { more: query.more.filter((each) => each !== id), less: query.less.filter((each) => each !== id) };
  return { ...query, ...without, [way]: [...without[way], id] };
}

/** Return the query without an item. */
export function withoutItem(query, id) {
  return { ...query, more: query.more.filter((each) => each !== id), less: query.less.filter((each) => each !== id) };
}

/** @returns {string} the query in words, for titles and screen readers */
export function inWords(query) {
  const said = [];
  if (query.text.trim()) said.push(`“${query.text.trim()}”`);
  if (query.file) said.push("a file");
  if (query.more.length) said.push(`more like ${query.more.join(", ")}`);
  if (query.less.length) said.push(`less like ${query.less.join(", ")}`);
  return said.join(", ");
}
