// Changing which version is in use: asked for once more, with a reason that is kept with the model.

import { promote, rollBack } from "../api.js";
import { Confirmation } from "../parts/dialog.js";
import { html } from "../view.js";

export function Promote({ name, version, close, changed }) {
  const act = async (why) => {
    const champion = await promote(name, version, why);
    changed();
    return champion;
  };
  return html`<${Confirmation} title=${`Promote ${name}:${version}?`} action="Promote" asksWhy="Why?" act=${act} close=${close}
    done=${(champion) => `${champion.name}:${champion.version} is champion`}>
    <p>It becomes champion. Running workers take it over within seconds, between two batches, and refuse it where its
      scores make no sense.</p>
  <//>`;
}

export function RollBack({ name, close, changed }) {
  const act = async (why) => {
    const champion = await rollBack(name, why);
    changed();
    return champion;
  };
  return html`<${Confirmation} title=${`Roll ${name} back?`} action="Roll back" asksWhy="Why?" act=${act} close=${close}
    done=${(champion) => `${champion.name}:${champion.version} is champion again`}>
    <p>The champion before this one takes over. Running workers follow within seconds.</p>
  <//>`;
}
