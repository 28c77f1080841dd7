/** The console's stream of server-sent events: one connection for all that the page shows. */

import { connection, resume } from "./api.js";
import { useEffect, useRef } from "./ui.js";

const [FIRST_RETRY, LAST_RETRY] = [500, 4000];

/** @type {Map<string, Set<(data: any) => void>>} */
const listeners = new Map();
/** @type {EventSource | null} */
let source = null;
let opened = "";
let retry = FIRST_RETRY;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

const wanted = () => (connection.session ? [...listeners.keys()].sort().join(",") : "");

/** Open the connection for the topics that are wanted now, or close it. */
function refresh() {
  const topics = wanted();
  if (topics === opened) {
    return;
  }
  close();
  opened = topics;
  if (!topics) {
    return;
  }
  const current = new EventSource(`/console/api/stream?topics=${topics}`);
  source = current;
  current.onopen = () => {
    retry = FIRST_RETRY;
    connection.setReachable(true);
  };
  current.onerror = () => void lost(current);
  for (const topic of topics.split(",")) {
    current.addEventListener(topic, (event) => {
      const data = JSON.parse(event.data);
      for (const listener of listeners.get(topic) ?? []) {
        listener(data);
      }
    });
  }
}

function close() {
  clearTimeout(timer);
  source?.close();
  source = null;
  opened = "";
}

/** The connection broke, or was refused because the session ended. @param {EventSource} broken */
async function lost(broken) {
  if (broken !== source) {
    return;
  }
  close();
  timer = setTimeout(refresh, retry);
  retry = Math.min(2 * retry, LAST_RETRY);
  // What cannot be reached has told so by now, and what responds with 401 has ended the session.
  await resume().catch(() => {});
}

connection.addEventListener("changed", () => {
  if (!connection.session) {
    close();
  }
});

/**
 * Call a function with each event of a topic while the component is shown.
 * @param {string} topic @param {(data: any) => void} listener
 */
export function useStream(topic, listener) {
  const latest = useRef(listener);
  latest.current = listener;
  useEffect(() => {
    /** @param {any} data */
    const call = (data) => latest.current?.(data);
    listeners.set(topic, (listeners.get(topic) ?? new Set()).add(call));
    // A page that replaces another one changes several topics at once.
    queueMicrotask(refresh);
    return () => {
      const rest = listeners.get(topic);
      rest?.delete(call);
      if (rest?.size === 0) {
        listeners.delete(topic);
      }
      queueMicrotask(refresh);
    };
  }, [topic]);
}
