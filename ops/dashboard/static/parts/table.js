// A table that scrolls sideways inside its own frame, where the window is narrow.

import { html } from "../view.js";

/** columns: [{ title, cell(row), numeric }]. caption is for screen readers, unless shown. */
export function Table({ caption, columns, rows, id }) {
  return html`<div class="table-frame" role="region" aria-label=${caption} tabindex="0">
    <table>
      <caption class="unseen">${caption}</caption>
      <thead><tr>${columns.map(({ title, numeric }) => html`<th scope="col" class=${numeric ? "numeric" : ""}>${title}</th>`)}</tr></thead>
      <tbody>
        ${rows.map((row, index) => html`<tr key=${id ? id(row) : index}>
          ${columns.map(({ cell, numeric }) => html`<td class=${numeric ? "numeric" : ""}>${cell(row)}</td>`)}
        </tr>`)}
      </tbody>
    </table>
  </div>`;
}
