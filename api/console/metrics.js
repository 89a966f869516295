// What the analyst found in measurements: the ranking, and its charts as an image.

import * as api from "./api.js";
import { clock, el, pill } from "./view.js";

const charts = new Map(); // of the analyses shown: an incident is drawn again with each of its steps

async function chart(href) {
  if (!charts.has(href)) charts.set(href, api.blob(href).then((blob) => URL.createObjectURL(blob)));
  return charts.get(href);
}

const numbers = (change) => {
  const value = (it) => (it == null ? "none" : String(Number(it.toPrecision(3))));
  return `${value(change.baseline_median)} → ${value(change.incident_value)}${change.unit ? ` ${change.unit}` : ""}`;
};

function workload(item) {
  return el("li", {},
    el("strong", {}, `${item.rank}. ${item.entity} `), item.because, " ",
    item.onset ? el("span", { class: "muted" }, "since ", clock(item.onset)) : null,
    item.path.length > 1 ? el("span", { class: "muted" }, ` · from the symptom: ${item.path.join(" → ")}`) : null,
    el("ul", {}, item.metrics.slice(0, 3).map((change) => el("li", {}, `${change.name}: ${numbers(change)}`))));
}

export function metrics({ metrics: it }) {
  if (!it) return null;
  const report = it.report;
  const image = el("img", { class: "chart", alt: report.summary });
  const link = el("a", { class: "chart", target: "_blank", rel: "noopener", title: "Open the charts alone" }, image);
  if (report.workloads.length) {
    chart(it.links.svg).then((url) => { image.src = url; link.href = url; }, (error) => link.replaceWith(error.message));
  }
  return el("section", { class: "card" },
    el("div", { class: "row" }, el("h2", {}, "What was measured"), pill(report.status)),
    el("p", {}, report.summary),
    report.workloads.length ? link : null,
    el("ul", { class: "plain" }, report.workloads.slice(0, 5).map(workload)),
    report.data_quality.warnings.length ? el("ul", { class: "plain muted" }, report.data_quality.warnings.map((text) => el("li", {}, text))) : null,
  );
}
