// One version of a model: its verdict, its metrics, its curves, the runs that made it.

import { getModel } from "../api.js";
import { Lines } from "../charts/lines.js";
import * as format from "../format.js";
import { useLoad } from "../hooks.js";
import { Figure, Figures } from "../parts/figures.js";
import { Empty, Loaded } from "../parts/states.js";
import { Table } from "../parts/table.js";
import { Badge, OpeningHeading, Time } from "../parts/text.js";
import { address } from "../router.js";
import { may } from "../session.js";
import { html, useState } from "../view.js";
import { ModelCard } from "./model-card.js";
import { Promote } from "./model-changes.js";

const BOUNDS = ["_low", "_high"];

export function ModelDetail({ name, version }) {
  const model = useLoad((signal) => getModel(name, version, signal));
  return html`
    <p class="back"><a href=${address(["models"])}>All models</a></p>
    <${OpeningHeading}>${name}:${version}<//>
    <${Loaded} from=${model} what="Loading the model">${(data) => html`<${Content} model=${data} reload=${model.reload} />`}<//>`;
}

function Content({ model, reload }) {
  const [asking, setAsking] = useState(false);
  return html`
    <section class="card" aria-label="In use">
      <div class="card-head"><p>${model.alias ? html`<${Badge} kind=${`alias-${model.alias}`}>${model.alias}<//>` : "not in use"} ${model.kind},
        made <${Time} at=${model.created_at} />, ${format.bytes(model.size_bytes)}, features ${model.feature_schema}</p>
        ${may("operator") && model.alias !== "champion" && html`<button type="button" class="primary" onClick=${() => setAsking(true)}>Promote …</button>`}</div>
      ${model.promoted_at && html`<p><b>Promoted</b> <${Time} at=${model.promoted_at} />: ${model.promoted_why ?? "no reason given"}</p>`}
      ${model.withdrawn_at && html`<p><b>Withdrawn</b> <${Time} at=${model.withdrawn_at} />: ${model.withdrawn_why ?? "no reason given"}</p>`}
    </section>
    <${Verdict} verdict=${model.verdict} runs=${model.runs} />
    ${model.card && html`<${ModelCard} card=${model.card} />`}
    <${Curves} curves=${model.curves} />
    <${Metrics} metrics=${model.metrics} />
    ${asking && html`<${Promote} name=${model.name} version=${model.version} close=${() => setAsking(false)} changed=${reload} />`}`;
}

function Verdict({ verdict, runs }) {
  const comparisons = Object.entries(verdict ?? {}).filter(([, each]) => each !== null && typeof each === "object" && "challenger" in each);
  return html`<section class="card" aria-labelledby="verdict"><h2 id="verdict">Verdict</h2>
    ${verdict === null
      ? html`<${Empty} title="No verdict">It was not judged against a champion: it was the first, or came by hand.<//>`
      : html`<p><${Badge} kind=${`decision-${verdict.decision.split(" ")[0]}`}>${verdict.decision}<//> ${basis(verdict)}</p>
        ${[verdict.reasons ?? verdict.reason ?? []].flat().map((reason) => html`<p>${reason}</p>`)}
        ${comparisons.map(([name, each]) => html`<${Difference} name=${name} ...${each} />`)}`}
    ${runs.map((run) => html`<p class="note" key=${run.run_id}>Training run <${Time} at=${run.started_at} />, ${run.status}. ${run.message}</p>`)}
  </section>`;
}

function basis({ kind, events, frauds, accounts_with_fraud: accounts }) {
  const on = events === undefined ? "" : `; ${format.count(events)} later events with ${format.count(frauds)} frauds of ${format.count(accounts)} accounts`;
  return `Judged as a ${kind === "design" ? "new design, which must be better" : "refresh, which must not be worse"}${on}.`;
}

/** A difference with its interval around zero, as a bar and in words. */
function Difference({ name, champion, challenger, low, high }) {
  const reach = Math.max(Math.abs(low), Math.abs(high), 1e-9) * 1.15;
  const place = (value) => `${((value + reach) / (2 * reach)) * 100}%`;
  const signed = (value) => `${value > 0 ? "+" : ""}${format.figure(value)}`;
  const said = `difference ${signed(challenger - champion)}, interval ${signed(low)} to ${signed(high)}`;
  return html`<div class="difference">
    <p><b>${format.words(name)}</b> ${format.figure(challenger)} against ${format.figure(champion)}; ${said}</p>
    <div class="interval" role="img" aria-label=${said}>
      <div class="zero"></div>
      <div class="span" style=${{ left: place(low), width: `${((high - low) / (2 * reach)) * 100}%` }}></div>
      <div class="estimate" style=${{ left: place(challenger - champion) }}></div>
    </div>
    <div class="interval-ends" aria-hidden="true"><span>worse</span><span>0</span><span>better</span></div>
  </div>`;
}

function Curves({ curves }) {
  if (curves === null) {
    return html`<section class="card" aria-labelledby="curves"><h2 id="curves">Curves</h2>
      <${Empty} title="None kept">They are kept when a model is trained with labels.<//></section>`;
  }
  const known = (points, x, y) => points.map((point) => ({ x: point[x], y: point[y] }));
  return html`<section class="card" aria-labelledby="curves"><h2 id="curves">Curves</h2>
    <p class="note">From ${curves.source}: ${format.count(curves.events)} events with ${format.count(curves.frauds)} frauds.</p>
    <div class="charts">
      <${Lines} title="Precision and recall" xName="recall" yName="precision" xText=${format.share} yText=${format.share} xRange=${[0, 1]} yRange=${[0, 1]}
        series=${[{ name: "precision", kind: "one", points: known(curves.precision_recall, "recall", "precision") }]}
        summary="The more frauds are found (recall), the smaller the share of alerts that are right (precision)." />
      <${Lines} title="Calibration" xName="mean score" yName="share of fraud" xText=${format.share} yText=${format.share} xRange=${[0, 1]} yRange=${[0, 1]} diagonal
        series=${[{ name: "share of fraud", kind: "one", dots: true, points: known(curves.calibration, "mean_score", "fraud_share") }]}
        summary="On the diagonal a score says what it promises: of events with 0.7, 70% are fraud." />
    </div></section>`;
}

function Metrics({ metrics }) {
  const names = Object.keys(metrics).filter((name) => typeof metrics[name] !== "object" && !BOUNDS.some((end) => name.endsWith(end) && name.slice(0, -end.length) in metrics));
  const value = (metric) => (typeof metric === "number" ? format.figure(metric) : String(metric));
  const interval = (name) => (`${name}_low` in metrics && `${name}_high` in metrics ? `${value(metrics[`${name}_low`])} to ${value(metrics[`${name}_high`])}` : null);
  return html`<section class="card" aria-labelledby="metrics"><h2 id="metrics">Metrics</h2>
    ${names.length === 0 ? html`<${Empty} title="None kept">Training keeps its figures here.<//>` : html`
      <${Figures}>${names.filter((name) => typeof metrics[name] === "number").slice(0, 6).map((name) => html`
        <${Figure} key=${name} name=${format.words(name)} value=${value(metrics[name])} note=${interval(name)} />`)}<//>
      <details class="values"><summary>All of them</summary><${Table} caption="Metrics" rows=${names} id=${(name) => name} columns=${[
        { title: "metric", cell: format.words },
        { title: "value", numeric: true, cell: (name) => value(metrics[name]) },
        { title: "interval", numeric: true, cell: (name) => interval(name) ?? "–" },
      ]} /></details>`}
  </section>`;
}
