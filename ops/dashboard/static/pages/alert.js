// One alert: why it was raised, what the account did, what was said of it, and the two buttons to say it.

import { getAlert } from "../api.js";
import { Reasons, ScoreBar } from "../charts/score.js";
import { Timeline } from "../charts/timeline.js";
import * as format from "../format.js";
import { useLoad, useStore } from "../hooks.js";
import { live } from "../live.js";
import { CopyButton } from "../parts/copy.js";
import { Empty, Loaded } from "../parts/states.js";
import { Table } from "../parts/table.js";
import { AlertState, OpeningHeading, Severity, Time } from "../parts/text.js";
import { may } from "../session.js";
import { judge, verdicts } from "../verdicts.js";
import { html, useEffect } from "../view.js";

export function AlertDetail({ id, close, back }) {
  const loaded = useLoad((signal) => getAlert(id, signal), [id]);
  const verdict = useStore(verdicts)[id];
  const newest = useStore(live).alerts.find((alert) => alert.alert_id === id);
  useEffect(() => {
    if (verdict?.state === "joined" || newest?.revision > loaded.data?.revision) loaded.reload();
  }, [verdict?.state, newest?.revision]);
  const goBack = (event) => {
    event.preventDefault();
    close();
  };
  return html`<article class="card alert" aria-label="Alert">
    <p class="back"><a href=${back} onClick=${goBack}>Back to the list</a> <kbd>Esc</kbd></p>
    <${Loaded} from=${loaded} what="Loading the alert">${(alert) => html`<${Content} alert=${alert} verdict=${verdict} />`}<//>
  </article>`;
}

function Content({ alert, verdict }) {
  return html`
    <header class="alert-head">
      <${OpeningHeading} level=${2}>${alert.account_id}<//>
      <p><${Severity} value=${alert.severity} /> <${AlertState} alert=${alert} />
        <span><b>${format.money(alert.amount_at_risk)}</b> at risk</span>
        <${Time} at=${alert.occurred_at} /></p>
      <p class="note identifier">${alert.alert_id} <${CopyButton} text=${alert.alert_id} what="the alert's id" /></p>
    </header>
    <${Verdict} alert=${alert} verdict=${verdict} />
    <section aria-labelledby="score"><h3 id="score">Score</h3>
      <${ScoreBar} score=${alert.score} threshold=${alert.threshold} kind=${alert.score_kind} />
      <p class="note">${alert.model}, ${format.plural(alert.events, "event", "events")}, revision ${alert.revision}${alert.closed_by ? `, closed by ${format.words(alert.closed_by)}` : ""}</p></section>
    <section aria-labelledby="reasons"><h3 id="reasons">Why</h3>
      ${alert.reasons.length === 0 ? html`<p class="note">No single thing stands out; the sequence as a whole is unusual.</p>` : html`<${Reasons} reasons=${alert.reasons} />`}</section>
    <section aria-labelledby="timeline"><h3 id="timeline" class="unseen">Timeline</h3>
      ${alert.timeline.length > 0 && html`<${Timeline} events=${alert.timeline} marked=${alert.event_ids} />`}</section>
    <section aria-labelledby="predictions"><h3 id="predictions">Events of this alert</h3><${Predictions} predictions=${alert.predictions} /></section>
    <section aria-labelledby="labels"><h3 id="labels">Labels so far</h3><${Labels} labels=${alert.labels} /></section>`;
}

function Verdict({ alert, verdict }) {
  const busy = verdict?.state === "sending";
  const button = (label, text, key) => html`<button type="button" class=${`verdict ${label}`} disabled=${busy}
    aria-pressed=${alert.label === label ? "true" : "false"} onClick=${() => judge(alert.alert_id, label)}>${text} <kbd>${key}</kbd></button>`;
  return html`<div class="verdicts">
    ${may("analyst")
      ? html`<div class="verdict-buttons" role="group" aria-label="What was it?">${button("fraud", "Fraud", "f")}${button("legitimate", "Legitimate", "l")}</div>`
      : html`<p class="note">Your role may look, not label. An analyst's token may.</p>`}
    <p class=${`verdict-state ${verdict?.state ?? ""}`} role=${verdict?.state === "failed" ? "alert" : "status"}>${verdict?.message ?? ""}</p>
  </div>`;
}

function Predictions({ predictions }) {
  return html`<${Table} caption="Events of this alert" rows=${predictions} id=${(row) => row.event_id} columns=${[
    { title: "event", cell: (row) => row.event_id },
    { title: "amount", numeric: true, cell: (row) => `${format.money(row.amount)} ${row.currency ?? ""}` },
    { title: "score", numeric: true, cell: (row) => format.score(row.score) },
    { title: "merchant", cell: (row) => row.merchant_id ?? "–" },
    { title: "memo", cell: (row) => row.memo || "–" },
    { title: "label", cell: (row) => row.label ?? "–" },
  ]} />`;
}

function Labels({ labels }) {
  if (labels.length === 0) return html`<${Empty} title="None yet">Say above what it was. Chargebacks that come through the topic <code>feedback</code> appear here too.<//>`;
  return html`<${Table} caption="Labels so far" rows=${labels} id=${(row) => row.feedback_id} columns=${[
    { title: "label", cell: (row) => html`<span class=${`badge label-${row.label}`}>${row.label}</span>` },
    { title: "from", cell: (row) => row.source },
    { title: "given", cell: (row) => html`<${Time} at=${row.given_at} />` },
    { title: "about", cell: (row) => (row.alert_id ? "the alert" : `event ${row.event_id}`) },
    { title: "state", cell: (row) => format.words(row.status) },
  ]} />`;
}
