/** <search-box>: the text, and chips of a file and of items as examples. Tells `ask` with what changes in the query,
 * and `search-now` for Enter and the Search button. */

import { item } from "./api.js";
import { el, icon, iconButton, tell } from "./dom.js";
import { captionOf, kindOf } from "../media/kinds.js";
import { withoutItem } from "./query.js";
import { find } from "./uploads.js";

const ICONS = { image: "file", audio: "sound", video: "clip", other: "file", none: "file" };

export class SearchBox extends HTMLElement {
  connectedCallback() {
    this.input = el("input", {
      type: "search", id: "query", name: "q", autocomplete: "off", maxLength: 2000, "aria-label": "Search text",
      enterkeyhint: "search", spellcheck: true,
    });
    this.chips = el("ul", { className: "chips", "aria-label": "Examples in the query", hidden: true });
    this.files = el("input", {
      type: "file", accept: "image/*,audio/*,video/*", hidden: true, tabIndex: -1, "aria-label": "File as query",
      onchange: () => this.chosen(),
    });
    this.attach = iconButton("attach", "Search with a picture, sound or clip", () => this.files.click(), { hidden: true });
    this.clear = iconButton("close", "Clear the search", () => this.tellEmpty(), { hidden: true });
    this.why = el("p", { className: "why", hidden: true });
    const go = el("button", { type: "submit", className: "go", "aria-label": "Search", title: "Search" }, icon("search"));
    this.form = el(
      "form",
      { role: "search", "aria-label": "Catalogue", action: "/", onsubmit: (event) => this.submit(event) },
      this.chips,
      el("div", { className: "line-of-text" }, this.input, this.clear, this.attach, go),
      this.files,
    );
    this.input.addEventListener("input", () => this.showClear());
    this.replaceChildren(this.form, this.why);
  }

  /** Show a query. */
  show(query) {
    this.query = query;
    this.input.value = query.text;
    const chips = [
      ...(query.file ? [this.chipOfFile(query.file)] : []),
      ...query.more.map((id) => this.chipOfItem(id, "more")),
      ...query.less.map((id) => this.chipOfItem(id, "less")),
    ];
    this.chips.hidden = !chips.length;
    this.chips.replaceChildren(...chips);
    this.showClear();
  }

  /** Offer only what the model takes; say why, if it takes texts alone. */
  offer(info) {
    const { text, media, item_id: items, reason } = info.queries;
    this.attach.hidden = !media;
    this.input.disabled = !text;
    this.input.placeholder = text ? "Describe what you look for" : "Search by example: drop a file here";
    this.why.hidden = media && items && text;
    const missing = items ? "pictures, sounds or clips of yours" : "examples";
    const because = reason || "the data does not name the encoder of its embeddings";
    this.why.textContent = text ? `This model does not search with ${missing}: ${because}` : "Nothing was trained to read texts: search by example.";
  }

  showClear() {
    this.clear.hidden = !this.input.value && this.chips.hidden;
  }

  submit(event) {
    event.preventDefault();
    tell(this, "search-now", { ...this.query, text: this.input.value.trim() });
  }

  tellEmpty() {
    this.input.focus();
    tell(this, "ask", { ...this.query, text: "", more: [], less: [], file: null });
  }

  chosen() {
    const [file] = this.files.files;
    this.files.value = "";
    if (file) tell(this, "file", file);
  }

  /** What the text is now, even if it was not searched yet. */
  get text() {
    return this.input.value.trim();
  }

  chip(sign, thumb, name, remove, onclick) {
    const label = el("span", { className: "chip-name" }, name);
    const button = el("button", { type: "button", className: "chip-remove", "aria-label": remove, title: remove, onclick }, icon("close"));
    const mark = sign && el("span", { className: `sign ${sign}` }, icon(sign === "more" ? "plus" : "minus"));
    return { chip: el("li", { className: `chip ${sign}` }, thumb, mark, label, button), label };
  }

  chipOfFile(id) {
    const thumb = el("span", { className: "thumb" }, icon("file"));
    const gone = () => tell(this, "ask", { ...this.query, text: this.text, file: null });
    const { chip, label } = this.chip("", thumb, "Your file", "Remove your file", gone);
    find(id).then((file) => {
      if (!file) {
        label.textContent = "A file that is not here any more";
        return;
      }
      const kind = file.type.split("/")[0];
      label.textContent = file.name && file.name !== "image.png" ? file.name : { image: "Your picture", audio: "Your sound", video: "Your clip" }[kind];
      if (kind !== "image") thumb.replaceChildren(icon(ICONS[kind] ?? "file"));
      else thumb.replaceChildren(pictureOf(file));
    });
    return chip;
  }

  chipOfItem(id, way) {
    const thumb = el("span", { className: "thumb" }, icon("file"));
    const gone = () => tell(this, "ask", { ...withoutItem(this.query, id), text: this.text });
    const { chip, label } = this.chip(way, thumb, id, `Remove ${way} like ${id}`, gone);
    chip.title = `${way === "more" ? "More" : "Less"} like ${id}`;
    item(id)
      .then(async (found) => {
        label.textContent = captionOf(found) || id;
        const kind = await kindOf(found);
        const picture = kind === "image" ? el("img", { src: found.media_url, alt: "", draggable: false }) : icon(ICONS[kind]);
        thumb.replaceChildren(picture);
      })
      .catch(() => {}); // the search itself says what is wrong with it
    return chip;
  }
}

function pictureOf(file) {
  const picture = el("img", { src: URL.createObjectURL(file), alt: "", draggable: false });
  picture.addEventListener("load", () => URL.revokeObjectURL(picture.src), { once: true });
  return picture;
}

customElements.define("search-box", SearchBox);
