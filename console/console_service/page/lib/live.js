/** A list that grows by a stream, newest first, within a bound. */

import { get } from "./api.js";
import { useStream } from "./stream.js";
import { useCallback, useEffect, useRef, useState } from "./ui.js";

/** How many items a page keeps and shows. */
export const SHOWN = 200;

/**
 * Load a list and add the new items of a stream's topic that match the same filter. While `paused`, items wait.
 * @template {object} T
 * @param {{path: string, topic: string, query: Record<string, string>, matches: (item: T) => boolean, keyOf: (item: T) => string, paused: boolean}} options
 */
export function useLive({ path, topic, query, matches, keyOf, paused }) {
  const [items, setItems] = useState(/** @type {T[] | null} */ (null));
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const [skipped, setSkipped] = useState(0);
  const waiting = useRef(/** @type {T[]} */ ([]));
  const [held, setHeld] = useState(0);
  const search = JSON.stringify(query);

  const add = useCallback(
    (/** @type {T[]} */ fresh) =>
      setItems((before) => {
        const known = new Set((before ?? []).map(keyOf));
        const added = fresh.filter((item) => !known.has(keyOf(item)));
        return added.length ? [...added, ...(before ?? [])].slice(0, SHOWN) : before;
      }),
    [],
  );
  const reload = useCallback(async () => {
    try {
      const page = await get(path, { ...JSON.parse(search), limit: SHOWN });
      waiting.current = [];
      setHeld(0);
      setItems(page.items);
      setError(null);
    } catch (failure) {
      setError(failure);
    }
  }, [path, search]);

  useEffect(() => void reload(), [reload]);
  useStream(topic, (/** @type {{items: T[], skipped?: number}} */ event) => {
    setSkipped((before) => before + (event.skipped ?? 0));
    const fresh = event.items.filter(matches);
    if (fresh.length === 0) {
      return;
    }
    if (paused) {
      waiting.current = [...fresh, ...(waiting.current ?? [])].slice(0, SHOWN);
      setHeld(waiting.current.length);
    } else {
      add(fresh);
    }
  });
  useEffect(() => {
    if (!paused && waiting.current?.length) {
      add(waiting.current);
      waiting.current = [];
      setHeld(0);
    }
  }, [paused]);
  const append = (/** @type {T[]} */ older) => setItems((before) => [...(before ?? []), ...older]);
  return { items, error, skipped, held, reload, append };
}
