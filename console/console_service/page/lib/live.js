/** A list that grows by a stream, newest first, within a bound. */

import { get } from "./api.js";
import { useStream } from "./stream.js";
import { html, useCallback, useEffect, useRef, useState } from "./ui.js";

/** How many items a page keeps. */
export const KEPT = 200;
/** How many of them are rendered at first, and added when the end comes into view. */
const RENDERED = 40;
/** The list changes about twice a second, however many items come. */
const FLUSH_MS = 400;

/**
 * Load a list and add the new items of a stream's topic that match the same filter. While `paused`, items wait.
 * @template {object} T
 * @param {{path: string, topic: string, query: Record<string, string>, matches: (item: T) => boolean, keyOf: (item: T) => string, paused: boolean}} options
 */
export function useLive({ path, topic, query, matches, keyOf, paused }) {
  const [items, setItems] = useState(/** @type {T[] | null} */ (null));
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const [skipped, setSkipped] = useState(0);
  const [held, setHeld] = useState(0);
  const waiting = useRef(/** @type {T[]} */ ([]));
  const timer = useRef(/** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined));
  const search = JSON.stringify(query);
  const latest = useRef(search);
  latest.current = search;

  const flush = useCallback(() => {
    timer.current = undefined;
    const fresh = waiting.current;
    waiting.current = [];
    setHeld(0);
    setItems((before) => {
      const known = new Set((before ?? []).map(keyOf));
      const added = fresh.filter((item) => !known.has(keyOf(item)));
      return added.length ? [...added, ...(before ?? [])].slice(0, KEPT) : before;
    });
  }, []);
  const reload = useCallback(async () => {
    try {
      const page = await get(path, { ...JSON.parse(search), limit: KEPT });
      if (latest.current !== search) {
        return;
      }
      waiting.current = [];
      setHeld(0);
      setSkipped(0);
      setItems(page.items);
      setError(null);
    } catch (failure) {
      setError(failure);
    }
  }, [path, search]);

  useEffect(() => void reload(), [reload]);
  useEffect(() => () => clearTimeout(timer.current), []);
  useEffect(() => {
    if (!paused && waiting.current.length) {
      flush();
    }
  }, [paused]);
  useStream(topic, (/** @type {{items: T[], skipped?: number}} */ event) => {
    if (event.skipped) {
      setSkipped((before) => before + (event.skipped ?? 0));
    }
    const fresh = event.items.filter(matches);
    if (fresh.length === 0) {
      return;
    }
    waiting.current = [...fresh, ...waiting.current].slice(0, KEPT);
    if (paused) {
      setHeld(waiting.current.length);
    } else {
      timer.current ??= setTimeout(flush, FLUSH_MS);
    }
  });
  const append = (/** @type {T[]} */ older) => setItems((before) => [...(before ?? []), ...older]);
  return { items, error, skipped, held, reload, append };
}

/**
 * Return how many of the items to render, and what to render below them: when it comes into view, there are more.
 * @param {number} total @returns {[number, any]}
 */
export function useReveal(total) {
  const [limit, setLimit] = useState(RENDERED);
  const end = useRef(/** @type {HTMLElement | null} */ (null));
  const more = () => setLimit((before) => before + RENDERED);
  useEffect(() => {
    const atTop = () => scrollY < 10 && setLimit(RENDERED);
    addEventListener("scroll", atTop, { passive: true });
    return () => removeEventListener("scroll", atTop);
  }, []);
  useEffect(() => {
    if (!end.current) {
      return undefined;
    }
    const observer = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && more(), { rootMargin: "300px" });
    observer.observe(end.current);
    return () => observer.disconnect();
  }, [limit, limit < total]);
  return [limit, limit < total && html`<p ref=${end}><button type="button" onClick=${more}>Show more</button></p>`];
}
