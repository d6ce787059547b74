// Lines over days or over a number, each with intervals where they are known.

import { html } from "../view.js";
import { Axes, Chart } from "./frame.js";
import { linear, range, roundTicks, thinned } from "./scale.js";

const LEFT = 46;
const RIGHT = 22;
const TOP = 10;
const BELOW = 26;

/** series: [{ name, kind, dots, points: [{ x, y, low, high }] }], y null where unknown. xText, yText: how values are
 * written. xRange, yRange: where the data does not decide. diagonal: whether y = x is drawn. dates: x are days' times.
 * xName, yName: what the axes are. */
export function Lines({ title, summary, series, xName, yName, xText, yText, xRange, yRange, diagonal, dates, height = 230 }) {
  const ordered = series.map((each) => ({ ...each, points: [...each.points].sort((one, other) => one.x - other.x) }));
  const all = series.flatMap((each) => each.points);
  const xs = [...new Set(all.map((point) => point.x))].sort((a, b) => a - b);
  const [xLow, xHigh] = xRange ?? [xs[0], xs.at(-1)];
  const [yLow, yHigh] = yRange ?? range(all.flatMap((point) => [point.y, point.low, point.high].filter((value) => value !== null)));
  const bottom = height - BELOW;
  const y = linear(yLow, yHigh, bottom, TOP);
  const xScale = (width) => linear(xLow, xHigh, LEFT, width - RIGHT);
  const valueAt = (each, x) => each.points.find((point) => point.x === x && point.y !== null);
  const draw = (width, chosen) => {
    const x = xScale(width);
    const most = Math.max(2, Math.floor((width - LEFT) / (dates ? 64 : 56)));
    const xTicks = dates ? thinned(xs, most) : roundTicks(xLow, xHigh, Math.min(5, most));
    return html`
      <${Axes} x=${x} y=${y} xTicks=${xTicks} yTicks=${roundTicks(yLow, yHigh, 4)} xText=${xText} yText=${yText}
        left=${LEFT} right=${width - RIGHT} bottom=${bottom} />
      ${diagonal && html`<line class="diagonal" x1=${x(xLow)} y1=${y(xLow)} x2=${x(xHigh)} y2=${y(xHigh)} />`}
      ${ordered.map((each) => html`<${Series} ...${each} x=${x} y=${y} />`)}
      ${chosen !== null && html`<line class="chosen" x1=${x(xs[chosen])} x2=${x(xs[chosen])} y1=${TOP} y2=${bottom} />`}`;
  };
  const values = (x) => series.map((each) => [each.name, valueAt(each, x)]).filter(([, point]) => point);
  const readout = (index) =>
    `${xName} ${xText(xs[index])}: ${values(xs[index]).map(([name, point]) => `${name} ${withInterval(point, yText)}`).join(", ") || "no value"}`;
  return html`<${Chart} title=${title} summary=${summary} height=${height} draw=${draw} readout=${readout}
    places=${(width) => xs.map(xScale(width))} legend=${series.map(({ name, kind }) => ({ name, kind }))}
    table=${{ rows: xs, columns: columns(series, xName, yName, xText, yText, valueAt) }} />`;
}

function columns(series, xName, yName, xText, yText, valueAt) {
  const cell = (each) => (x) => {
    const point = valueAt(each, x);
    return point ? withInterval(point, yText) : "–";
  };
  const title = (each) => (series.length === 1 ? yName : `${yName}, ${each.name}`);
  return [{ title: xName, cell: xText }, ...series.map((each) => ({ title: title(each), numeric: true, cell: cell(each) }))];
}

function withInterval(point, text) {
  const known = Number.isFinite(point.low) && Number.isFinite(point.high);
  return known ? `${text(point.y)} (${text(point.low)} to ${text(point.high)})` : text(point.y);
}

function Series({ kind, points, dots, x, y }) {
  const known = points.filter((point) => point.y !== null && point.y !== undefined);
  const banded = known.filter((point) => Number.isFinite(point.low) && Number.isFinite(point.high));
  const there = banded.map((point) => `${x(point.x)},${y(point.high)}`);
  const back = [...banded].reverse().map((point) => `${x(point.x)},${y(point.low)}`);
  return html`<g class=${`series ${kind}`}>
    ${banded.length > 1 && html`<polygon class="band" points=${[...there, ...back].join(" ")} />`}
    ${banded.length === 1 && html`<line class="whisker" x1=${x(banded[0].x)} x2=${x(banded[0].x)} y1=${y(banded[0].low)} y2=${y(banded[0].high)} />`}
    <polyline points=${known.map((point) => `${x(point.x)},${y(point.y)}`).join(" ")} />
    ${(dots || known.length < 3) && known.map((point) => html`<circle cx=${x(point.x)} cy=${y(point.y)} r="3.5" />`)}
  </g>`;
}
