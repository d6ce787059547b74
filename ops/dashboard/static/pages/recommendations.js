// Recommendations: what slates are worth against chance, how much of the catalogue is shown, and slates and items to
// look up.

import { getCoverage, getRewards } from "../api.js";
import { Lines } from "../charts/lines.js";
import * as format from "../format.js";
import { useLoad } from "../hooks.js";
import { Figure, Figures } from "../parts/figures.js";
import { AsOf, Empty, Loaded } from "../parts/states.js";
import { OpeningHeading } from "../parts/text.js";
import { html } from "../view.js";
import { ItemLookup } from "./item.js";
import { SlateLookup } from "./slate.js";

const DAYS = 30;

export function RecommendationsPage({ query }) {
  return html`
    <${OpeningHeading}>Recommendations<//>
    <${Rewards} />
    <${Coverage} />
    <div class="columns"><${SlateLookup} query=${query} /><${ItemLookup} query=${query} /></div>`;
}

function Rewards() {
  const rewards = useLoad((signal) => getRewards(DAYS, signal));
  return html`<section class="card" aria-labelledby="rewards"><h2 id="rewards">Reward per slate</h2>
    <p class="note">What users did with a slate, in points: a click 1, a like 2, a purchase 5, a dislike −2. Some users always get
      chance (<code>random</code>): what a policy earns above it is what it has learned. Shaded: the 95% interval.</p>
    <${Loaded} from=${rewards}>${({ as_of: asOf, days }) => html`<${AsOf} at=${asOf} again=${rewards.reload}>${days.length === 0
      ? html`<${Empty} title="No slates yet">Produce <code>items</code> and <code>engagements</code>; slates and what they earn are counted here by day.<//>`
      : html`<${RewardLines} days=${days} />`}<//>`}<//></section>`;
}

function RewardLines({ days }) {
  const policies = [...new Set(days.map((row) => row.policy))].sort(chanceLast);
  const kinds = ["one", "two", "three", "four"];
  const series = policies.map((policy, index) => ({
    name: policy,
    kind: policy === "random" ? "chance" : kinds[index % kinds.length],
    points: days.filter((row) => row.policy === policy)
      .map((row) => ({ x: Date.parse(row.day), y: row.reward_per_slate, low: row.reward_low, high: row.reward_high })),
  }));
  return html`<${Lines} title="Reward per slate by day" series=${series} dates xName="day" yName="reward" summary=${summary(days)} height=${270}
    xText=${(x) => format.day(new Date(x).toISOString())} yText=${format.figure} />`;
}

function chanceLast(one, other) {
  return (one === "random") - (other === "random") || other.localeCompare(one, "en", { numeric: true });
}

/** The latest day on which a policy can be held against chance, in a sentence. */
function summary(days) {
  const last = [...new Set(days.map((row) => row.day))].sort().reverse();
  for (const day of last) {
    const of = days.filter((row) => row.day === day && row.reward_per_slate !== null);
    const chance = of.find((row) => row.policy === "random");
    const policy = of.filter((row) => row.policy !== "random").sort((a, b) => b.slates - a.slates)[0];
    if (chance && policy) {
      return `${format.day(day)}: ${policy.policy} ${format.figure(policy.reward_per_slate)}, chance ${format.figure(chance.reward_per_slate)}.`;
    }
  }
  return "No day yet on which a policy and chance were both seen.";
}

function Coverage() {
  const coverage = useLoad(getCoverage);
  return html`<section class="card" aria-labelledby="coverage"><h2 id="coverage">Coverage</h2>
    <${Loaded} from=${coverage}>${(data) => html`<${AsOf} at=${data.as_of} again=${coverage.reload}>
      <${Figures}>
        <${Figure} name="Of the catalogue shown" value=${format.share(data.share)} note="available items in any slate of the last day">
          <div class="track" aria-hidden="true"><div class="fill calm" style=${{ width: `${(data.share ?? 0) * 100}%` }}></div></div><//>
        <${Figure} name="Items shown" value=${format.count(data.shown)} note=${`of ${format.count(data.available)} available`} />
        <${Figure} name="Slates" value=${format.count(data.slates)} note="in the last day" />
      <//><//>`}<//></section>`;
}
