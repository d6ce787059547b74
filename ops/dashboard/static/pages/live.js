// The service at a glance, as it runs: what comes in, how fast it is answered, which alerts open, who does the work.

import * as format from "../format.js";
import { useEvery, useStore } from "../hooks.js";
import { live } from "../live.js";
import { Figure, Figures } from "../parts/figures.js";
import { Empty, Loading } from "../parts/states.js";
import { OpeningHeading, Severity, Time } from "../parts/text.js";
import { address } from "../router.js";
import { html, useState } from "../view.js";
import { Sparkline } from "../charts/sparkline.js";
import { Workers } from "./workers.js";

const SLOW_SECONDS = 1;
const SHOWN_ALERTS = 12;

export function LivePage() {
  const { status, rates, alerts, warnings } = useStore(live);
  return html`
    <${OpeningHeading}>Live<//>
    ${status === null ? html`<${Loading} what="Waiting for the first status" />` : html`
      <${Flow} status=${status} />
      <${Now} status=${status} rates=${rates} />
      <div class="columns">
        <${NewAlerts} alerts=${alerts} />
        <div>
          <${Workers} workers=${status.workers} />
          <${Warnings} warnings=${warnings} />
        </div>
      </div>`}`;
}

/** The way of an event through the service, for who sees it the first time. */
function Flow({ status }) {
  const champion = status.champions?.fraud;
  const steps = [
    ["Events", "come from your systems through Kafka", `${format.rate(status.events_per_second)} a second`],
    ["Scores", "a model compares each with what is usual for its account", champion ?? "no model yet"],
    ["Alerts", "open where a score reaches the threshold", `${format.count(status.alerts_today)} today`],
    ["Verdicts", "of analysts say which were fraud", `${format.count(status.alerts_open)} wait`],
    ["Learning", "the next model learns from them and must prove itself", "Models"],
  ];
  const links = { Alerts: ["alerts"], Verdicts: ["alerts"], Learning: ["models"] };
  return html`<ol class="flow" aria-label="How the service works">${steps.map(([name, meaning, now]) => html`<li>
    <span class="flow-name">${name}</span>
    <span class="flow-meaning">${meaning}</span>
    ${links[name] ? html`<a href=${address(links[name], name === "Verdicts" ? { status: "open" } : {})}>${now}</a>` : html`<span class="flow-now">${now}</span>`}
  </li>`)}</ol>`;
}

function Now({ status, rates }) {
  const { latency, lag, alert_budget: budget } = status;
  const slow = latency !== null && latency.p99 > SLOW_SECONDS;
  return html`<section aria-labelledby="now"><h2 id="now" class="unseen">Figures of now</h2><${Figures}>
    <${Figure} name="Transactions a second" value=${format.rate(status.events_per_second)}
      note=${`${format.rate(status.engagements_per_second)} engagements, ${format.rate(status.slates_per_second)} slates a second`}>
      <${Sparkline} values=${rates} label="Transactions a second over the last two minutes" />
    <//>
    <${Figure} name="From Kafka to a stored score" kind=${slow ? "bad" : ""}
      value=${latency === null ? "–" : html`${format.seconds(latency.p50)} <small>median</small>`}
      note=${latency === null ? "no predictions yet" : html`99 of 100 within <b>${format.seconds(latency.p99)}</b>, of the newest ${format.count(latency.samples)}`} />
    <${Figure} name="Records that wait in Kafka" value=${lag === null ? "unknown" : format.count(lag)} kind=${lag === null ? "bad" : ""}
      note=${lag === null ? "Kafka does not answer" : "what workers have not yet passed"} />
    <${Figure} name="Alerts today" value=${html`${format.count(status.alerts_today)}${budget !== null && html` <small>of ${format.count(budget)}</small>`}`}
      kind=${budget !== null && status.alerts_today > budget ? "bad" : ""}
      note=${html`${budget === null ? "no budget: no model is in use" : "the day's budget"}; <a href=${address(["alerts"], { status: "open" })}>${format.count(status.alerts_open)} open</a>`}>
      ${budget !== null && html`<${Budget} used=${status.alerts_today / budget} />`}
    <//>
    <${Figure} name="Dead letters" value=${format.count(status.dead_letters)}
      note=${html`records that could not be read; <a href=${address(["data"])}>look at them</a>`} />
  <//></section>`;
}

function Budget({ used }) {
  return html`<div class="track" role="img" aria-label=${`${format.share(used)} of the day's budget used`}>
    <div class=${`fill ${used > 1 ? "over" : "calm"}`} style=${{ width: `${Math.min(1, used) * 100}%` }}></div>
  </div>`;
}

function NewAlerts({ alerts }) {
  const [, tick] = useState(0);
  useEvery(30_000, () => tick((before) => before + 1));
  return html`<section class="card" aria-labelledby="new-alerts">
    <h2 id="new-alerts">Newest alerts</h2>
    ${alerts.length === 0 && html`<${Empty} title="No alerts yet">They appear here by themselves. Produce transactions to the topic${" "}
      <code>transactions</code>, or start <code>make demo</code> for simulated ones.<//>`}
    <ul class="stream">${alerts.slice(0, SHOWN_ALERTS).map((alert) => html`<li key=${alert.alert_id}>
      <a href=${address(["alerts", alert.alert_id])}>
        <span class="stream-head"><${Severity} value=${alert.severity} /> <b>${alert.account_id}</b>
          <span class="stream-when"><${Time} at=${alert.scored_at} how="ago" /></span></span>
        <span class="stream-reason">${alert.reason}</span>
      </a>
    </li>`)}</ul>
    ${alerts.length > 0 && html`<p><a href=${address(["alerts"])}>All alerts</a></p>`}
  </section>`;
}

function Warnings({ warnings }) {
  return html`<section class="card" aria-labelledby="warnings">
    <h2 id="warnings">What the service says</h2>
    ${warnings.length === 0 ? html`<p class="note">Nothing since this page was opened. Refused or withdrawn models are told here.</p>` : html`
      <ul class="warnings">${warnings.map((warning) => html`<li><p>${warning.message}</p>
        <p class="note">${warning.worker} <${Time} at=${warning.at} how="clock" /></p></li>`)}</ul>`}
  </section>`;
}
