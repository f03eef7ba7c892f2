// The panel of an open row: the line, image or text of its value.

import { Image, Lines } from "./draw.js";

export class Panel {
  constructor() {
    this.element = document.createElement("div");
    this.element.className = "panel";
    this.kind = null;
  }

  // Show the drawing or text of a row; return whether it has one.
  show(row) {
    const kind = row.plot ? row.kind : row.text === undefined ? null : "text";
    if (kind !== this.kind) this.make(kind);
    if (kind === "text") {
      this.text.textContent = row.text;
      this.note.textContent = row.note;
    } else if (kind) this.drawing.show(row.plot);
    return kind !== null;
  }

  make(kind) {
    this.clear();
    this.kind = kind;
    if (kind === "text") {
      this.text = this.element.appendChild(document.createElement("pre"));
      this.text.tabIndex = 0;
      this.text.ariaLabel = "text";
      this.text.setAttribute("role", "group");
      this.note = this.element.appendChild(document.createElement("p"));
    } else if (kind) {
      this.drawing = kind === "image" ? new Image() : new Lines();
      this.element.append(this.drawing.element);
    }
  }

  clear() {
    this.drawing?.remove();
    this.drawing = null;
    this.element.replaceChildren();
    this.kind = null;
  }
}
