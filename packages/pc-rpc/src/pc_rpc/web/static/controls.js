// The page of `pc-rpc web`: a form for each method, and the state of each call.
//
// Methods are called only when somebody submits a form. The page has a desk at the server: after a
// moment without connection it finds the calls that went on there.

import { Calls } from "./calls.js";
import { Target } from "./forms.js";
import { Store } from "./store.js";
import { Wire } from "./wire.js";

const at = (id) => document.getElementById(id);
const desk = crypto.getRandomValues(new Uint32Array(4)).join("-");
const store = new Store((message) => wire.send(message));
const calls = new Calls(at("calls"), store, (message) => wire.send(message), () => {
  at("none").hidden = calls.size > 0;
});
const targets = new Map();
let states = {};
let link = [false, new Date()];
let trouble = "";

const wire = new Wire({
  onOpen() {
    wire.send({ desk });
    store.ask(true);
  },
  onState(...state) {
    link = state;
    showStates();
  },
  onFrame(header, buffers) {
    if (header.states) {
      at("title").textContent = header.description || header.place;
      document.title = `${header.description || header.place} · pc-rpc`;
      const now = Date.now();
      for (const state of Object.values(header.states)) state.since = new Date(now - 1000 * state.age);
      [states, trouble] = [header.states, header.trouble];
    }
    for (const [name, target] of Object.entries(header.targets ?? {})) show(name, target);
    if (header.states) showStates();
    for (const call of header.calls ?? []) calls.take(call);
    store.take(header.rows, buffers);
  },
});

function show(name, target) {
  if (!targets.has(name)) {
    targets.set(name, new Target(name, (method, typed) => calls.begin(name, method, typed)));
    at("targets").append(targets.get(name).element);
  }
  targets.get(name).show(target);
  filter();
}

// The state of each connection: of this page, and to each target.

function showStates() {
  const [connected, since] = link;
  const shown = connected
    ? Object.entries(states).map(([name, one]) => [name, one.state, one.since])
    : [["this page", "stale", since]];
  at("states").replaceChildren(...shown.map((one) => chip(...one)));
  const troubles = connected
    ? [trouble, ...Object.entries(states).map(([name, one]) => one.trouble && `${name}: ${one.trouble}`)]
    : ["No connection to the server of this page. Running calls go on; new calls are not possible."];
  const text = [...new Set(troubles.filter(Boolean))].join(" · ");
  if (at("trouble").textContent !== text) at("trouble").textContent = text;
  for (const [name, target] of targets) target.allow(connected && states[name]?.state !== "connecting");
  document.body.dataset.live =
    connected && shown.length > 0 && shown.every(([, state]) => state === "live");
}

function chip(name, state, since) {
  const item = document.createElement("li");
  item.className = "state";
  item.dataset.state = state;
  const word = document.createElement("span");
  word.textContent = `${state} since ${since.toLocaleTimeString("en-GB")}`;
  item.append(Object.assign(document.createElement("b"), { textContent: name }), " ", word);
  return item;
}

// Search.

function filter() {
  const words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const target of targets.values()) target.filter(words);
}

at("search").addEventListener("input", filter);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !/INPUT|TEXTAREA|SELECT/.test(document.activeElement.tagName)) {
    event.preventDefault();
    at("search").focus();
  }
});

showStates();
