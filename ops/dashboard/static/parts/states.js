// What stands where data would: loading, nothing there yet, something went wrong.

import { useEvery } from "../hooks.js";
import { html } from "../view.js";
import { Time } from "./text.js";

const BEING_MADE_MS = 3_000;

export function Loading({ what = "Loading" }) {
  return html`<p class="loading" role="status">${what} …</p>`;
}

/** title: what is not there. children: what to do about it. */
export function Empty({ title, children }) {
  return html`<div class="empty"><p class="empty-title">${title}</p><p>${children}</p></div>`;
}

export function Failure({ error, again }) {
  const title = { 403: "Your role may not do this.", 404: "Not found." }[error.status] ?? "This could not be loaded.";
  return html`<div class="failure" role="alert">
    <p><strong>${title}</strong> ${error.message}</p>
    ${again && error.status !== 404 && html`<button type="button" onClick=${again}>Try again</button>`}
  </div>`;
}

/** The children's function with the data of a useLoad, or what stands in its place. */
export function Loaded({ from, what, children }) {
  if (from.data === null) return from.error ? html`<${Failure} error=${from.error} again=${from.reload} />` : html`<${Loading} what=${what} />`;
  return html`<div class="loaded" aria-busy=${from.loading ? "true" : "false"}>
    ${from.error && html`<${Failure} error=${from.error} again=${from.reload} />`}
    ${children(from.data)}
  </div>`;
}

/** What is computed in the background. at: when it was; null while the first is being made, which is asked for again. */
export function AsOf({ at, again, children }) {
  useEvery(BEING_MADE_MS, () => !at && again());
  if (!at) return html`<${Empty} title="Being computed">The service makes this in the background. It appears here once it is there.<//>`;
  return html`${children}<p class="note">As of <${Time} at=${at} /></p>`;
}
