// Everything dynamic becomes a text node: what an incident says is data, never markup.

export const $ = (id) => document.getElementById(id);

export function el(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "class") node.className = value;
    else if (name === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const TONES = {
  fixed: "good", healthy: "good", diagnosed: "calm", received: "calm", analysing: "calm", executing: "warn",
  awaiting_approval: "warn", pending: "warn", approved: "warn", claimed: "warn", verifying: "warn", done: "good",
  not_fixed: "bad", escalated: "bad", failed: "bad", undone: "bad",
};
const WORKING = new Set(["received", "analysing", "executing"]);

export const words = (status) => status.replaceAll("_", " ");
export const tone = (status) => (TONES[status] ? `is-${TONES[status]}` : "");
export const dot = (status) => el("span", { class: `dot ${tone(status)} ${WORKING.has(status) ? "working" : ""}` });
export const pill = (status) => el("span", { class: `pill ${tone(status)}` }, words(status));

export function when(text) {
  const date = new Date(text);
  const today = date.toDateString() === new Date().toDateString();
  const shown = today ? date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }) : date.toLocaleDateString();
  return el("time", { datetime: text, title: date.toLocaleString() }, shown);
}

export const clock = (text) => el("time", { datetime: text }, new Date(text).toLocaleTimeString([], { hour12: false }));

export function diff(text, node = el("pre", { class: "diff", tabindex: "0" })) {
  const kind = (line) => (/^(@@|--- |\+\+\+ )/.test(line) ? "at" : line.startsWith("+") ? "add" : line.startsWith("-") ? "del" : "");
  node.replaceChildren(...text.split("\n").map((line) => el("span", { class: kind(line) }, line || " ")));
  return node;
}
