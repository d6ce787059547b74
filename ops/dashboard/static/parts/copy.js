// A button that copies a text and says that it did.

import { announce } from "../announcer.js";
import { html, useState } from "../view.js";

const SHOWN_MS = 2_000;

export function CopyButton({ text, what }) {
  const [outcome, setOutcome] = useState("");
  const copy = async () => {
    // Without a secure context (plain HTTP on another host than this one) browsers give no clipboard.
    const said = await navigator.clipboard.writeText(text).then(() => "Copied", () => "Select it and copy by hand");
    setOutcome(said);
    announce(`${said}: ${what}`);
    setTimeout(() => setOutcome(""), SHOWN_MS);
  };
  if (!navigator.clipboard) return null;
  return html`<button type="button" class="small" onClick=${copy} aria-label=${`Copy ${what}`}>${outcome || "Copy"}</button>`;
}
