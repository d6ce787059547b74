// Which page is shown: the part of the address after #, as a path and a query. Knows no page.

import { createStore } from "./store.js";

export const route = createStore(parse(location.hash));

window.addEventListener("hashchange", () => route.set(parse(location.hash)));

/** "#/alerts/abc?status=open" -> { parts: ["alerts", "abc"], query: { status: "open" } }. */
export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const parts = path.split("/").filter((part) => part !== "").map(decoded);
  return { parts, query: Object.fromEntries(new URLSearchParams(query)) };
}

export function address(parts, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const text = new URLSearchParams(given).toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** At once: a key that is pressed next means what the address then says. */
export function go(parts, query = {}) {
  location.hash = address(parts, query);
  route.set(parse(location.hash));
}

/** Changes the address without a step in the history, for filters. */
export function replace(parts, query = {}) {
  history.replaceState(null, "", address(parts, query));
  route.set(parse(location.hash));
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
