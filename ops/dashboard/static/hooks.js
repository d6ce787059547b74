// What components need again and again: watch a store, load data, know their width, tick.

import { useEffect, useLayoutEffect, useRef, useState } from "./view.js";

export function useStore(store) {
  const [value, setValue] = useState(store.get());
  useEffect(() => {
    setValue(store.get());
    return store.watch((next) => setValue(next));
  }, [store]);
  return value;
}

/** load(signal) gives a promise. What was loaded before stays while it is loaded again, also when that fails. */
export function useLoad(load, inputs = []) {
  const [state, setState] = useState({ data: null, error: null, loading: true });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const controller = new AbortController();
    const unlessGone = (next) => controller.signal.aborted || setState(next);
    setState((before) => ({ ...before, loading: true }));
    load(controller.signal).then(
      (data) => unlessGone({ data, error: null, loading: false }),
      (error) => unlessGone((before) => ({ data: before.data, error, loading: false })),
    );
    return () => controller.abort();
  }, [...inputs, turn]);
  return { ...state, reload: () => setTurn((before) => before + 1), change: (data) => setState({ data, error: null, loading: false }) };
}

/** Calls again(), every so many milliseconds while the tab is seen. */
export function useEvery(milliseconds, again) {
  const latest = useRef(again);
  latest.current = again;
  useEffect(() => {
    const timer = setInterval(() => document.visibilityState === "visible" && latest.current(), milliseconds);
    return () => clearInterval(timer);
  }, [milliseconds]);
}

/** The width of an element in pixels, 0 until it is known: [ref, width]. */
export function useWidth() {
  const ref = useRef(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry.contentRect.width)));
    observer.observe(ref.current);
    return () => observer.disconnect();
  }, []);
  return [ref, width];
}
