// Horizontal bars: a score against its threshold, and what each reason contributed.

import * as format from "../format.js";
import { html } from "../view.js";

const percent = (share) => `${Math.max(0, Math.min(1, share)) * 100}%`;

export function ScoreBar({ score, threshold, kind }) {
  const said = kind === "probability" ? "probability of fraud" : "share of usual events that are less unusual";
  const reached = score >= threshold;
  const label = `Score ${format.score(score)}, threshold ${format.score(threshold)}: ${reached ? "reached" : "not reached"}`;
  return html`<div class="score">
    <div class="score-words"><strong class="score-value">${format.score(score)}</strong>
      <span>${said}; an alert from <b>${format.score(threshold)}</b> on</span></div>
    <div class="track" role="img" aria-label=${label}>
      <div class=${`fill ${reached ? "over" : ""}`} style=${{ width: percent(score) }}></div>
      <div class="mark" style=${{ left: percent(threshold) }}></div>
    </div>
    <div class="track-ends" aria-hidden="true"><span>0</span><span>1</span></div>
  </div>`;
}

/** reasons: [{ feature, value, usual, contribution, text }], strongest first. */
export function Reasons({ reasons }) {
  const most = Math.max(1e-9, ...reasons.map((reason) => Math.abs(reason.contribution)));
  return html`<ol class="reasons">${reasons.map((reason) => html`<li>
    <p class="reason-text">${reason.text}</p>
    <div class="contribution" role="img" aria-label=${`Contribution ${format.figure(reason.contribution)} of the score's logit`}>
      <div class=${`fill ${reason.contribution < 0 ? "lowers" : ""}`} style=${{ width: percent(Math.abs(reason.contribution) / most) }}></div>
      <span aria-hidden="true">${reason.contribution > 0 ? "+" : ""}${format.figure(reason.contribution)}</span>
    </div>
    <p class="reason-values">${format.words(reason.feature)}: <b>${format.figure(reason.value)}</b>, usually ${format.figure(reason.usual)}</p>
  </li>`)}</ol>`;
}
