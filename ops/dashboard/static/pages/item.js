// Items of the catalogue, and what the policy takes to be like them.

import { getItem, getItems } from "../api.js";
import * as format from "../format.js";
import { useEvery, useLoad } from "../hooks.js";
import { Lookup } from "../parts/lookup.js";
import { Empty, Loaded } from "../parts/states.js";
import { Badge } from "../parts/text.js";
import { address, go } from "../router.js";
import { html } from "../view.js";

const FOUND = 12;
const LOADING_MS = 1_500;

export function ItemLookup({ query }) {
  return html`<section class="card" aria-labelledby="item"><h2 id="item">An item and its neighbours</h2>
    <${Lookup} label="Title or id" value=${query.search} placeholder="blanket" action="Search"
      find=${(search) => go(["recommendations"], { user: query.user, search })} />
    ${query.item
      ? html`<${Item} key=${query.item} item=${query.item} query=${query} />`
      : html`<${Found} key=${query.search ?? ""} search=${query.search ?? ""} query=${query} />`}
  </section>`;
}

function Found({ search, query }) {
  const items = useLoad((signal) => getItems(search, FOUND, signal));
  return html`<${Loaded} from=${items}>${({ items: found }) => found.length === 0
    ? html`<${Empty} title=${search ? "Nothing found" : "No items yet"}>${search ? "Try the beginning of an id, or a word of the title." : html`Produce some to the topic <code>items</code>.`}<//>`
    : html`<ul class="items">${found.map((item) => html`<li key=${item.item_id}><a href=${address(["recommendations"], { ...query, item: item.item_id })}>${item.title || item.item_id}</a>
        <span class="note">${item.category ?? ""}${item.available ? "" : ", not available"}</span></li>`)}</ul>`}<//>`;
}

function Item({ item, query }) {
  const loaded = useLoad((signal) => getItem(item, signal));
  // The policy's vectors are read when they are first asked for.
  useEvery(LOADING_MS, () => loaded.data?.loading && loaded.reload());
  return html`
    <p class="back"><a href=${address(["recommendations"], { ...query, item: undefined })}>All items</a></p>
    <${Loaded} from=${loaded}>${(data) => html`
      <h3>${data.title || data.item_id}</h3>
      <p>${data.item_id}${data.category ? `, ${data.category}` : ""}${data.price === null ? "" : `, ${format.money(data.price)}`} ${!data.available && html`<${Badge}>not available<//>`}</p>
      ${data.neighbours.length === 0
        ? html`<${Empty} title=${data.loading ? "Being read" : "No neighbours"}>${data.loading ? "The policy in use is being read." : data.policy ? "The policy in use was made before this item came." : "No policy is in use yet: headgate retrain makes the first from what users did."}<//>`
        : html`<p class="note">Nearest in the eyes of ${data.policy}:</p>
          <ol class="neighbours">${data.neighbours.map((each) => html`<li key=${each.item_id}>
            <a href=${address(["recommendations"], { ...query, item: each.item_id })}>${each.title || each.item_id}</a>
            <div class="track" aria-hidden="true"><div class="fill calm" style=${{ width: `${Math.max(0, each.cosine) * 100}%` }}></div></div>
            <span class="number" title="cosine of the angle between their vectors">${format.figure(each.cosine)}</span></li>`)}</ol>`}`}<//>`;
}
