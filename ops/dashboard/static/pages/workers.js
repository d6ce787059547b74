// Who does the work: workers with the partitions that they own, and how far each is behind.

import * as format from "../format.js";
import { Empty } from "../parts/states.js";
import { html } from "../view.js";

export function Workers({ workers }) {
  return html`<section class="card" aria-labelledby="workers">
    <h2 id="workers">Workers</h2>
    ${workers.length === 0 && html`<${Empty} title="No worker has a partition">Start one with <code>headgate worker</code>.<//>`}
    ${workers.map(({ worker, partitions }) => html`<div class="worker" key=${worker}>
      <h3>${worker ?? "nobody"}</h3>
      ${byTopic(partitions).map(([topic, owned]) => html`<div class="worker-topic"><span>${topic}</span>
        <ul class="partitions" aria-label=${`Partitions of ${topic}`}>${owned.map((each) => html`<li
          class=${each.lag > 0 && each.idle_seconds > 60 ? "stuck" : ""} title=${place(each)}>
          <b>${each.partition}</b><span>${behind(each.lag)}</span></li>`)}</ul>
      </div>`)}
    </div>`)}
    <p class="note">A partition is a part of a topic. Beside its number: how many records wait in it.</p>
  </section>`;
}

function byTopic(partitions) {
  const topics = new Map();
  for (const each of partitions) topics.set(each.topic, [...(topics.get(each.topic) ?? []), each]);
  return [...topics];
}

function behind(lag) {
  return lag === null || lag === undefined ? "unknown" : format.compact(lag);
}

function place({ partition, next_offset: offset, lag, idle_seconds: idle }) {
  return `Partition ${partition}: next offset ${format.count(offset)}, ${behind(lag)} waiting, moved ${format.seconds(idle)} ago`;
}
