// The chat beside the incident. It streams; citations open the evidence they name.

import * as api from "./api.js";
import { chip } from "./incident.js";
import { $, el } from "./view.js";

let conversation = null;

export function start(current, changed) {
  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    ask(current(), changed);
  });
  $("message").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      $("ask").requestSubmit();
    }
  });
  $("fresh").addEventListener("click", () => {
    conversation = null;
    $("talk").replaceChildren();
  });
}

function add(...nodes) {
  $("talk").append(...nodes);
  $("talk").scrollTop = $("talk").scrollHeight;
}

async function ask(incident, changed) {
  const message = $("message").value.trim();
  if (!message) return;
  $("message").value = "";
  const button = $("ask").querySelector("button");
  button.disabled = true;
  const doing = el("div", { class: "doing" }, "…");
  const answer = el("div", { class: "said it" });
  const chips = el("div", { class: "chips" });
  add(el("div", { class: "said me" }, message), doing);
  try {
    const body = { message };
    if (conversation) body.conversation_id = conversation;
    if (incident) body.incident_id = incident;
    for await (const event of api.events("POST", "/api/v1/diagnose", { body })) {
      if (event.name === "step") doing.textContent = event.data.text;
      if (event.name === "token") {
        if (!answer.isConnected) add(answer);
        answer.append(event.data.text.replace(/ ?\[ev_[0-9a-z]+\]/g, ""));
      }
      if (event.name === "citation") chips.append(chip(event.data.evidence_id, event.data, event.data.incident_id));
      if (event.name === "done") conversation = event.data.conversation_id;
      if (event.name === "error") throw new Error(event.data.detail);
      $("talk").scrollTop = $("talk").scrollHeight;
    }
    if (chips.childElementCount) add(chips);
    changed();
  } catch (error) {
    add(el("div", { class: "doing failed" }, error.message));
  } finally {
    doing.remove();
    button.disabled = false;
  }
}
