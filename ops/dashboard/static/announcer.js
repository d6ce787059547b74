// What screen readers are told without moving the focus: results of actions and new alerts.

import { createStore } from "./store.js";

export const announcement = createStore("");

export function announce(text) {
  announcement.set(text);
}
