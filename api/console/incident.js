// One incident: what is known, what is proposed, and its timeline while it happens.

import * as api from "./api.js";
import { metrics } from "./metrics.js";
import { $, clock, diff, dot, el, pill, words } from "./view.js";

const FOLDED = 4; // longer lists are opened by who wants them
let following = null;
let shown = null;
let waiting = null;

// a replayed timeline comes at once: the record is read again when it pauses, not for each of its steps
function later(task) {
  clearTimeout(waiting);
  waiting = setTimeout(task, 300);
}

export async function open(id, changed) {
  following?.abort();
  clearTimeout(waiting);
  following = new AbortController();
  shown = id;
  const steps = el("ol", { class: "steps" });
  await draw(id, steps);
  follow(id, steps, following.signal, changed);
}

async function draw(id, steps) {
  const found = await api.get(`/api/v1/incidents/${encodeURIComponent(id)}`);
  if (shown !== id) return;
  const top = $("incident").scrollTop;
  const opened = new Set([...$("incident").querySelectorAll("details[open]")].map((node) => node.dataset.head));
  $("incident").replaceChildren(
    ...[title(found), diagnosis(found), ...found.approvals.map(approval), ...found.proposals.map(proposal), metrics(found), timeline(found), crash(found)].filter(Boolean),
    el("section", { class: "card" }, el("h2", {}, "Steps of Paramedic"), steps),
  );
  for (const node of $("incident").querySelectorAll("details")) node.open = opened.has(node.dataset.head);
  $("incident").scrollTop = top;
}

async function follow(id, steps, signal, changed) {
  let last = "0";
  while (!signal.aborted) {
    try {
      for await (const event of api.events("GET", `/api/v1/incidents/${encodeURIComponent(id)}/events`, { signal, headers: { "Last-Event-ID": last } })) {
        if (event.name === "end") {
          clearTimeout(waiting);
          await draw(id, steps);
          changed();
          return;
        }
        last = event.id;
        steps.append(step(event.data));
        later(() => draw(id, steps).then(changed, () => {}));
      }
    } catch (error) {
      if (signal.aborted || error.status) return;
    }
    await new Promise((resolve) => setTimeout(resolve, 1500));
  }
}

const step = (item) => el("li", {}, clock(item.at), el("span", { class: "agent" }, item.agent || ""), el("span", { class: "text" }, item.text));

function name(ref) {
  return `${ref.kind} ${ref.namespace ? `${ref.namespace}/` : ""}${ref.name}${ref.container ? ` · ${ref.container}` : ""}`;
}

function title({ incident }) {
  return el("header", {},
    el("div", { class: "title" }, dot(incident.status), el("h3", {}, name(incident.target)), pill(incident.status)),
    el("p", { class: "muted" }, `${incident.id} · reported ${new Date(incident.created_at).toLocaleString()} by ${incident.requested_by} via ${incident.via}`),
    incident.event ? el("p", { class: "quote" }, incident.event) : null,
  );
}

function diagnosis(found) {
  const it = found.diagnosis;
  if (!it) return null;
  const findings = new Map(it.findings.map((item) => [item.id, item]));
  const evidence = new Map(it.evidence.map((item) => [item.id, item]));
  const head = { diagnosed: "Diagnosis", healthy: "Nothing is wrong", unknown: "The cause is not known", failed: "The analysis failed" }[it.status];
  return el("section", { class: "card" },
    el("h2", {}, head),
    it.causes.map((cause) => causeOf(cause, findings, evidence, found.incident.id)),
    it.explanation ? el("p", { class: "quote" }, it.explanation) : null,
    hypotheses(it.hypotheses, evidence, found.incident.id),
    before(it, evidence, found.incident.id),
    runbooks(it, evidence, found.incident.id),
    listed("Next steps", it.next_steps), listed("Could not be seen", it.unseen), listed("Ruled out", it.ruled_out),
    closure(it),
  );
}

function hypotheses(items, evidence, id) {
  if (!items?.length) return null;
  return el("div", {}, el("p", { class: "muted" }, "Hypotheses of a model"), el("ul", { class: "plain" }, items.map((item) => el("li", {},
    el("strong", {}, `${words(item.verdict)}: `), `${words(item.class)} in ${name(item.object)}: ${item.because} `,
    [item.confirms ? `Confirms: ${item.confirms}` : "", item.refutes ? `Refutes: ${item.refutes}` : ""].filter(Boolean).map((text) => el("span", { class: "muted" }, `${text} `)),
    item.evidence_ids.map((item) => chip(item, evidence.get(item), id))))));
}

