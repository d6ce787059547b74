// Small pieces of text with a meaning of their own: times, badges of severity and state, models, headings.

import * as format from "../format.js";
import { html, useLayoutEffect, useRef } from "../view.js";

/** Local time, with UTC in the tooltip. how: "full", "clock" or "ago". */
export function Time({ at, how = "full" }) {
  if (!at) return html`<span>–</span>`;
  const shown = { full: format.dateTime, clock: format.time, ago: format.ago }[how](at);
  return html`<time datetime=${at} title=${format.utc(at)}>${shown}</time>`;
}

export function Severity({ value }) {
  return html`<span class=${`badge severity-${value}`}>${value}</span>`;
}

/** What is known about an alert: its label, else whether it is open. */
export function AlertState({ alert }) {
  if (alert.label) return html`<span class=${`badge label-${alert.label}`}>${alert.label}</span>`;
  return html`<span class=${`badge state-${alert.status}`}>${alert.status}</span>`;
}

export function Badge({ kind = "plain", children }) {
  return html`<span class=${`badge ${kind}`}>${children}</span>`;
}

let firstHeading = true;

/** A heading that takes the focus when what it heads is opened, so that keyboards and screen readers go along. */
export function OpeningHeading({ level = 1, children }) {
  const ref = useRef(null);
  useLayoutEffect(() => {
    // When the page is loaded, the focus stays at its beginning.
    if (!firstHeading) ref.current.focus();
    firstHeading = false;
  }, []);
  return html`<${`h${level}`} ref=${ref} tabindex="-1">${children}<//>`;
}
