// Keys that act without Ctrl or Alt. They can be switched off, since speech input and slips of a finger press them too.

import { createStore } from "./store.js";
import { useEffect, useRef } from "./view.js";

const KEY = "headgate-keys";

export const keysOn = createStore(localStorage.getItem(KEY) !== "off");

export function switchKeys(on) {
  localStorage.setItem(KEY, on ? "on" : "off");
  keysOn.set(on);
}

/** bindings: key -> function of the event. Silent while somebody types or a dialog is open; Escape works always. */
export function useKeys(bindings) {
  const latest = useRef(bindings);
  latest.current = bindings;
  useEffect(() => {
    const pressed = (event) => {
      const action = latest.current[event.key];
      if (!action || event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
      if (document.querySelector("dialog[open]")) return;
      if (event.key !== "Escape" && (!keysOn.get() || typing(event.target))) return;
      event.preventDefault();
      action(event);
    };
    document.addEventListener("keydown", pressed);
    return () => document.removeEventListener("keydown", pressed);
  }, []);
}

function typing(element) {
  return element.matches("input:not([type=checkbox]), select, textarea");
}
