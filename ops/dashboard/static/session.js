// Who is using the console: the token, kept for this browser tab only, and the role that it has.

import { createStore } from "./store.js";

const KEY = "headgate-token";
const ROLES = ["viewer", "analyst", "operator"];

/** state: "starting", "ready", "token needed" or "unreachable"; message: why. */
export const session = createStore({ state: "starting", role: null, usesTokens: false, message: "" });

export function token() {
  return sessionStorage.getItem(KEY);
}

export function keepToken(value) {
  sessionStorage.setItem(KEY, value);
}

export function forgetToken() {
  sessionStorage.removeItem(KEY);
}

/** The server did not take the token that was sent, or none was: only the form that asks for one goes on. */
export function needToken() {
  const message = token() === null ? "" : "The server did not accept that token.";
  forgetToken();
  session.set((before) => (before.state === "token needed" ? before : { ...before, state: "token needed", message }));
}

export function may(role) {
  return ROLES.indexOf(session.get().role) >= ROLES.indexOf(role);
}
