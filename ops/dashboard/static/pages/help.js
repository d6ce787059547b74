// What the console shows and which keys it knows.

import { useStore } from "../hooks.js";
import { keysOn, switchKeys } from "../keys.js";
import { closeAround, Dialog } from "../parts/dialog.js";
import { html } from "../view.js";

const KEYS = [
  ["j / k", "next, previous alert"],
  ["Enter or o", "open the alert"],
  ["f", "label it as fraud"],
  ["l", "label it as legitimate"],
  ["Esc", "back to the list"],
  ["/", "to the search"],
  ["?", "this help"],
];

export function Help({ close }) {
  const on = useStore(keysOn);
  return html`<${Dialog} title="Help and keys" close=${close}>
    <p>Headgate scores every transaction as it comes and raises an alert where the score reaches the threshold of the
      model. Say of alerts whether they were fraud: your labels are what the next model learns from. The newest label
      counts, so a wrong one is put right by giving the other.</p>
    <h3>On the page of alerts</h3>
    <dl class="keys">${KEYS.map(([key, meaning]) => html`<div><dt><kbd>${key}</kbd></dt><dd>${meaning}</dd></div>`)}</dl>
    <label class="check"><input type="checkbox" checked=${on} onChange=${(event) => switchKeys(event.target.checked)} />
      Single keys act (Esc always does)</label>
    <div class="actions"><button type="button" class="primary" onClick=${(event) => closeAround(event.currentTarget)}>Close</button></div>
  <//>`;
}
