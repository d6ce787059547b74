// Alerts in rows, each a link to the alert.

import * as format from "../format.js";
import { useStore } from "../hooks.js";
import { Empty } from "../parts/states.js";
import { AlertState, Severity, Time } from "../parts/text.js";
import { address } from "../router.js";
import { verdicts } from "../verdicts.js";
import { html } from "../view.js";

const ON_ITS_WAY = { sending: "sending", sent: "sent", late: "sent", failed: "not sent" };

/** focus(id): the reader is at that row. */
export function AlertList({ alerts, openId, query, focus }) {
  const given = useStore(verdicts);
  if (alerts.length === 0) {
    const filtered = Object.keys(query).length > 0;
    return filtered
      ? html`<${Empty} title="No alert is like that">Change or <a href=${address(["alerts"])}>clear the filters</a>.<//>`
      : html`<${Empty} title="No alerts yet">They open once a transaction's score reaches the threshold. Without a model
          nothing is scored: <code>headgate train</code> makes the first.<//>`;
  }
  return html`<ul class="rows">${alerts.map((alert) => html`<li key=${alert.alert_id}>
    <a class="row" href=${address(["alerts", alert.alert_id], query)} data-alert=${alert.alert_id}
      aria-current=${alert.alert_id === openId ? "true" : null} onFocus=${() => focus(alert.alert_id)}>
      <span class="row-head"><${Severity} value=${alert.severity} /><b>${alert.account_id}</b>
        <span class="row-when"><${Time} at=${alert.occurred_at} how="ago" /></span></span>
      <span class="row-reason">${alert.reason}</span>
      <span class="row-foot">
        <span>score ${format.score(alert.score)}</span>
        <span>${format.money(alert.amount_at_risk)} at risk</span>
        ${alert.events > 1 && html`<span>${format.count(alert.events)} events</span>`}
        <span class="row-state">${given[alert.alert_id] && ON_ITS_WAY[given[alert.alert_id].state]
          ? html`<span class=${`badge verdict-${given[alert.alert_id].state}`}>${ON_ITS_WAY[given[alert.alert_id].state]}: ${given[alert.alert_id].label}</span>`
          : html`<${AlertState} alert=${alert} />`}</span>
      </span>
    </a>
  </li>`)}</ul>`;
}
