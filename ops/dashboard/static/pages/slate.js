// What a user is shown at the moment.

import { getSlate } from "../api.js";
import * as format from "../format.js";
import { useLoad } from "../hooks.js";
import { Lookup } from "../parts/lookup.js";
import { Empty, Failure, Loading } from "../parts/states.js";
import { Time } from "../parts/text.js";
import { address, go } from "../router.js";
import { html } from "../view.js";

const PICTURE = /^data:image\/(png|jpeg);base64,/;

export function SlateLookup({ query }) {
  return html`<section class="card" aria-labelledby="slate"><h2 id="slate">A user's slate</h2>
    <${Lookup} label="User" value=${query.user} placeholder="user-1" find=${(user) => go(["recommendations"], { ...query, user })} />
    ${query.user
      ? html`<${Slate} key=${query.user} user=${query.user} query=${query} />`
      : html`<${Empty} title="Whose?">Give a user's id to see the slate that stands in Redis for that user.<//>`}
  </section>`;
}

function Slate({ user, query }) {
  const slate = useLoad((signal) => getSlate(user, signal));
  if (slate.error) return html`<${Failure} error=${slate.error} again=${slate.reload} />`;
  if (slate.data === null) return html`<${Loading} />`;
  const { made_at: madeAt, policy, items, recommendation_id: id } = slate.data;
  return html`
    <p>${policy}, made <${Time} at=${madeAt} /> <span class="note identifier">${id}</span></p>
    <ol class="slate">${items.map((item) => html`<li key=${item.item_id}>
      ${PICTURE.test(item.image ?? "") ? html`<img src=${item.image} alt="" width="56" height="56" />` : html`<span class="no-picture" aria-hidden="true"></span>`}
      <div><a href=${address(["recommendations"], { ...query, item: item.item_id })}>${item.title || item.item_id}</a>
        <p class="note">${[item.category, price(item)].filter(Boolean).join(", ")}</p>
        <p class="note">chosen with a probability of <b>${format.share(item.propensity)}</b></p></div>
    </li>`)}</ol>`;
}

function price({ price: value }) {
  return value === null || value === undefined ? "" : format.money(value);
}
