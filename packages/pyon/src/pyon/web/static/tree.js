// A tree of rows that follows the WAI-ARIA pattern: one row is in the tab order, arrow keys move.
//
// All rows are children of the tree element; aria-level gives the level of a row.

import { moves, spark } from "./draw.js";
import { Panel } from "./panel.js";

const PARTS = 100; // parts shown of a branch when it is opened
const MORE = 400; // further parts with each "more"
const MOST = 2000; // parts that the server sends at most
const FLASH = 900; // milliseconds

const openable = (row) =>
  row.kind === "line" || row.kind === "image" || (row.kind === "text" && row.long) ||
  (row.kind === "branch" && row.count > 0);

class Row {
  constructor(tree, id, name, parent) {
    Object.assign(this, { tree, id, name, parent, opened: false, most: 0, parts: [], row: null });
    this.level = parent ? parent.level + 1 : 1;
    this.element = document.createElement("div");
    this.element.className = "row";
    this.element.setAttribute("role", "treeitem");
    this.element.setAttribute("aria-level", this.level);
    this.element.tabIndex = -1;
    this.element.style.setProperty("--level", this.level - 1);
    if (id !== null) this.element.dataset.path = id;
    this.head = this.element.appendChild(document.createElement("div"));
    this.head.className = "head";
    this.label = this.head.appendChild(document.createElement("span"));
    this.label.className = "name";
    this.label.textContent = name;
    this.label.title = id;
    this.value = this.head.appendChild(document.createElement("span"));
    this.value.className = "value";
    this.spark = this.head.appendChild(document.createElement("canvas"));
    this.spark.className = "spark";
    this.spark.setAttribute("aria-hidden", "true");
    this.head.addEventListener("click", () => tree.click(this));
    if (tree.pins) this.addPin();
  }

  addPin() {
    this.pin = this.head.appendChild(document.createElement("button"));
    this.pin.type = "button";
    this.pin.className = "pin";
    this.pin.tabIndex = -1;
    this.pin.addEventListener("click", (event) => {
      event.stopPropagation();
      this.tree.pins.toggle(this.id);
    });
    this.markPin();
  }

  markPin() {
    if (!this.pin) return;
    const pinned = this.tree.pins.has(this.id);
    this.pin.textContent = pinned ? "●" : "○";
    this.pin.ariaPressed = String(pinned);
    this.pin.ariaLabel = `Pin ${this.name}`;
    this.pin.title = pinned ? "Unpin (p)" : "Pin (p)";
  }

  // Parts of an open branch may be on the screen when its head is not.
  get unseen() {
    return this.opened && this.row?.kind === "branch" ? "open" : null;
  }

  get width() {
    return Math.max(64, this.element.clientWidth - 24 * this.level) * devicePixelRatio;
  }

  update(row, history) {
    const old = this.row;
    this.row = row;
    if (this.value.textContent !== row.line) {
      this.value.textContent = row.line;
      if (old && row.kind !== "branch") this.flash();
    }
    this.element.dataset.kind = row.kind;
    if (moves(history)) spark(this.spark, history[1], history[0]);
    else if (row.spark) spark(this.spark, row.spark);
    else if (this.spark.width) this.spark.width = 0;
    if (!openable(row)) {
      if (this.opened) this.tree.shut(this);
      this.element.removeAttribute("aria-expanded");
    } else if (this.opened) this.fill();
    else if (this.tree.wanted.has(this.id)) this.tree.open(this);
    else this.element.setAttribute("aria-expanded", "false");
  }

  flash() {
    if (this.flashing) return;
    this.flashing = true;
    this.value.classList.add("changed");
    setTimeout(() => {
      this.flashing = false;
      this.value.classList.remove("changed");
    }, FLASH);
  }

  // Show the contents of an open row: parts below it, or a panel in it.
  fill() {
    if (this.row.kind === "branch") {
      this.empty();
      if (this.row.parts) this.tree.place(this);
      return;
    }
    if (this.parts.length) this.tree.removeParts(this);
    if (!this.panel) {
      this.panel = new Panel();
      this.element.append(this.panel.element);
    }
    this.panel.show(this.row);
  }

  empty() {
    this.panel?.clear();
    this.panel?.element.remove();
    this.panel = null;
  }
}

export class Tree {
  // `pins` has toggle(id), has(id); `onChange` is called when a row was opened or closed.
  constructor(element, store, { pins = null, onChange = () => {} } = {}) {
    Object.assign(this, { element, store, pins, onChange });
    this.rows = new Map();
    this.roots = [];
    this.wanted = new Set(); // ids of rows to open when they are received
    this.current = null;
    element.setAttribute("role", "tree");
    element.addEventListener("keydown", (event) => this.key(event));
    element.addEventListener("focusin", (event) => this.focusIn(event));
  }

  // Show these rows on the top level: pairs of id and name.
  show(roots) {
    const ids = new Set(roots.map(([id]) => id));
    for (const row of [...this.roots]) if (!ids.has(row.id)) this.remove(row);
    const known = new Map(this.roots.map((row) => [row.id, row]));
    this.roots = roots.map(([id, name]) => known.get(id) ?? this.make(id, name, null));
    this.arrange(null, this.roots);
  }

