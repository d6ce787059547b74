// One bar for each day against a limit.

import * as format from "../format.js";
import { html } from "../view.js";
import { Axes, Chart } from "./frame.js";
import { linear, roundTicks, thinned } from "./scale.js";

const LEFT = 40;
const RIGHT = 8;
const TOP = 10;
const BELOW = 26;

/** days: [{ day, value, limit }], limit null where there is none. */
export function DayBars({ title, summary, days, valueName, limitName, height = 170 }) {
  const bottom = height - BELOW;
  const most = Math.max(1, ...days.flatMap(({ value, limit }) => [value, limit ?? 0])) * 1.08;
  const y = linear(0, most, bottom, TOP);
  const step = (width) => (width - LEFT - RIGHT) / days.length;
  const middle = (width) => (index) => LEFT + step(width) * (index + 0.5);
  const draw = (width, chosen) => {
    const x = middle(width);
    const wide = Math.min(34, step(width) * 0.68);
    const shown = thinned(days.map((_, index) => index), Math.floor((width - LEFT) / 56));
    return html`
      <${Axes} x=${x} y=${y} xTicks=${shown} yTicks=${roundTicks(0, most, 3)} left=${LEFT} right=${width - RIGHT}
        bottom=${bottom} xText=${(index) => format.day(days[index].day)} yText=${format.compact} />
      ${days.map(({ value, limit }, index) => html`
        <rect class=${`bar ${limit !== null && value > limit ? "over" : ""} ${index === chosen ? "is-chosen" : ""}`}
          x=${x(index) - wide / 2} y=${y(value)} width=${wide} height=${Math.max(0, bottom - y(value))} rx="2" />
        ${limit !== null && html`<line class="limit" x1=${x(index) - step(width) / 2} x2=${x(index) + step(width) / 2} y1=${y(limit)} y2=${y(limit)} />`}`)}`;
  };
  const limitText = (limit) => (limit === null ? "" : `, ${limitName} ${format.count(limit)}`);
  return html`<${Chart} title=${title} summary=${summary} height=${height} draw=${draw}
    places=${(width) => days.map((_, index) => middle(width)(index))}
    readout=${(index) => `${format.day(days[index].day)}: ${format.count(days[index].value)} ${valueName}${limitText(days[index].limit)}`}
    legend=${[{ name: valueName, kind: "one" }, ...(days.some(({ limit }) => limit !== null) ? [{ name: limitName, kind: "limit" }] : [])]}
    table=${{
      rows: days,
      columns: [
        { title: "day (UTC)", cell: (row) => format.day(row.day) },
        { title: valueName, numeric: true, cell: (row) => format.count(row.value) },
        { title: limitName, numeric: true, cell: (row) => format.count(row.limit) },
      ],
    }} />`;
}
