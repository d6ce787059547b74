// Alerts against what analysts can look at in a day.

import { getBudget } from "../api.js";
import { DayBars } from "../charts/bars.js";
import * as format from "../format.js";
import { useEvery, useLoad } from "../hooks.js";
import { Figure, Figures } from "../parts/figures.js";
import { Empty, Loaded } from "../parts/states.js";
import { html } from "../view.js";

const DAYS = 14;
const AGAIN_MS = 30_000;

export function BudgetDays() {
  const budget = useLoad((signal) => getBudget(DAYS, signal));
  useEvery(AGAIN_MS, budget.reload);
  return html`<section class="card" aria-labelledby="budget">
    <h2 id="budget">Budget</h2>
    <p class="note">A model is tuned to open as many alerts a day as analysts can look at: the budget.</p>
    <${Loaded} from=${budget}>${(data) => html`
      <${Figures}>
        <${Figure} name="Open" value=${format.count(data.open)} note="nobody has said yet" />
        <${Figure} name="Today" value=${format.count(data.today)} note=${data.budget === null ? "no budget yet" : `of ${format.count(data.budget)} a day`}
          kind=${data.budget !== null && data.today > data.budget ? "bad" : ""} />
      <//>
      ${data.days.length === 0
        ? html`<${Empty} title="No days yet">Alerts are counted here by day once there are some.<//>`
        : html`<${DayBars} title="Alerts opened by day" valueName="opened" limitName="budget" summary=${summary(data.days)}
            days=${data.days.map(({ day, opened, budget: limit }) => ({ day, value: opened, limit }))} />`}
      <p class="note">Open an alert from the list to see why it was raised.</p>`}<//>
  </section>`;
}

function summary(days) {
  const over = days.filter(({ opened, budget }) => budget !== null && opened > budget).length;
  return over === 0 ? "On no day were there more than the budget." : `${format.plural(over, "day", "days")} of ${days.length} over the budget.`;
}