  make(id, name, parent) {
    const row = new Row(this, id, name, parent);
    this.rows.set(id, row);
    return row;
  }

  // Put rows in order behind their parent, set their ARIA position, and watch new ones.
  arrange(parent, rows) {
    let after = parent?.element ?? null;
    rows.forEach((row, i) => {
      const next = after ? after.nextSibling : this.element.firstChild;
      const fresh = !row.element.isConnected;
      if (next !== row.element) {
        const moved = this.below(row);
        for (const one of [row, ...moved]) {
          this.element.insertBefore(one.element, after ? after.nextSibling : this.element.firstChild);
          after = one.element;
        }
      }
      row.element.setAttribute("aria-posinset", i + 1);
      row.element.setAttribute("aria-setsize", rows.length);
      if (fresh && row.id !== null) {
        this.store.watch(row.id, row);
        if (this.wanted.has(row.id)) this.open(row);
      }
      after = this.last(row).element;
    });
    if (!this.current || !this.current.element.isConnected) this.setCurrent(this.roots[0] ?? null);
  }

  below(row) {
    return row.parts.flatMap((part) => [part, ...this.below(part)]);
  }

  last(row) {
    return this.below(row).at(-1) ?? row;
  }

  place(row) {
    const { parts, names, count, first } = row.row;
    const known = new Map(row.parts.map((part) => [part.id, part]));
    const rows = parts.map((id, i) => known.get(id) ?? this.rows.get(id) ?? this.make(id, names[i], row));
    const kept = new Set(rows);
    const left = count - parts.length;
    if (left > 0) {
      const more = row.parts.find((part) => part.id === null) ?? this.makeMore(row);
      const what = first ? "more" : "earlier";
      more.label.textContent =
        parts.length >= MOST
          ? `${left.toLocaleString("en")} ${what} are not shown; the search finds them`
          : `… ${left.toLocaleString("en")} ${what}`;
      kept.add(more);
      if (first) rows.push(more);
      else rows.unshift(more);
    }
    for (const part of row.parts) if (!kept.has(part)) this.remove(part);
    row.parts = rows;
    this.arrange(row, rows);
  }

  makeMore(row) {
    const more = new Row(this, null, "", row);
    more.element.classList.add("more");
    more.pin?.remove();
    more.pin = null;
    more.spark.remove();
    more.value.remove();
    return more;
  }

  removeParts(row) {
    for (const part of row.parts) this.remove(part);
    row.parts = [];
  }

  remove(row) {
    this.removeParts(row);
    if (this.current === row) this.setCurrent(row.parent ?? this.roots.find((one) => one !== row) ?? null, row.element.contains(document.activeElement));
    row.empty();
    row.element.remove();
    if (row.id === null) return;
    this.rows.delete(row.id);
    this.store.forget(row.id, row);
  }

  open(row) {
    if (row.row && !openable(row.row)) return;
    row.opened = true;
    row.most ||= PARTS;
    row.element.setAttribute("aria-expanded", "true");
    this.wanted.add(row.id);
    if (row.row) row.fill(); // another viewer may have received the contents already
    this.store.ask();
    this.onChange();
  }

  close(row) {
    this.wanted.delete(row.id);
    row.element.setAttribute("aria-expanded", "false");
    this.shut(row);
    this.onChange();
  }

  // Hide the contents for now; the row opens again when it has some.
  shut(row) {
    row.opened = false;
    this.removeParts(row);
    row.empty();
    this.store.ask();
  }

  toggle(row) {
    if (row.id === null) this.more(row.parent);
    else if (row.opened) this.close(row);
    else if (row.row && openable(row.row)) this.open(row);
  }

  more(row) {
    row.most = Math.min(MOST, row.most + MORE);
    this.store.ask();
  }

  click(row) {
    if (getSelection().type === "Range") return; // the user is selecting text
    this.setCurrent(row, true);
    this.toggle(row);
  }

  // The keyboard.

  focusIn(event) {
    const element = event.target.closest("[role=treeitem]");
    const row = this.order().find((one) => one.element === element);
    if (row) this.setCurrent(row);
  }

  setCurrent(row, focus = false) {
    if (this.current) this.current.element.tabIndex = -1;
    this.current = row;
    if (!row) return;
    row.element.tabIndex = 0;
    if (focus) row.element.focus({ preventScroll: false });
  }

  order() {
    return this.roots.flatMap((row) => [row, ...this.below(row)]);
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || !this.current) return;
    if (event.target.getAttribute("role") !== "treeitem") return;
    const rows = this.order();
    const at = rows.indexOf(this.current);
    const go = (row) => row && this.setCurrent(row, true);
    const row = this.current;
    const keys = {
      ArrowDown: () => go(rows[at + 1]),
      ArrowUp: () => go(rows[at - 1]),
      Home: () => go(rows[0]),
      End: () => go(rows.at(-1)),
      ArrowRight: () => (row.opened ? go(row.parts[0]) : this.toggle(row)),
      ArrowLeft: () => (row.opened ? this.close(row) : go(row.parent)),
      Enter: () => this.toggle(row),
      " ": () => this.toggle(row),
      p: () => row.id !== null && this.pins?.toggle(row.id),
    };
    if (!(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  }

  markPins() {
    for (const row of this.rows.values()) row.markPin();
  }
}
