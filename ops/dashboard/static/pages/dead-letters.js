// Records that could not be read: why, what was in them, and sending them to their topic again.

import { getDeadLetter, getDeadLetters, replay } from "../api.js";
import * as format from "../format.js";
import { useLoad } from "../hooks.js";
import { CopyButton } from "../parts/copy.js";
import { Confirmation } from "../parts/dialog.js";
import { Empty, Failure, Loaded } from "../parts/states.js";
import { Table } from "../parts/table.js";
import { Badge, OpeningHeading, Time } from "../parts/text.js";
import { address, replace } from "../router.js";
import { may } from "../session.js";
import { html, useState } from "../view.js";

const PAGE = 50;
const SHOWN = { "": "not replayed", true: "replayed" };

export function DeadLetters({ path, query }) {
  const [generation, partition, offset] = path;
  const { code = "", replayed = "" } = query;
  const asked = { code, replayed: replayed || "false", limit: PAGE };
  const [older, setOlder] = useState({ problem: null });
  const letters = useLoad((signal) => getDeadLetters(asked, signal), [code, replayed]);
  const set = (name) => (event) => replace(["data", ...path], { ...query, [name]: event.target.value });
  const more = () => getDeadLetters({ ...asked, cursor: letters.data.next }).then(
    (page) => letters.change({ ...page, dead_letters: [...letters.data.dead_letters, ...page.dead_letters] }),
    (problem) => setOlder({ problem }),
  );
  return html`<section class="card" aria-labelledby="dead-letters"><h2 id="dead-letters">Dead letters</h2>
    <p class="note">A record that cannot be read stops nothing: it is put aside with the reason, and can be replayed once what
      made it is repaired.</p>
    ${offset && html`<${DeadLetter} key=${path.join("/")} place=${{ generation, partition, offset }} query=${query} changed=${letters.reload} />`}
    <${Loaded} from=${letters}>${({ dead_letters: rows, codes, next }) => html`
      <div class="filter-row">
        <label class="field">Reason<select onChange=${set("code")}><option value="">all</option>
          ${Object.entries(codes).map(([name, number]) => html`<option value=${name} selected=${name === code}>${format.words(name)} (${number})</option>`)}</select></label>
        <label class="field">Which<select onChange=${set("replayed")}>${Object.entries(SHOWN).map(([key, text]) => html`<option value=${key} selected=${key === replayed}>${text}</option>`)}</select></label>
      </div>
      ${rows.length === 0
        ? html`<${Empty} title="None">${replayed ? "Nothing was replayed yet." : "Every record could be read, or was replayed."}<//>`
        : html`<${Table} caption="Dead letters" rows=${rows} id=${(row) => [row.generation, row.partition, row.offset].join("/")} columns=${columns(query)} />`}
      ${next && html`<button type="button" onClick=${more}>Show more</button>`}
      ${older.problem && html`<${Failure} error=${older.problem} again=${more} />`}`}<//>
  </section>`;
}

function columns(query) {
  return [
    { title: "record", cell: (row) => html`<a href=${address(["data", row.generation, row.partition, row.offset], query)}>${row.topic} ${row.partition}/${row.offset}</a>` },
    { title: "reason", cell: (row) => html`<${Badge} kind="reason">${format.words(row.error_code)}<//> <span class="long">${row.error_message}</span>` },
    { title: "size", numeric: true, cell: (row) => format.bytes(row.payload_bytes) },
    { title: "when", cell: (row) => html`<${Time} at=${row.recorded_at} />` },
    { title: "replayed", cell: (row) => html`<${Time} at=${row.replayed_at} />` },
  ];
}

function DeadLetter({ place, query, changed }) {
  const [asking, setAsking] = useState(false);
  const letter = useLoad((signal) => getDeadLetter(place, signal));
  const act = async () => {
    const answer = await replay(place);
    letter.reload();
    changed();
    return answer;
  };
  return html`<div class="opened">
    <${OpeningHeading} level=${3}>Record ${place.offset} of partition ${place.partition}<//>
    <p class="back"><a href=${address(["data"], query)}>Close</a></p>
    <${Loaded} from=${letter}>${(data) => html`
      <p><${Badge} kind="reason">${format.words(data.error_code)}<//> ${data.error_message}</p>
      <p class="note">Topic ${data.topic}, key ${data.key === null ? "none" : html`<code>${data.key}</code>`}, ${format.bytes(data.payload_bytes)}${data.whole ? "" : ", of which only the first part was kept"}</p>
      <div class="query"><pre tabindex="0" aria-label="Content of the record">${data.payload ?? "no value"}</pre>${data.payload && html`<${CopyButton} text=${data.payload} what="the record" />`}</div>
      ${data.replayed_at && html`<p><b>Replayed</b> <${Time} at=${data.replayed_at} />. If it still cannot be read, it is among the dead letters again.</p>`}
      ${may("operator") && data.whole && !data.replayed_at && html`<button type="button" onClick=${() => setAsking(true)}>Replay …</button>`}
      ${!data.whole && html`<p class="note">It cannot be replayed: produce the whole record again.</p>`}
      ${asking && html`<${Confirmation} title="Replay this record?" action="Replay" act=${act} close=${() => setAsking(false)}
        done=${() => "Replayed: the record was sent to its topic again"}>
        <p>It is sent to the topic <code>${data.topic}</code> once more, as it is. Do so once its cause is gone.</p><//>`}`}<//>
  </div>`;
}
