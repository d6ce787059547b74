// Requests to the service: the token goes along, and what goes wrong becomes an ApiError in words.

import { needToken, token } from "./session.js";

const WAIT_MS = 20_000;

/** status: of the HTTP answer, 0 where none came. code: the service's own word for it. */
export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
  }
}

export async function getJson(path, parameters = {}, signal = undefined) {
  const response = await request(withQuery(path, parameters), { signal: limited(signal) });
  return body(response);
}

export async function postJson(path, content) {
  const headers = { "Content-Type": "application/json" };
  const response = await request(path, {
    method: "POST",
    headers,
    body: JSON.stringify(content),
    signal: limited(undefined),
  });
  return body(response);
}

/** The answer as it comes, for streams. Raises ApiError unless the answer is a good one. */
export async function request(path, options = {}) {
  const headers = new Headers(options.headers);
  const secret = token();
  if (secret !== null) headers.set("Authorization", `Bearer ${secret}`);
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (options.signal?.aborted && error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The service does not answer. Is headgate dashboard still running?");
  }
  if (response.ok) return response;
  if (response.status === 401) needToken();
  throw await asError(response);
}

export function withQuery(path, parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const query = new URLSearchParams(given).toString();
  return query ? `${path}?${query}` : path;
}

function limited(signal) {
  const limit = AbortSignal.timeout(WAIT_MS);
  return signal ? AbortSignal.any([signal, limit]) : limit;
}

async function body(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(response.status, "broken_answer", "The answer was cut off. Try again.");
  }
}

async function asError(response) {
  const answer = await response.json().catch(() => null);
  const { code, message } = answer?.error ?? {};
  return new ApiError(response.status, code ?? "error", message ?? `The service answered with ${response.status}.`);
}
