// Calls: each is a card with its state and its result.

import { Tree } from "./tree.js";

const MOST = 30; // cards that are kept, as many as at the server

class Card {
  constructor(number, store, { cancel, drop }) {
    Object.assign(this, { number, store, seconds: 0, received: performance.now() });
    this.id = JSON.stringify([String(number)]);
    this.element = document.createElement("article");
    this.element.className = "card call";
    const line = this.add("div", "line");
    this.spinner = this.add("span", "spinner", line);
    this.spinner.setAttribute("aria-hidden", "true");
    this.title = this.add("h3", "", line);
    this.how = this.add("span", "how", line);
    this.how.setAttribute("role", "status");
    this.cancel = this.add("button", "cancel", line);
    this.cancel.textContent = "Cancel";
    this.cancel.addEventListener("click", () => cancel(number));
    this.drop = this.add("button", "drop", line);
    this.drop.textContent = "×";
    this.drop.addEventListener("click", () => drop(number));
    for (const button of [this.cancel, this.drop]) button.type = "button";
    this.error = this.add("p", "error");
    this.details = this.add("details", "");
    this.add("summary", "", this.details).textContent = "Traceback at the server";
    this.traceback = this.add("pre", "", this.details);
    this.traceback.tabIndex = 0;
    this.traceback.setAttribute("role", "group");
    this.traceback.ariaLabel = "Traceback";
  }

  add(tag, className, parent = this.element) {
    const element = parent.appendChild(document.createElement(tag));
    element.className = className;
    return element;
  }

  show(call) {
    const running = call.state === "running";
    Object.assign(this, { state: call.state, seconds: call.seconds, received: performance.now() });
    this.element.dataset.state = call.state;
    this.title.textContent = call.title;
    this.title.title = call.title;
    this.cancel.ariaLabel = `Cancel ${call.title}`;
    this.drop.ariaLabel = `Remove ${call.title}`;
    this.cancel.hidden = this.spinner.hidden = !running;
    this.drop.hidden = running;
    this.error.hidden = !call.error;
    this.error.textContent = call.error;
    this.details.hidden = !call.traceback;
    this.traceback.textContent = call.traceback;
    this.tick();
  }

  tick() {
    const running = this.state === "running";
    const seconds = this.seconds + (running ? (performance.now() - this.received) / 1000 : 0);
    const text = running ? `${Math.floor(seconds)} s` : `${this.state}, ${time(seconds)}`;
    if (this.how.textContent !== text) this.how.textContent = text;
  }

  // The result is shown as soon as there is one: items of a stream arrive while the call runs.
  showResult() {
    if (this.tree) return;
    const element = this.add("div", "");
    element.ariaLabel = `Result of ${this.title.textContent}`;
    this.tree = new Tree(element, this.store);
    this.tree.wanted.add(this.id);
    this.tree.show([[this.id, "result"]]);
  }

  remove() {
    this.tree?.show([]);
    this.element.remove();
  }
}

function time(seconds) {
  return seconds < 1 ? `${Math.round(1000 * seconds)} ms` : `${seconds.toFixed(1)} s`;
}

export class Calls {
  constructor(element, store, send, onChange) {
    Object.assign(this, { element, store, send, onChange });
    this.cards = new Map();
    this.number = 0;
    setInterval(() => this.tick(), 500);
  }

  get size() {
    return this.cards.size;
  }

  begin(target, method, typed) {
    this.number += 1;
    this.send({ call: this.number, target, method, typed });
  }

  take(call) {
    if (!this.cards.has(call.number)) {
      const card = new Card(call.number, this.store, {
        cancel: (number) => this.send({ cancel: number }),
        drop: (number) => {
          this.send({ forget: number });
          this.remove(number);
        },
      });
      this.cards.set(call.number, card);
      this.element.prepend(card.element);
      if (call.number === this.number) card.element.scrollIntoView({ block: "nearest" });
      for (const number of [...this.cards.keys()].slice(0, -MOST)) this.remove(number);
    }
    const card = this.cards.get(call.number);
    card?.show(call);
    if (card && (call.state === "done" || call.items)) card.showResult();
    this.onChange();
  }

  remove(number) {
    this.cards.get(number)?.remove();
    this.cards.delete(number);
    this.onChange();
  }

  tick() {
    for (const card of this.cards.values()) if (card.state === "running") card.tick();
  }
}
