// Models: the versions of each, which one is in use, and how well detection went by day.

import { getDetection, getDrifts, getModels, getRuns } from "../api.js";
import { Lines } from "../charts/lines.js";
import * as format from "../format.js";
import { useLoad } from "../hooks.js";
import { AsOf, Empty, Loaded } from "../parts/states.js";
import { Table } from "../parts/table.js";
import { Badge, OpeningHeading, Time } from "../parts/text.js";
import { address } from "../router.js";
import { may } from "../session.js";
import { html, useState } from "../view.js";
import { RollBack } from "./model-changes.js";
import { ModelDetail } from "./model.js";

const DAYS = 30;
const RUNS = 20;
const MS_PER_DAY = 86_400_000;

export function ModelsPage({ path }) {
  const [name, version] = path;
  if (name && version) return html`<${ModelDetail} key=${path.join(":")} name=${name} version=${version} />`;
  return html`<${AllModels} />`;
}

function AllModels() {
  const models = useLoad(getModels);
  return html`
    <${OpeningHeading}>Models<//>
    <${Loaded} from=${models} what="Loading models">${({ models: all }) => all.length === 0
      ? html`<${Empty} title="No models yet">Train the first one: <code>headgate train --transactions history.parquet --labels frauds.csv</code>.<//>`
      : byName(all).map(([name, versions]) => html`<${Versions} key=${name} name=${name} versions=${versions} reload=${models.reload} />`)}<//>
    <${Detection} />
    <div class="columns"><${Drifts} /><${Runs} /></div>`;
}

function byName(models) {
  const names = [...new Set(models.map((model) => model.name))].sort();
  return names.map((name) => [name, models.filter((model) => model.name === name).sort((a, b) => b.version - a.version)]);
}

function Versions({ name, versions, reload }) {
  const [asking, setAsking] = useState(false);
  const measured = versions.some((model) => "average_precision" in model.metrics);
  const canRollBack = may("operator") && versions.some((model) => model.alias === "champion") && versions.length > 1;
  return html`<section class="card" aria-labelledby=${`model-${name}`}>
    <div class="card-head"><h2 id=${`model-${name}`}>${name}</h2>
      ${canRollBack && html`<button type="button" onClick=${() => setAsking(true)}>Roll back …</button>`}</div>
    <${Table} caption=${`Versions of ${name}`} rows=${versions} id=${(model) => model.version} columns=${[
      { title: "version", cell: (model) => html`<a href=${address(["models", name, model.version])}>${name}:${model.version}</a>` },
      { title: "in use as", cell: inUse },
      { title: "made", cell: (model) => html`<${Time} at=${model.created_at} />` },
      ...(measured ? [{ title: "average precision", numeric: true, cell: (model) => format.figure(model.metrics.average_precision) }] : []),
      { title: "why", cell: (model) => html`<span class="long">${model.withdrawn_why ?? model.promoted_why ?? "–"}</span>` },
    ]} />
    ${asking && html`<${RollBack} name=${name} close=${() => setAsking(false)} changed=${reload} />`}
  </section>`;
}

function inUse(model) {
  if (model.alias) return html`<${Badge} kind=${`alias-${model.alias}`}>${model.alias}<//>`;
  if (model.withdrawn_at) return html`<${Badge} kind="withdrawn">withdrawn<//>`;
  return "–";
}

function Detection() {
  const detection = useLoad((signal) => getDetection(DAYS, signal));
  return html`<section class="card" aria-labelledby="detection"><h2 id="detection">Detection by day</h2>
    <p class="note">Precision: of the flagged events with a label, the share that was fraud. Recall: of the known frauds, the
      share that was flagged. Labels come late, so the newest days change most.</p>
    <${Loaded} from=${detection}>${({ as_of: asOf, days }) => html`<${AsOf} at=${asOf} again=${detection.reload}>
      ${days.length === 0 ? html`<${Empty} title="No days yet">Once transactions are scored and labelled, they are counted here.<//>` : html`
        <div class="charts"><${Measure} days=${days} name="precision" /><${Measure} days=${days} name="recall" /></div>`}<//>`}<//></section>`;
}

function Measure({ days, name }) {
  const models = [...new Set(days.map((row) => row.model))].sort(newestVersionFirst);
  const series = models.map((model, index) => ({
    name: model,
    kind: ["one", "two", "three", "four"][index % 4],
    points: days.filter((row) => row.model === model).map((row) => ({ x: Date.parse(row.day), y: row[name] })),
  }));
  const known = days.filter((row) => row[name] !== null).length;
  return html`<${Lines} title=${`${name[0].toUpperCase()}${name.slice(1)}`} series=${series} dates yRange=${[0, 1]} xName="day" yName=${name}
    xText=${(x) => format.day(new Date(x).toISOString())} yText=${format.share}
    xRange=${[Math.min(...days.map((row) => Date.parse(row.day))), Math.max(...days.map((row) => Date.parse(row.day)), MS_PER_DAY)]}
    summary=${known === 0 ? "No labels yet, so nothing to measure by." : `Known for ${format.plural(known, "day", "days")}.`} />`;
}

function newestVersionFirst(one, other) {
  return other.localeCompare(one, "en", { numeric: true });
}

function Drifts() {
  const drifts = useLoad((signal) => getDrifts(DAYS, signal));
  return html`<section class="card" aria-labelledby="drifts"><h2 id="drifts">Drift</h2>
    <${Loaded} from=${drifts}>${({ drifts: found }) => found.length === 0
      ? html`<${Empty} title=${`None in ${DAYS} days`}>Traffic looks like what the models learned from.<//>`
      : html`<${Table} caption="Drifts" rows=${found} columns=${[
          { title: "day", cell: (row) => format.day(row.day) },
          { title: "model", cell: (row) => row.model },
          { title: "what", cell: (row) => `${format.words(row.subject)} (${format.words(row.detector)})` },
          { title: "value", numeric: true, cell: (row) => format.figure(row.value) },
          { title: "bound", numeric: true, cell: (row) => format.figure(row.bound) },
        ]} />`}<//></section>`;
}

function Runs() {
  const runs = useLoad((signal) => getRuns(RUNS, signal));
  return html`<section class="card" aria-labelledby="runs"><h2 id="runs">Training runs</h2>
    <${Loaded} from=${runs}>${({ runs: all }) => all.length === 0
      ? html`<${Empty} title="None yet"><code>headgate retrain</code> trains from what SQL holds, once a day or as you say.<//>`
      : html`<ul class="runs">${all.map((run) => html`<li key=${run.run_id}>
          <p><${Badge} kind=${`run-${run.status}`}>${run.status}<//> <${Time} at=${run.started_at} /></p>
          <p class="long">${run.message || "no message"}</p></li>`)}</ul>`}<//></section>`;
}
