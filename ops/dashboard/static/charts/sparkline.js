// A small running line beside a figure. The figure itself says the value; this shows where it comes from.

import { html } from "../view.js";
import { useWidth } from "../hooks.js";
import { linear } from "./scale.js";

const HEIGHT = 44;

/** values: oldest first. label: what it shows, in words. */
export function Sparkline({ values, label }) {
  const [ref, width] = useWidth();
  const x = linear(0, Math.max(1, values.length - 1), 1, width - 3);
  const y = linear(0, Math.max(1e-9, ...values) * 1.1, HEIGHT - 2, 3);
  const line = values.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`);
  return html`<div ref=${ref} class="sparkline">
    <svg role="img" aria-label=${label} width=${width} height=${HEIGHT}>
      ${values.length > 1 && width > 0 && html`
        <polygon points=${[...line, `${x(values.length - 1)},${HEIGHT}`, `${x(0)},${HEIGHT}`].join(" ")} />
        <polyline points=${line.join(" ")} />
        <circle cx=${x(values.length - 1)} cy=${y(values.at(-1))} r="2.5" />`}
    </svg>
  </div>`;
}
