// Single predictions: the newest ones, and one by its event, which can be labelled even where it raised no alert.

import { getPrediction, getPredictions, postFeedback } from "../api.js";
import { announce } from "../announcer.js";
import { ScoreBar } from "../charts/score.js";
import * as format from "../format.js";
import { useLoad } from "../hooks.js";
import { Lookup } from "../parts/lookup.js";
import { Empty, Failure, Loaded, Loading } from "../parts/states.js";
import { Table } from "../parts/table.js";
import { Badge, Time } from "../parts/text.js";
import { address, go } from "../router.js";
import { may } from "../session.js";
import { html, useState } from "../view.js";

const NEWEST = 10;

export function Predictions({ query }) {
  return html`<section class="card" aria-labelledby="predictions"><h2 id="predictions">Predictions</h2>
    <${Lookup} label="Event" value=${query.event} placeholder="payment-20260314-0017" find=${(event) => go(["data"], { ...query, event })} />
    ${query.event ? html`<${OnePrediction} key=${query.event} event=${query.event} />` : html`<${Newest} query=${query} />`}
  </section>`;
}

function Newest({ query }) {
  const newest = useLoad((signal) => getPredictions(NEWEST, signal));
  return html`<${Loaded} from=${newest}>${({ predictions }) => predictions.length === 0
    ? html`<${Empty} title="None yet">Produce transactions to the topic <code>transactions</code>.<//>`
    : html`<${Table} caption="Newest predictions" rows=${predictions} id=${(row) => row.event_id} columns=${[
        { title: "event", cell: (row) => html`<a href=${address(["data"], { ...query, event: row.event_id })}>${row.event_id}</a>` },
        { title: "account", cell: (row) => row.account_id },
        { title: "amount", numeric: true, cell: (row) => `${format.money(row.amount)} ${row.currency ?? ""}` },
        { title: "score", numeric: true, cell: (row) => format.score(row.score) },
        { title: "when", cell: (row) => html`<${Time} at=${row.occurred_at} />` },
      ]} /><p><button type="button" onClick=${newest.reload}>Read again</button></p>`}<//>`;
}

function OnePrediction({ event }) {
  const loaded = useLoad((signal) => getPrediction(event, signal));
  if (loaded.error) return html`<${Failure} error=${loaded.error} again=${loaded.reload} />`;
  if (loaded.data === null) return html`<${Loading} />`;
  const data = loaded.data;
  return html`<div class="opened">
    <h3>${data.event_id}</h3>
    <p><b>${format.money(data.amount)} ${data.currency ?? ""}</b> of ${data.account_id} at ${data.merchant_id}, <${Time} at=${data.occurred_at} />
      ${data.label && html` <${Badge} kind=${`label-${data.label}`}>${data.label}<//>`}</p>
    <${ScoreBar} score=${data.score} threshold=${data.threshold} kind=${data.score_kind} />
    <p class="note">Scored by ${data.model}. ${data.memo ? `Memo: ${data.memo}` : ""}</p>
    ${data.alert_id ? html`<p><a href=${address(["alerts", data.alert_id])}>Its alert</a></p>` : html`<p class="note">It raised no alert.</p>`}
    ${may("analyst") && html`<${SayWhatItWas} event=${data.event_id} sent=${loaded.reload} />`}
  </div>`;
}

/** What an alert's buttons do, for a single event: frauds that raised no alert teach the most. */
function SayWhatItWas({ event, sent }) {
  const [state, setState] = useState({ busy: false, message: "" });
  const send = async (label) => {
    setState({ busy: true, message: "" });
    try {
      await postFeedback({ kind: "label", event_id: event, label });
      announce(`Sent as ${label}`);
      setState({ busy: false, message: `Sent as “${label}”. It counts once a worker has joined it; look the event up again to see.` });
      sent();
    } catch (error) {
      setState({ busy: false, message: `Not sent. ${error.message}` });
    }
  };
  return html`<div class="verdict-buttons" role="group" aria-label="What was it?">
    <button type="button" class="verdict fraud" disabled=${state.busy} onClick=${() => send("fraud")}>Fraud</button>
    <button type="button" class="verdict legitimate" disabled=${state.busy} onClick=${() => send("legitimate")}>Legitimate</button>
    </div><p role="status">${state.message}</p>`;
}
