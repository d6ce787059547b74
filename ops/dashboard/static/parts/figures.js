// A row of figures, each with what it means.

import { html } from "../view.js";

export function Figures({ children }) {
  return html`<dl class="figures">${children}</dl>`;
}

/** kind: "" or "bad" where somebody should look. */
export function Figure({ name, value, note, kind = "", children }) {
  return html`<div class=${`figure ${kind}`}>
    <dt>${name}</dt>
    <dd class="figure-value">${value}</dd>
    ${note && html`<dd class="figure-note">${note}</dd>`}
    ${children && html`<dd>${children}</dd>`}
  </div>`;
}