function closure(it) {
  if (it.closure == null) return null;
  const said = it.model_statements;
  const model = said ? `; of ${said.total} statements of a model, ${said.kept}` : "";
  return el("p", { class: "muted" }, `The evidence bears ${Math.round(it.closure * 100)}% of what was stated${model}`);
}

// what memory proposes: earlier incidents of the same, and whether what is seen now bears it
function before(it, evidence, id) {
  const items = it.recalled.filter((item) => item.kind === "incident");
  if (!items.length) return null;
  const fits = (item) => ({ true: "fits now", false: "does not fit now" })[item.borne_out] || "not checked";
  return el("div", {}, el("p", { class: "muted" }, "Seen before"), el("ul", { class: "plain" }, items.map((item) => el("li", {},
    item.text, el("span", { class: "muted" }, ` · ${fits(item)}: ${item.why} ${item.checked} `),
    item.evidence_ids.map((one) => chip(one, evidence.get(one), id))))));
}

// passages of the team's own runbooks; their text stands in the evidence
function runbooks(it, evidence, id) {
  const items = it.recalled.filter((item) => item.kind === "runbook");
  if (!items.length) return null;
  const fits = (item) => ({ true: "for this", false: "not for this" })[item.borne_out];
  return el("div", {}, el("p", { class: "muted" }, "Runbooks"), el("ul", { class: "plain" }, items.map((item) => el("li", {},
    item.source, el("span", { class: "muted" }, ` · ${[fits(item), item.why].filter(Boolean).join(": ")} `),
    item.evidence_ids.map((one) => chip(one, evidence.get(one), id))))));
}

function causeOf(cause, findings, evidence, id) {
  const own = cause.finding_ids.map((item) => findings.get(item)).filter(Boolean);
  const ids = [...new Set(own.flatMap((item) => item.evidence_ids))];
  return el("div", { class: "cause" },
    el("strong", {}, cause.summary),
    el("span", {}, el("meter", { min: 0, max: 1, value: cause.confidence, title: "confidence" }), ` ${Math.round(cause.confidence * 100)}%`),
    el("span", { class: "muted" }, `${words(cause.class)} · ${name(cause.object)}`),
    el("ul", {}, own.filter((item) => item.claim !== cause.summary).map((item) => el("li", {}, item.claim))),
    el("div", { class: "chips" }, ids.map((item) => chip(item, evidence.get(item), id))),
  );
}

export function chip(id, evidence, incident) {
  const label = evidence ? `${evidence.kind} ${id.slice(0, 9)}` : id;
  return el("button", { class: "chip", type: "button", title: evidence?.source || id, on: { click: () => showEvidence(id, evidence, incident) } }, label);
}

async function showEvidence(id, evidence, incident) {
  $("evidence-title").textContent = id;
  $("evidence-source").textContent = evidence?.source || "";
  $("evidence-text").textContent = evidence?.excerpt || "";
  $("evidence").showModal();
  try {
    $("evidence-text").textContent = await api.text(`/api/v1/incidents/${encodeURIComponent(incident)}/evidence/${encodeURIComponent(id)}`);
  } catch (error) {
    $("evidence-text").textContent = `${evidence?.excerpt || ""}\n\n(${error.message})`;
  }
}

function timeline({ diagnosis: it, incident }) {
  if (!it?.timeline?.length) return null;
  const evidence = new Map(it.evidence.map((item) => [item.id, item]));
  let day = "";
  const dayOf = (item) => {
    const its = new Date(item.at).toLocaleDateString();
    if (its === day) return null;
    day = its;
    return el("li", { class: "day" }, its);
  };
  const times = (item) => (item.count > 1 ? [` ×${item.count}`, item.until ? [" until ", clock(item.until)] : []].flat() : []);
  return el("section", { class: "card" },
    el("h2", {}, "What happened when"),
    el("ol", { class: "steps" }, it.timeline.map((item) => [dayOf(item), el("li", { class: item.onset ? "onset" : "" },
      el("time", { datetime: item.at, title: new Date(item.at).toLocaleString() }, new Date(item.at).toLocaleTimeString([], { hour12: false })),
      el("span", { class: "agent" }, item.onset ? `${item.kind}, first seen` : item.kind),
      el("span", { class: "text" }, item.text, ...times(item), " ", item.evidence_ids.slice(0, 3).map((id) => chip(id, evidence.get(id), incident.id))))]).flat()),
  );
}

