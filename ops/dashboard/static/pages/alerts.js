// Triage: the list of alerts with filters, and beside it the one that is open. All of it works by keyboard.

import { getAlerts } from "../api.js";
import * as format from "../format.js";
import { useLoad, useStore } from "../hooks.js";
import { useKeys } from "../keys.js";
import { live } from "../live.js";
import { Failure, Loaded } from "../parts/states.js";
import { OpeningHeading } from "../parts/text.js";
import { address, go, replace } from "../router.js";
import { may } from "../session.js";
import { judge, verdicts } from "../verdicts.js";
import { html, useRef, useState } from "../view.js";
import { AlertDetail } from "./alert.js";
import { AlertFilters } from "./alert-filters.js";
import { AlertList } from "./alert-list.js";
import { BudgetDays } from "./budget.js";

const PAGE = 50;

export function AlertsPage({ path, query }) {
  const [openId] = path;
  const list = useAlerts(query);
  const alerts = useUpdated(list.data?.alerts ?? []);
  const focused = useRef(null);
  const current = () => openId ?? focused.current;
  const open = (id) => go(["alerts", id], query);
  const close = () => {
    go(["alerts"], query);
    // Once the list is drawn: the row may have been hidden while the alert was open.
    requestAnimationFrame(() => focusRow(openId));
  };
  const move = (by) => {
    const place = alerts.findIndex((alert) => alert.alert_id === current());
    const next = alerts[place < 0 ? 0 : Math.max(0, Math.min(alerts.length - 1, place + by))];
    if (!next) return;
    if (openId) open(next.alert_id);
    else focusRow(next.alert_id);
  };
  const label = (verdict) => current() && may("analyst") && judge(current(), verdict);
  useKeys({
    j: () => move(1),
    k: () => move(-1),
    o: () => current() && open(current()),
    f: () => label("fraud"),
    l: () => label("legitimate"),
    Escape: () => openId && close(),
    "/": () => document.getElementById("alert-search").focus(),
  });
  return html`
    <div class="page-head"><${OpeningHeading}>Alerts<//>
      <p class="note keys-hint"><kbd>j</kbd> <kbd>k</kbd> move, <kbd>Enter</kbd> opens, <kbd>f</kbd> fraud, <kbd>l</kbd> legitimate, <kbd>?</kbd> help</p></div>
    <div class=${`triage ${openId ? "has-detail" : ""}`}>
      <section class="triage-list" aria-label="List of alerts">
        <${AlertFilters} query=${query} change=${(next) => replace(path.length ? ["alerts", ...path] : ["alerts"], next)} />
        <${Fresh} show=${list.reload} since=${list.arrived} />
        <${Loaded} from=${list} what="Loading alerts">${() => html`
          <${AlertList} alerts=${alerts} openId=${openId} query=${query} focus=${(id) => { focused.current = id; }} />
          ${list.data.next && html`<button type="button" onClick=${list.more} disabled=${list.busy}>Show more</button>`}
          ${list.problem && html`<${Failure} error=${list.problem} again=${list.more} />`}`}<//>
      </section>
      <div class="triage-detail">
        ${openId ? html`<${AlertDetail} key=${openId} id=${openId} close=${close} back=${address(["alerts"], query)} />` : html`<${BudgetDays} />`}
      </div>
    </div>`;
}

/** The list as useLoad has it, and more() for its next page. arrived: openings of alerts that it may hold. */
function useAlerts(query) {
  const [more, setMore] = useState({ busy: false, problem: null });
  const arrived = useRef(live.get().arrived);
  const load = (signal) => {
    arrived.current = live.get().arrived;
    return getAlerts({ ...query, limit: PAGE }, signal);
  };
  const list = useLoad(load, [JSON.stringify(query)]);
  const next = async () => {
    setMore({ busy: true, problem: null });
    try {
      const page = await getAlerts({ ...query, limit: PAGE, cursor: list.data.next });
      list.change({ alerts: [...list.data.alerts, ...page.alerts], next: page.next });
      setMore({ busy: false, problem: null });
    } catch (problem) {
      setMore({ busy: false, problem });
    }
  };
  return { ...list, ...more, more: next, arrived: arrived.current };
}

/** The alerts with what has come to be known of them since they were loaded. */
function useUpdated(alerts) {
  const { alerts: newest } = useStore(live);
  const given = useStore(verdicts);
  return alerts.map((alert) => {
    const known = [given[alert.alert_id]?.alert, newest.find((each) => each.alert_id === alert.alert_id)];
    return known.reduce((best, each) => (each && each.revision > best.revision ? { ...best, ...each } : best), withLabel(alert, given));
  });
}

function withLabel(alert, given) {
  const joined = given[alert.alert_id]?.alert;
  return joined ? { ...alert, label: joined.label, label_source: joined.label_source } : alert;
}

/** New alerts do not move the list under the reader's hand: a button brings them in. */
function Fresh({ show, since }) {
  const { arrived } = useStore(live);
  if (arrived <= since) return null;
  return html`<button type="button" class="fresh" onClick=${show}>${format.plural(arrived - since, "new alert", "new alerts")}: show</button>`;
}

/** At once: a verdict that is given next is about the row that has the focus. */
function focusRow(id) {
  document.querySelector(`[data-alert="${CSS.escape(id)}"]`)?.focus();
}
