// The card of a version: on which data it was made, how good it is for whom, and what nobody knows.

import * as format from "../format.js";
import { Figure, Figures } from "../parts/figures.js";
import { Table } from "../parts/table.js";
import { html } from "../view.js";

const COUNTS = ["events", "slates", "users", "accounts", "frauds", "flagged"];
const TIMES = ["from", "until", "matured_until"];

export function ModelCard({ card }) {
  return html`<section class="card" aria-labelledby="model-card"><h2 id="model-card">Card</h2>
    <h3>Data</h3>
    <${Figures}>${Object.entries(card.data).map(([name, value]) => html`
      <${Figure} key=${name} name=${format.words(name)} value=${datum(name, value)} />`)}<//>
    <h3>Quality by segment</h3>
    <p class="note">With 95% intervals over accounts or users. A dash: too few to measure.</p>
    <${Quality} parts=${card.quality} />
    <${Calibration} calibration=${card.calibration} />
    <h3>Limits</h3>
    <ul>${card.limits.map((limit) => html`<li class="long" key=${limit}>${limit}</li>`)}</ul>
    <details class="values"><summary>Training settings</summary>
      <p class="note">Made by Headgate ${card.code}.</p>
      <${Table} caption="Training settings" rows=${Object.entries(card.settings)} id=${([name]) => name} columns=${[
        { title: "setting", cell: ([name]) => format.words(name) },
        { title: "value", numeric: true, cell: ([, value]) => (typeof value === "number" ? format.figure(value) : String(value ?? "–")) },
      ]} /></details>
  </section>`;
}

function datum(name, value) {
  if (TIMES.includes(name)) return value ? html`<span class="whole">${format.utc(value).slice(0, 10)}</span>` : "–";
  return typeof value === "number" ? format.count(value) : String(value ?? "–");
}

function Quality({ parts }) {
  const counts = COUNTS.filter((name) => parts.some((part) => name in part));
  const measures = [...new Set(parts.flatMap((part) => Object.keys(part.measures)))];
  return html`<${Table} caption="Quality by segment" rows=${parts} columns=${[
    { title: "segment", cell: (part) => (part.kind === "all" ? part.name : `${part.kind} ${part.name}`) },
    ...counts.map((name) => ({ title: name, numeric: true, cell: (part) => format.count(part[name]) })),
    ...measures.map((name) => ({ title: format.words(name), numeric: true, cell: (part) => measured(part, name) })),
  ]} />`;
}

function measured({ measures, intervals }, name) {
  const [low, high] = intervals[name] ?? [];
  const interval = low === undefined ? "" : ` (${format.figure(round(low))} to ${format.figure(round(high))})`;
  return `${format.figure(round(measures[name]))}${interval}`;
}

const round = (value) => (value === undefined ? value : Number(value.toFixed(3)));

function Calibration({ calibration }) {
  if (!calibration.bins) return null;
  return html`<h3>Calibration</h3>
    <p class="note">Expected calibration error ${format.figure(calibration.expected_error)}. Each row holds events of like scores.</p>
    <${Table} caption="Calibration" rows=${calibration.bins} columns=${[
      { title: "score said", numeric: true, cell: (bin) => format.share(bin.mean_score) },
      { title: "were frauds", numeric: true, cell: (bin) => format.share(bin.fraud_share) },
      { title: "events", numeric: true, cell: (bin) => format.count(bin.events) },
    ]} />`;
}
