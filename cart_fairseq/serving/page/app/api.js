/** Requests to the service, with the token if it asks for one. */

import { toRequest } from "./query.js";

const TOKEN = "cart-token";
const BUSY = new Set([429, 503]);

/** The service did not do what it was asked for. */
export class Refused extends Error {
  /**
   * @param {"token"|"busy"|"request"|"server"|"network"} kind
   * @param {{field: string, found: string, remedy: string}|null} error what the service says
   * @param {number} seconds after which to try again, if it is busy
   */
  constructor(kind, error = null, seconds = 0) {
    super(error ? `${error.field}: ${error.found}; ${error.remedy}` : kind);
    Object.assign(this, { kind, error, seconds });
  }
}

async function ask(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { ...options.headers, ...(token ? { authorization: `Bearer ${token}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
    if (answer.ok) return answer.status === 204 ? null : await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("network");
  }
  const said = await answer.json().catch(() => null);
  throw new Refused(kindOf(answer.status), said?.error ?? null, Number(answer.headers.get("retry-after")) || 0);
}

function kindOf(status) {
  if (status === 401) return "token";
  if (BUSY.has(status)) return "busy";
  return status >= 500 ? "server" : "request";
}

/** What the service has; with the cookie for media, if there is a token. */
export async function begin() {
  if (sessionStorage.getItem(TOKEN)) await ask("/api/session", { method: "POST" });
  const [info, facets] = await Promise.all([ask("/api/info"), ask("/api/facets")]);
  return { info, facets };
}

/** Keep a token for this tab; raises Refused if it is wrong. */
export async function useToken(token) {
  sessionStorage.setItem(TOKEN, token.trim());
  try {
    await ask("/api/session", { method: "POST" });
  } catch (error) {
    sessionStorage.removeItem(TOKEN);
    throw error;
  }
}

/**
 * Search.
 * @param {object} query
 * @param {File|null} file what was dropped or pasted
 * @param {number} k
 * @param {AbortSignal} signal
 */
export async function search(query, file, k, signal) {
  const request = JSON.stringify(toRequest(query, k));
  if (!file) {
    const headers = { "content-type": "application/json" };
    return ask("/api/search", { method: "POST", body: request, headers, signal });
  }
  const form = new FormData();
  form.set("request", request);
  form.set("media", file, "file");
  return ask("/api/search", { method: "POST", body: form, signal });
}

/** Some items, for those who have no query yet. */
export async function sample() {
  return (await ask("/api/sample")).items.map((item) => ({ ...item, score: null, probability: null }));
}

const items = new Map();

/** An item's record and address; asked for once. */
export function item(id) {
  if (!items.has(id)) {
    const asked = ask(`/api/items/${encodeURIComponent(id)}`);
    asked.catch(() => items.delete(id));
    items.set(id, asked);
  }
  return items.get(id);
}
