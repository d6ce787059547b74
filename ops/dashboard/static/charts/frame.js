// What all charts have: a title, a text alternative, a legend, the values as a table, and values at the pointer or by
// the arrow keys.

import { html, useState } from "../view.js";
import { useWidth } from "../hooks.js";
import { Table } from "../parts/table.js";

/** summary: what the picture says, in a sentence. draw(width, chosen): the content of the svg. places(width): the
 * pixel of each value along x. readout(index): the values there, as a text. table: { columns, rows }. */
export function Chart({ title, summary, height, draw, places, readout, legend = [], table }) {
  const [ref, width] = useWidth();
  const [chosen, setChosen] = useState(null);
  const at = width > 0 ? places(width) : [];
  const nearest = (x) => at.reduce((best, place, index) => (Math.abs(place - x) < Math.abs(at[best] - x) ? index : best), 0);
  const point = (event) => at.length > 0 && setChosen(nearest(event.clientX - event.currentTarget.getBoundingClientRect().left));
  const step = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || at.length === 0) return;
    event.preventDefault();
    setChosen((before) => Math.max(0, Math.min(at.length - 1, before === null ? (by > 0 ? 0 : at.length - 1) : before + by)));
  };
  return html`<figure class="chart">
    <figcaption><span class="chart-title">${title}</span><${Legend} entries=${legend} /></figcaption>
    <div ref=${ref} class="chart-area" tabindex="0" role="group" aria-label=${`${title}: arrow keys read the values`}
      onPointerMove=${point} onPointerLeave=${() => setChosen(null)} onKeyDown=${step} onBlur=${() => setChosen(null)}>
      <svg role="img" aria-label=${`${title}. ${summary}`} width=${width} height=${height}>${width > 0 && draw(width, chosen)}</svg>
    </div>
    <p class="readout" aria-live="polite">${chosen !== null && chosen < at.length ? readout(chosen) : summary}</p>
    ${table && html`<details class="values"><summary>Values as a table</summary>
      <${Table} caption=${title} columns=${table.columns} rows=${table.rows} />
    </details>`}
  </figure>`;
}

function Legend({ entries }) {
  if (entries.length === 0) return null;
  return html`<span class="legend">${entries.map(({ name, kind }) => html`<span><i class=${`swatch ${kind}`}></i>${name}</span>`)}</span>`;
}

/** Horizontal lines with their values, and values below. x, y: scales. */
export function Axes({ x, y, xTicks, yTicks, xText, yText, left, right, bottom }) {
  return html`<g class="axes" aria-hidden="true">
    ${yTicks.map((value) => html`<g><line x1=${left} x2=${right} y1=${y(value)} y2=${y(value)} />
      <text x=${left - 6} y=${y(value) + 4} text-anchor="end">${yText(value)}</text></g>`)}
    ${xTicks.map((value) => html`<text x=${x(value)} y=${bottom + 17} text-anchor="middle">${xText(value)}</text>`)}
  </g>`;
}
