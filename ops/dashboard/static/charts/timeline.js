// An account's recent events: amounts over time on a logarithmic scale, with those marked that the alert is about.

import * as format from "../format.js";
import { html } from "../view.js";
import { Axes, Chart } from "./frame.js";
import { linear, thinned } from "./scale.js";

const LEFT = 56;
const RIGHT = 26;
const TOP = 16;
const BELOW = 26;
const HEIGHT = 210;

/** events: oldest first, at least one. marked: ids of the alert's events. */
export function Timeline({ events, marked }) {
  const times = events.map((event) => Date.parse(event.occurred_at));
  const logs = events.map((event) => Math.log10(Math.max(0.01, event.amount)));
  const low = Math.floor(Math.min(...logs));
  const high = Math.max(low + 1, Math.ceil(Math.max(...logs)));
  const bottom = HEIGHT - BELOW;
  const y = linear(low, high, bottom, TOP);
  const xScale = (width) => linear(times[0], times.at(-1), LEFT + 6, width - RIGHT);
  const isMarked = (event) => marked.includes(event.event_id);
  const sameDay = new Date(times[0]).toDateString() === new Date(times.at(-1)).toDateString();
  const draw = (width, chosen) => {
    const x = xScale(width);
    return html`
      <${Axes} x=${x} y=${y} xTicks=${ticks(times, width)} yTicks=${Array.from({ length: high - low + 1 }, (_, step) => low + step)}
        left=${LEFT} right=${width - RIGHT} bottom=${bottom} yText=${(power) => format.compact(10 ** power)}
        xText=${(at) => (sameDay ? format.time(at).slice(0, 5) : format.day(new Date(at).toISOString()))} />
      ${events.map((event, index) => html`<g class=${`event ${isMarked(event) ? "marked" : ""} ${index === chosen ? "is-chosen" : ""}`}>
        <line x1=${x(times[index])} x2=${x(times[index])} y1=${bottom} y2=${y(logs[index])} />
        <circle cx=${x(times[index])} cy=${y(logs[index])} r=${isMarked(event) ? 6.5 : 4.5} />
        ${isMarked(event) && html`<circle class="ring" cx=${x(times[index])} cy=${y(logs[index])} r="10" />`}
      </g>`)}`;
  };
  const amount = (event) => `${format.money(event.amount)} ${event.currency ?? ""}`;
  const about = events.filter(isMarked).length;
  return html`<${Chart} title="Recent events of the account" height=${HEIGHT} draw=${draw}
    summary=${`${format.plural(events.length, "event", "events")}, of which ${about} in this alert. Amounts on a logarithmic scale.`}
    places=${(width) => times.map(xScale(width))}
    readout=${(index) => `${format.dateTime(events[index].occurred_at)}: ${amount(events[index])} at ${events[index].merchant_id}, score ${format.score(events[index].score)}`}
    legend=${[{ name: "in this alert", kind: "marked" }, { name: "other events", kind: "plain" }]}
    table=${{ rows: [...events].reverse(), columns: columns(amount, isMarked) }} />`;
}

function columns(amount, isMarked) {
  return [
    { title: "when", cell: (event) => html`<time datetime=${event.occurred_at} title=${format.utc(event.occurred_at)}>${format.dateTime(event.occurred_at)}</time>` },
    { title: "amount", numeric: true, cell: amount },
    { title: "merchant", cell: (event) => event.merchant_id },
    { title: "score", numeric: true, cell: (event) => format.score(event.score) },
    { title: "in this alert", cell: (event) => (isMarked(event) ? "yes" : "") },
    { title: "channel", cell: (event) => event.channel ?? "–" },
    { title: "country", cell: (event) => event.country ?? "–" },
    { title: "category", cell: (event) => event.category ?? "–" },
    { title: "event", cell: (event) => event.event_id },
  ];
}

/** Times of events that are far enough apart to be written under the axis. */
function ticks(times, width) {
  const span = times.at(-1) - times[0];
  if (span === 0) return [times[0]];
  const count = Math.max(2, Math.min(5, Math.floor(width / 110)));
  return thinned(Array.from({ length: count }, (_, index) => times[0] + (span * index) / (count - 1)), count);
}