function crash({ diagnosis: it }) {
  const report = it?.crash;
  if (!report) return null;
  const thread = report.threads[0];
  const row = (frame) => el("tr", { class: frame.in_app ? "own" : "" }, el("td", {}, `#${frame.frame}`), el("td", {}, frame.function || frame.offset || "??"), el("td", {}, frame.file ? `${frame.file}${frame.line ? `:${frame.line}` : ""}` : frame.module || ""));
  return el("section", { class: "card" },
    el("h2", {}, "Crash"),
    report.crash_line ? el("p", { class: "crash" }, report.crash_line) : null,
    report.mechanism ? el("p", {}, report.mechanism) : null,
    thread ? el("table", {}, el("tbody", {}, thread.frames.slice(0, 24).map(row))) : null,
    report.soft_errors.length ? listed("Not perfect", report.soft_errors) : null,
  );
}

function approval(item) {
  const plan = item.plan;
  const waits = item.state === "pending";
  const facts = [["Because", plan.reason], ["Touches", plan.blast_radius], ["Risk", plan.risk], ["Undo", plan.reversible ? "recorded; done by itself if the fix does not help" : "not possible"], ["Approvers needed", String(item.quorum)], ["Expires", new Date(item.expires_at).toLocaleTimeString()], ["Votes", item.votes.map((vote) => `${vote.identity}: ${vote.verdict}`).join(", ") || "none"], ["Outcome", item.outcome || ""]];
  return el("section", { class: `card ${waits ? "ask" : ""}` },
    el("div", { class: "row" }, el("h3", {}, item.title), pill(item.state)),
    el("dl", { class: "facts" }, facts.filter(([, value]) => value).flatMap(([term, value]) => [el("dt", {}, term), el("dd", {}, value)])),
    diff(plan.diff),
    waits ? el("div", { class: "row" }, el("button", { type: "button", on: { click: () => decide(item, "approve") } }, "Approve…"), el("button", { type: "button", class: "danger", on: { click: () => decide(item, "reject") } }, "Reject…"), el("span", { class: "muted", id: `said-${item.id}` })) : null,
  );
}

function decide(item, verdict) {
  const approving = verdict === "approve";
  $("confirm-title").textContent = `${approving ? "Approve" : "Reject"}: ${item.title}`;
  diff(item.plan.diff, $("confirm-diff"));
  $("confirm-digest").textContent = item.digest;
  $("confirm-waive-row").hidden = !(approving && item.evidence_missing);
  $("confirm-waive").checked = false;
  $("confirm-typed").value = $("confirm-reason").value = "";
  const yes = $("confirm-yes");
  yes.textContent = approving ? "Approve exactly this" : "Reject";
  yes.disabled = true;
  $("confirm-typed").oninput = () => { yes.disabled = $("confirm-typed").value !== item.digest.slice(0, 8); };
  const dialog = $("confirm");
  dialog.returnValue = "";
  dialog.onclose = async () => {
    if (dialog.returnValue !== "yes" || yes.disabled) return;
    const body = { verdict, digest: item.digest, waive_evidence: $("confirm-waive").checked, reason: $("confirm-reason").value || null };
    try {
      await api.post(`/api/v1/approvals/${encodeURIComponent(item.id)}/decision`, body);
      await open(item.incident_id, () => {});
    } catch (error) {
      const said = document.getElementById(`said-${item.id}`);
      if (said) said.textContent = error.message;
    }
  };
  dialog.showModal();
}

function proposal(item) {
  return el("section", { class: "card" }, el("h2", {}, "Proposed, for people to do"), el("h3", {}, item.title), el("p", {}, item.reason),
    item.steps.length ? el("ul", { class: "plain" }, item.steps.map((text) => el("li", {}, text))) : null,
    item.change ? diff(item.change) : null);
}

function listed(head, items) {
  if (!items.length) return null;
  const list = el("ul", { class: "plain" }, items.map((text) => el("li", {}, text)));
  if (items.length > FOLDED) return el("details", { "data-head": head }, el("summary", { class: "muted" }, `${head} (${items.length})`), list);
  return el("div", {}, el("p", { class: "muted" }, head), list);
}
