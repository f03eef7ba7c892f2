// The page of `sync-struct web`: structures as a tree, with pinned values beside it.
//
// The fragment of the address lists the pinned and open paths, so a link leads to the same view.

import { Pins } from "./pins.js";
import { Store } from "./store.js";
import { Tree } from "./tree.js";
import { Wire } from "./wire.js";

const at = (id) => document.getElementById(id);
const marks = new URLSearchParams(location.hash.slice(1));
const store = new Store((message) => wire.send(message));
const pins = new Pins(at("cards"), store, () => {
  at("pinned").hidden = !pins.size;
  for (const one of [tree, found]) one.markPins();
  keep();
});
const tree = new Tree(at("tree"), store, { pins, onChange: () => keep() });
const found = new Tree(at("found-tree"), store, { pins });
let states = {};
let link = [false, new Date()];

const wire = new Wire({
  onOpen() {
    store.ask(true);
    search();
  },
  onState(...state) {
    link = state;
    showStates();
  },
  onFrame(header, buffers) {
    if (header.place) {
      at("title").textContent = header.place;
      document.title = `${Object.keys(header.states).join(", ")} · sync-struct`;
    }
    if (header.states) {
      const now = Date.now();
      for (const state of Object.values(header.states)) state.since = new Date(now - 1000 * state.age);
      states = header.states;
      tree.show(Object.values(states).map(({ id }, i) => [id, Object.keys(states)[i]]));
      showStates();
    }
    store.take(header.rows, buffers);
    if (header.found) showFound(header.found);
  },
});

// The states of the connections: of this page, and of each structure.

function showStates() {
  const [connected, since] = link;
  const shown = connected
    ? Object.entries(states).map(([name, one]) => [name, one.state, one.since])
    : [["this page", "stale", since]];
  at("states").replaceChildren(...shown.map((one) => chip(...one)));
  const troubles = connected
    ? Object.values(states).filter((one) => one.trouble).map((one) => one.trouble)
    : ["No connection to the server of this page. The values are old. Reconnecting."];
  const text = [...new Set(troubles)].join(" · ");
  if (at("trouble").textContent !== text) at("trouble").textContent = text;
  document.body.dataset.live = connected && shown.every(([, state]) => state === "live");
}

function chip(name, state, since) {
  const item = document.createElement("li");
  item.className = "state";
  item.dataset.state = state;
  const word = document.createElement("span");
  word.textContent = `${state} since ${time(since)}`;
  item.append(Object.assign(document.createElement("b"), { textContent: name }), " ", word);
  return item;
}

function time(date) {
  const clock = date.toLocaleTimeString("en-GB");
  return date.toDateString() === new Date().toDateString() ? clock : `${date.toLocaleDateString("sv")} ${clock}`;
}

// Search.

let asking = null;

function search() {
  const text = at("search").value.trim();
  at("found").hidden = !text;
  at("all").hidden = Boolean(text);
  if (!text) found.show([]);
  else {
    at("found-note").textContent = "Searching.";
    wire.send({ search: text });
  }
}

function showFound({ text, paths, note }) {
  if (text !== at("search").value.trim()) return;
  found.show(paths.map((path) => [path, path]));
  at("found-note").textContent = note || `${paths.length} found.`;
}

at("search").addEventListener("input", () => {
  clearTimeout(asking);
  asking = setTimeout(search, 150);
});
at("search").addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    at("search").value = "";
    search();
  } else if (event.key === "ArrowDown") {
    event.preventDefault();
    (at("found").hidden ? tree : found).current?.element.focus();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !/INPUT|TEXTAREA/.test(document.activeElement.tagName)) {
    event.preventDefault();
    at("search").focus();
  }
});

// The address.

function keep() {
  const kept = new URLSearchParams();
  for (const id of pins.ids()) kept.append("pin", id);
  for (const id of tree.wanted) kept.append("open", id);
  history.replaceState(null, "", kept.size ? `#${kept}` : location.pathname);
}

for (const id of marks.getAll("open")) tree.wanted.add(id);
for (const id of marks.getAll("pin")) pins.toggle(id);
keep();
showStates();
