// Pinned values: an open card for each; its history is recorded even while it is off the screen.

import { moves, spark } from "./draw.js";
import { Panel } from "./panel.js";

class Card {
  constructor(id, onUnpin) {
    Object.assign(this, { id, opened: true, unseen: "closed", most: 20 });
    this.element = document.createElement("article");
    this.element.className = "card";
    this.element.dataset.path = id;
    const title = this.element.appendChild(document.createElement("div"));
    title.className = "title";
    const name = title.appendChild(document.createElement("h3"));
    name.textContent = id;
    name.title = id;
    const button = title.appendChild(document.createElement("button"));
    Object.assign(button, { type: "button", className: "pin", textContent: "●", title: "Unpin" });
    button.ariaLabel = `Unpin ${id}`;
    button.ariaPressed = "true";
    button.addEventListener("click", onUnpin);
    this.value = this.element.appendChild(document.createElement("span"));
    this.value.className = "value";
    this.spark = this.element.appendChild(document.createElement("canvas"));
    this.spark.className = "spark";
    this.spark.setAttribute("aria-hidden", "true");
    this.panel = new Panel();
    this.element.append(this.panel.element);
  }

  get width() {
    return Math.max(64, this.element.clientWidth - 26) * devicePixelRatio;
  }

  update(row, history) {
    this.element.dataset.kind = row.kind;
    this.value.textContent = row.line;
    if (moves(history)) spark(this.spark, history[1], history[0]);
    this.panel.show(row);
    this.value.hidden = this.panel.kind === "text";
  }
}

export class Pins {
  constructor(element, store, onChange) {
    Object.assign(this, { element, store, onChange });
    this.cards = new Map();
  }

  get size() {
    return this.cards.size;
  }

  has(id) {
    return this.cards.has(id);
  }

  ids() {
    return [...this.cards.keys()];
  }

  toggle(id) {
    const old = this.cards.get(id);
    if (old) {
      this.cards.delete(id);
      old.element.remove();
      this.store.forget(id, old);
      old.panel.clear();
    } else {
      const card = new Card(id, () => this.toggle(id));
      this.cards.set(id, card);
      this.element.append(card.element);
      this.store.watch(id, card);
    }
    this.onChange();
  }
}
