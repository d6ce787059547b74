// Around every page: navigation, the state of the connection, what the service warns of, and the voice for screen
// readers.

import { announce, announcement } from "../announcer.js";
import * as format from "../format.js";
import { useEvery, useStore } from "../hooks.js";
import { live, retryNow } from "../live.js";
import { address } from "../router.js";
import { needToken, session } from "../session.js";
import { html, useEffect, useRef, useState } from "../view.js";

const CONNECTION = { connecting: "connecting", open: "live", lost: "not connected" };

export function Header({ pages, current, openHelp }) {
  const { connection, status } = useStore(live);
  const { role, usesTokens } = useStore(session);
  const toContent = (event) => {
    event.preventDefault();
    document.getElementById("content").focus();
  };
  return html`<header class="top">
    <a class="skip" href="#content" onClick=${toContent}>To the content</a>
    <a class="brand" href=${address(["live"])}><img src="/static/icon.svg" alt="" width="26" height="26" /> Headgate</a>
    <nav aria-label="Pages"><ul>
      ${Object.entries(pages).map(([name, { title }]) => html`<li>
        <a href=${address([name])} aria-current=${name === current ? "page" : null}>${title}
          ${name === "alerts" && status && html`<span class="count" title="open alerts">${format.compact(status.alerts_open)}<span class="unseen"> open</span></span>`}
        </a>
      </li>`)}
    </ul></nav>
    <div class="who">
      <span class=${`connection ${connection.state}`}><i aria-hidden="true"></i>${CONNECTION[connection.state]}</span>
      <span class="role" title="what you may do here">${role}</span>
      ${usesTokens && html`<button type="button" class="small" onClick=${needToken}>Change token</button>`}
      <button type="button" class="small" onClick=${openHelp} aria-label="Help and keys">?</button>
    </div>
  </header>`;
}

/** What keeps figures from being true: no connection, or a service that is away. */
export function Banner() {
  const { connection, status } = useStore(live);
  if (connection.state === "lost") return html`<${Lost} ...${connection} />`;
  const away = Object.entries(status?.services ?? {}).filter(([, there]) => !there).map(([name]) => SERVICES[name] ?? name);
  if (away.length === 0) return null;
  return html`<div class="banner" role="alert">${away.join(" and ")} ${away.length > 1 ? "are" : "is"} away.
    What depends on ${away.length > 1 ? "them" : "it"} is missing here until ${away.length > 1 ? "they are" : "it is"} back.${" "}
    <code>headgate doctor</code> says more.</div>`;
}

const SERVICES = { sql: "The database", kafka: "Kafka", redis: "Redis" };

function Lost({ message, retryAt }) {
  const [, tick] = useState(0);
  useEvery(1000, () => tick((before) => before + 1));
  const left = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
  return html`<div class="banner">
    <span role="alert">${message} What you see may be old.</span>
    <span>${left > 0 ? `Trying again in ${left} s.` : "Trying again …"}</span>
    <button type="button" class="small" onClick=${retryNow}>Try now</button>
  </div>`;
}

/** Says what was announced; of new alerts how many there were, at most every few seconds. */
export function Announcer() {
  const text = useStore(announcement);
  const { arrived } = useStore(live);
  const told = useRef(arrived);
  const latest = useRef(arrived);
  latest.current = arrived;
  useEvery(5000, () => {
    const fresh = latest.current - told.current;
    told.current = latest.current;
    if (fresh > 0) announce(`${format.plural(fresh, "new alert", "new alerts")}`);
  });
  useEffect(() => {
    const timer = setTimeout(() => announce(""), 8000);
    return () => clearTimeout(timer);
  }, [text]);
  return html`<div class="unseen" role="status" aria-live="polite">${text}</div>`;
}

export function Footer() {
  const { status } = useStore(live);
  return html`<footer>
    <span>Times are local; point at one for UTC. Days are UTC days.</span>
    ${status && html`<span>As of ${format.time(status.at)}</span>`}
  </footer>`;
}
