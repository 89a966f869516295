// The page: list on the left, one incident in the middle, the chat on the right.

import * as api from "./api.js";
import * as chat from "./chat.js";
import * as incident from "./incident.js";
import { $, dot, el, when, words } from "./view.js";

const PAGE = 40;
let next = null;

const current = () => (location.hash.startsWith("#inc_") ? location.hash.slice(1) : null);

function entry(item) {
  const ref = item.target;
  const where = `${words(item.status)} · ${ref.kind}${ref.namespace ? ` in ${ref.namespace}` : ""}`;
  return el("li", {}, el("button", { type: "button", "aria-current": String(item.id === current()), on: { click: () => { location.hash = item.id; } } },
    dot(item.status), el("span", { class: "name" }, ref.name), when(item.created_at), el("span", { class: "where" }, item.summary || where)));
}

async function list(more = false) {
  const query = new URLSearchParams({ limit: PAGE, open: $("open").checked });
  if (more && next) query.set("before", next);
  try {
    const page = await api.get(`/api/v1/incidents?${query}`);
    next = page.next;
    $("more").hidden = !next;
    const items = page.incidents.map(entry);
    if (more) $("list").append(...items);
    else $("list").replaceChildren(...(items.length ? items : [el("li", { class: "muted empty" }, "None.")]));
  } catch (error) {
    $("list").replaceChildren(el("li", { class: "muted empty" }, error.message));
  }
}

async function health() {
  try {
    const it = await api.get("/api/v1/health");
    $("health").textContent = it.status;
    $("health").className = `pill ${it.status === "ok" ? "is-good" : "is-warn"}`;
    $("health").title = Object.entries(it.components).map(([name, state]) => `${name}: ${state}`).join("\n");
  } catch (error) {
    $("health").textContent = error.status ? "key wanted" : "no answer";
    $("health").className = "pill is-bad";
  }
}

async function show() {
  for (const button of $("list").querySelectorAll("[aria-current]")) button.setAttribute("aria-current", "false");
  list();
  if (!current()) return;
  try {
    await incident.open(current(), () => list());
  } catch (error) {
    $("incident").replaceChildren(el("p", { class: "empty" }, error.message));
  }
}

function wantKey() {
  $("key-value").value = api.key();
  if (!$("key-dialog").open) $("key-dialog").showModal();
}

$("key").addEventListener("click", wantKey);
document.addEventListener("key-wanted", wantKey);
$("key-dialog").addEventListener("close", () => {
  if ($("key-dialog").returnValue !== "save") return;
  api.setKey($("key-value").value.trim());
  $("key-value").value = "";
  health();
  show();
});
$("open").addEventListener("change", () => list());
$("more").addEventListener("click", () => list(true));
window.addEventListener("hashchange", show);
setInterval(() => { if (!document.hidden) { health(); list(); } }, 15000);
chat.start(current, () => list());
health();
show();
