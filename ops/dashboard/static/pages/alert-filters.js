// What the list of alerts is narrowed to and how it is ordered. The choice is in the address, so it can be shared.

import { html, useEffect, useRef, useState } from "../view.js";

const SEVERITIES = ["critical", "high", "medium", "low"];
const TYPING_MS = 350;

export function AlertFilters({ query, change }) {
  const set = (name) => (event) => change(without({ ...query, [name]: event.target.value }));
  const chosen = (query.severity ?? "").split(",").filter((each) => each !== "");
  const toggle = (severity) => {
    const next = chosen.includes(severity) ? chosen.filter((each) => each !== severity) : [...chosen, severity];
    change(without({ ...query, severity: next.join(",") }));
  };
  const more = ["account", "model", "since", "until"].filter((name) => query[name]).length;
  return html`<form class="filters" role="search" aria-label="Alerts" onSubmit=${(event) => event.preventDefault()}>
    <${Typed} id="alert-search" type="search" name="Search" value=${query.search} placeholder="alert, account or event"
      change=${(value) => change(without({ ...query, search: value }))} />
    <div class="filter-row">
      <${Choice} name="Status" value=${query.status} set=${set("status")} options=${{ "": "all", open: "open", closed: "closed" }} />
      <${Choice} name="Label" value=${query.label} set=${set("label")}
        options=${{ "": "any", none: "none yet", fraud: "fraud", legitimate: "legitimate" }} />
      <${Choice} name="Order" value=${query.order} set=${set("order")} options=${{ "": "newest first", worst: "worst first" }} />
    </div>
    <fieldset class="chips"><legend class="unseen">Severity</legend>${SEVERITIES.map((severity) => html`<label class="chip">
      <input type="checkbox" checked=${chosen.includes(severity)} onChange=${() => toggle(severity)} /><span>${severity}</span></label>`)}
    </fieldset>
    <details class="more-filters" open=${more > 0}><summary>More filters${more > 0 ? ` (${more})` : ""}</summary>
      <div class="filter-row">
        <${Typed} name="Account" value=${query.account} change=${(value) => change(without({ ...query, account: value }))} />
        <${Typed} name="Model" value=${query.model} placeholder="fraud:3" change=${(value) => change(without({ ...query, model: value }))} />
        <label class="field">From<input type="datetime-local" value=${local(query.since)} onChange=${(event) => change(without({ ...query, since: utc(event.target.value) }))} /></label>
        <label class="field">Until<input type="datetime-local" value=${local(query.until)} onChange=${(event) => change(without({ ...query, until: utc(event.target.value) }))} /></label>
      </div>
    </details>
  </form>`;
}

function Choice({ name, value = "", set, options }) {
  return html`<label class="field">${name}<select value=${value} onChange=${set}>
    ${Object.entries(options).map(([key, text]) => html`<option value=${key} selected=${key === value}>${text}</option>`)}
  </select></label>`;
}

/** A text that counts once typing pauses. */
function Typed({ id, type = "text", name, value = "", placeholder, change }) {
  const [text, setText] = useState(value);
  const timer = useRef(0);
  const latest = useRef(change);
  latest.current = change;
  useEffect(() => setText(value), [value]);
  const typed = (event) => {
    const next = event.target.value;
    setText(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => latest.current(next.trim()), TYPING_MS);
  };
  useEffect(() => () => clearTimeout(timer.current), []);
  return html`<label class="field">${name}<input id=${id} type=${type} value=${text} placeholder=${placeholder} onInput=${typed} /></label>`;
}

function without(query) {
  return Object.fromEntries(Object.entries(query).filter(([, value]) => value !== ""));
}

function utc(text) {
  return text === "" ? "" : new Date(text).toISOString();
}

/** As <input type="datetime-local"> wants it. */
function local(text) {
  if (!text) return "";
  const at = new Date(text);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
