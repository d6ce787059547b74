// Who did what, for operators.

import { getAudit } from "../api.js";
import { useLoad } from "../hooks.js";
import { Empty, Failure, Loaded } from "../parts/states.js";
import { Table } from "../parts/table.js";
import { Time } from "../parts/text.js";
import { html, useState } from "../view.js";

const PAGE = 50;
const COLUMNS = [
  { title: "when", cell: (entry) => html`<${Time} at=${entry.at} />` },
  { title: "who", cell: (entry) => entry.who },
  { title: "what", cell: (entry) => entry.action },
  { title: "of", cell: (entry) => html`<span class="long">${entry.subject}</span>` },
  { title: "more", cell: (entry) => html`<span class="long">${inWords(entry.detail)}</span>` },
];

export function Audit() {
  const entries = useLoad((signal) => getAudit({ limit: PAGE }, signal));
  const [problem, setProblem] = useState(null);
  const more = () => getAudit({ limit: PAGE, cursor: entries.data.next }).then(
    (page) => entries.change({ ...page, entries: [...entries.data.entries, ...page.entries] }),
    setProblem,
  );
  return html`<section class="card" aria-labelledby="audit"><h2 id="audit">Who did what</h2>
    <p class="note">Verdicts, promotions, rollbacks and replays, here and by command. Nothing of it is ever changed.</p>
    <${Loaded} from=${entries}>${({ entries: rows, next }) => html`
      ${rows.length === 0
        ? html`<${Empty} title="Nothing yet">What somebody does appears here.<//>`
        : html`<${Table} caption="Who did what" rows=${rows} id=${(entry) => entry.id} columns=${COLUMNS} />`}
      ${next && html`<button type="button" onClick=${more}>Show more</button>`}
      ${problem && html`<${Failure} error=${problem} again=${more} />`}`}<//>
  </section>`;
}

function inWords(detail) {
  const said = Object.entries(detail).filter(([, value]) => value !== null);
  return said.map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ");
}
