// A form with one text that looks something up.

import { html, useEffect, useState } from "../view.js";

export function Lookup({ label, value = "", placeholder, action = "Look up", find }) {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  const submit = (event) => {
    event.preventDefault();
    find(text.trim());
  };
  return html`<form class="lookup" onSubmit=${submit}>
    <label class="field">${label}<input type="search" value=${text} placeholder=${placeholder} onInput=${(event) => setText(event.target.value)} /></label>
    <button type="submit">${action}</button>
  </form>`;
}
