// The live connection: status, alerts and the service's own warnings as they come. It is read with fetch, since
// EventSource cannot send the token; a lost connection is taken up again where it stood (Last-Event-ID).

import { getAlerts, LIVE } from "./api.js";
import { eventReader } from "./event-stream.js";
import { request } from "./http.js";
import { createStore } from "./store.js";

const KEPT_ALERTS = 30;
const KEPT_WARNINGS = 20;
const KEPT_RATES = 120;
const SILENCE_MS = 40_000;
const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 30_000;

/** connection: { state: "connecting", "open" or "lost", message, retryAt: epoch milliseconds or null }.
 * rates: the newest transactions a second, oldest first. alerts: newest first, each at its latest revision.
 * arrived: how many openings of alerts have come since the page was opened. */
export const live = createStore({
  connection: { state: "connecting", message: "", retryAt: null },
  status: null,
  rates: [],
  alerts: [],
  warnings: [],
  arrived: 0,
});

let lastId = null;
let stopped = null;
let wake = () => {};

/** Connects and stays connected until stopLive. */
export function startLive() {
  stopLive();
  const controller = new AbortController();
  stopped = controller;
  keepConnected(controller.signal);
}

export function stopLive() {
  stopped?.abort();
  stopped = null;
}

/** Tries again at once instead of waiting. */
export function retryNow() {
  wake();
}

window.addEventListener("online", () => wake());
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") wake();
});

async function showRecent(signal) {
  try {
    const { alerts } = await getAlerts({ order: "newest", limit: KEPT_ALERTS }, signal);
    // What has come meanwhile is newer than what was asked for.
    live.set((before) => ({ ...before, alerts: alerts.reduceRight(withAlert, [...before.alerts].reverse().reduce(withAlert, [])) }));
  } catch (error) {
    if (!signal.aborted) console.warn(`The newest alerts could not be read: ${error.message}`);
  }
}

async function keepConnected(signal) {
  let failures = 0;
  while (!signal.aborted) {
    const opened = performance.now();
    const message = await readUntilLost(signal);
    if (signal.aborted) return;
    failures = performance.now() - opened > LONGEST_RETRY_MS ? 1 : failures + 1;
    const wait = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** (failures - 1)) * (0.75 + Math.random() / 2);
    connection({ state: "lost", message, retryAt: Date.now() + wait });
    await pause(wait, signal);
  }
}

/** Returns why the connection ended. */
async function readUntilLost(signal) {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  let fresh = lastId === null;
  try {
    const headers = { Accept: "text/event-stream", ...(lastId === null ? {} : { "Last-Event-ID": lastId }) };
    const response = await request(LIVE, { headers, signal: AbortSignal.any([signal, silence.signal]) });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const events = eventReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return "The service ended the live connection.";
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
      // Only now: an alert that opens later than what is read here comes through this connection.
      if (fresh) showRecent(signal);
      fresh = false;
      for (const event of events(value)) take(event);
    }
  } catch (error) {
    if (silence.signal.aborted) return "The live connection has been silent for too long.";
    return error.name === "ApiError" ? error.message : "The live connection broke off.";
  } finally {
    clearTimeout(timer);
  }
}

function take(event) {
  if (event.id !== null) lastId = event.id;
  const data = JSON.parse(event.data);
  if (event.type === "status") takeStatus(data);
  if (event.type === "alert") takeAlert(data);
  if (event.type === "operator") {
    live.set((before) => ({ ...before, warnings: [data, ...before.warnings].slice(0, KEPT_WARNINGS) }));
  }
}

function takeStatus(status) {
  connection({ state: "open", message: "", retryAt: null });
  live.set((before) => ({ ...before, status, rates: withRate(before.rates, status) }));
}

/** While what is counted from is away, nothing is known and nothing is drawn. */
function withRate(rates, { events_per_second: rate }) {
  return rate === null ? rates : [...rates, rate].slice(-KEPT_RATES);
}

function takeAlert(alert) {
  const opening = alert.revision === 1 ? 1 : 0;
  live.set((before) => ({
    ...before,
    alerts: withAlert(before.alerts, alert),
    arrived: before.arrived + opening,
  }));
}

/** An alert stays where it is when a revision of it comes, and is never replaced by an earlier one. */
function withAlert(alerts, alert) {
  const place = alerts.findIndex((other) => other.alert_id === alert.alert_id);
  if (place < 0) return [alert, ...alerts].slice(0, KEPT_ALERTS);
  if (alerts[place].revision > alert.revision) return alerts;
  return alerts.map((other, index) => (index === place ? { ...other, ...alert } : other));
}

function connection(next) {
  live.set((before) => ({ ...before, connection: next }));
}

function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    wake = () => {
      clearTimeout(timer);
      resolve();
    };
    signal.addEventListener("abort", wake, { once: true });
  });
}
