/** Files that were dropped or pasted. The browser keeps the latest ones, so that a reload and "back" find them. */

const MOST = 12;
const files = new Map();

function opened() {
  return new Promise((resolve, reject) => {
    const asked = indexedDB.open("cart-search", 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore("files");
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** Keep a file; returns its name in the address. */
export function keep(file) {
  const id = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 8)}`; // in order of time
  files.set(id, file);
  store(id, file).catch(() => {}); // a private window has no such store; the file is there until a reload
  return id;
}

async function store(id, file) {
  const files = (await opened()).transaction("files", "readwrite").objectStore("files");
  files.put(file, id);
  const kept = await done(files.getAllKeys());
  kept.slice(0, -MOST).forEach((old) => files.delete(old));
}

/** Return a kept file; null if this browser has none of that name. */
export async function find(id) {
  if (!id) return null;
  if (!files.has(id)) {
    const file = await opened()
      .then((base) => done(base.transaction("files").objectStore("files").get(id)))
      .catch(() => null);
    if (!file) return null;
    files.set(id, file);
  }
  return files.get(id);
}

/** @returns {string} what is wrong with a file as a query; empty if nothing is */
export function wrongWith(file, limits) {
  if (!/^(image|audio|video)\//.test(file.type)) return `${file.name || "The file"} is no picture, sound or clip.`;
  if (file.size > limits.upload_bytes) {
    return `${file.name || "The file"} is too large; the service takes at most ${Math.floor(limits.upload_bytes / 2 ** 20)} MiB.`;
  }
  return "";
}
