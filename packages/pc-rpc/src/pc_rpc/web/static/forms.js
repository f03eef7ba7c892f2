// Forms: a target, its methods, the fields of each. Texts are never inserted as HTML.

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

let count = 0;

class Field {
  constructor(spec) {
    this.spec = spec;
    this.element = make("div", "field");
    const id = `field-${(count += 1)}`;
    const label = this.element.appendChild(make("label"));
    label.htmlFor = id;
    const stars = { arguments: "*", keywords: "**" }[spec.place] ?? "";
    label.append(make("b", "", stars + spec.name), make("span", "", this.kind()));
    const entry = this.element.appendChild(make("div", "entry"));
    this.input = entry.appendChild(this.entry());
    this.input.id = id;
    this.input.name = spec.name;
    if (spec.unit) entry.append(make("span", "unit", spec.unit));
    if (spec.help) {
      const help = this.element.appendChild(make("p", "help", spec.help));
      help.id = `${id}-help`;
      this.input.setAttribute("aria-describedby", help.id);
    }
  }

  kind() {
    const names = { float: "number", int: "whole number", bool: "", str: "text", choice: "", pyon: "PYON" };
    return names[this.spec.kind];
  }

  entry() {
    const { kind, required, choices } = this.spec;
    if (kind === "choice" || kind === "bool") {
      const select = make("select");
      const options = kind === "bool" ? [["true", "True"], ["false", "False"]] : choices.map((one, i) => [i, one]);
      if (!required) options.unshift(["", `default: ${this.spec.default}`]);
      for (const [value, text] of options) select.add(new Option(text, value));
      return select;
    }
    const input = make("input");
    input.type = "text";
    input.autocomplete = "off";
    input.spellcheck = false;
    if (kind === "float" || kind === "int") input.inputMode = kind === "int" ? "numeric" : "decimal";
    if (!required && this.spec.default !== "") input.placeholder = `default: ${this.spec.default}`;
    return input;
  }
}

class Method {
  constructor(spec, submit) {
    this.name = spec.name;
    this.element = make("form", "method");
    this.element.noValidate = true;
    this.element.ariaLabel = spec.name;
    const line = this.element.appendChild(make("div", "line"));
    line.append(make("h3", "", spec.name));
    const [first, ...rest] = spec.doc.split("\n");
    line.append(make("span", "about", first));
    this.button = line.appendChild(make("button", "go", "Call"));
    this.button.ariaLabel = `Call ${spec.name}`;
    this.fields = spec.fields.map((one) => new Field(one));
    if (this.fields.length) {
      const fields = this.element.appendChild(make("div", "fields"));
      fields.append(...this.fields.map((one) => one.element));
    }
    const more = rest.join("\n").trim();
    if (more) {
      const details = this.element.appendChild(make("details"));
      details.append(make("summary", "", "Documentation"));
      const text = details.appendChild(make("pre", "", more));
      text.tabIndex = 0;
      text.setAttribute("role", "group");
      text.ariaLabel = `Documentation of ${spec.name}`;
    }
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      const typed = this.fields.map(({ input }) => [input.name, input.value]);
      submit(this.name, Object.fromEntries(typed));
    });
  }
}

export class Target {
  constructor(name, submit) {
    this.submit = submit;
    this.element = make("section", "target");
    this.title = this.element.appendChild(make("h2", "", name));
    this.title.id = `target-${(count += 1)}`;
    this.element.setAttribute("aria-labelledby", this.title.id);
    this.doc = this.element.appendChild(make("p", "doc"));
    this.list = this.element.appendChild(make("div", "card"));
    this.methods = [];
  }

  show({ doc, methods }) {
    const [first] = doc.split("\n\n");
    this.doc.textContent = first;
    this.methods = methods.map((spec) => new Method(spec, this.submit));
    this.list.replaceChildren(...this.methods.map((one) => one.element));
  }

  allow(allowed) {
    for (const { button } of this.methods) button.disabled = !allowed;
  }

  filter(words) {
    for (const { element, name } of this.methods) {
      element.hidden = !words.every((word) => name.toLowerCase().includes(word));
    }
    this.element.hidden = this.methods.length > 0 && this.methods.every(({ element }) => element.hidden);
  }
}
