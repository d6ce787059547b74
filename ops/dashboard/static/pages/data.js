// Data: records that could not be read, single predictions, the SQL views for everything else, and who did what.

import { getViews } from "../api.js";
import { useLoad } from "../hooks.js";
import { CopyButton } from "../parts/copy.js";
import { Loaded } from "../parts/states.js";
import { OpeningHeading } from "../parts/text.js";
import { may } from "../session.js";
import { html } from "../view.js";
import { Audit } from "./audit.js";
import { DeadLetters } from "./dead-letters.js";
import { Predictions } from "./predictions.js";

export function DataPage({ path, query }) {
  return html`
    <${OpeningHeading}>Data<//>
    <${DeadLetters} path=${path} query=${query} />
    <${Predictions} query=${query} />
    <${Views} />
    ${may("operator") && html`<${Audit} />`}`;
}

function Views() {
  const views = useLoad(getViews);
  return html`<section class="card" aria-labelledby="views"><h2 id="views">Everything else with SQL</h2>
    <p class="note">Every prediction, alert, slate and label is in these views, which stay as they are between versions. Any
      client of your database will do.</p>
    <${Loaded} from=${views}>${({ views: all }) => html`<div class="views">${all.map((view) => html`<details key=${view.name} class="view">
      <summary><code>${view.name}</code> <span class="note">${view.about}</span></summary>
      <p class="note">Columns: ${view.columns.join(", ")}</p>
      <div class="query"><pre tabindex="0" aria-label=${`Query of ${view.name}`}>${view.query}</pre><${CopyButton} text=${view.query} what=${`the query of ${view.name}`} /></div>
    </details>`)}</div>`}<//></section>`;
}
