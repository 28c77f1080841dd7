/** Small elements that all pages share, and how a page loads its data. */

import { ApiError, connection, get, Unreachable } from "./api.js";
import { html, useCallback, useEffect, useRef, useState } from "./ui.js";

/** @typedef {import("./ui.js").Children} Children */

const STATES = {
  up: { shape: "●", kind: "good" },
  late: { shape: "◐", kind: "warn" },
  degraded: { shape: "◐", kind: "warn" },
  down: { shape: "✕", kind: "bad" },
  done: { shape: "✓", kind: "good" },
  failed: { shape: "✕", kind: "bad" },
  started: { shape: "◔", kind: "warn" },
  running: { shape: "◔", kind: "warn" },
  idle: { shape: "○", kind: "calm" },
  closed: { shape: "●", kind: "good" },
  "half-open": { shape: "◐", kind: "warn" },
  open: { shape: "✕", kind: "bad" },
};

/** A state by a shape and a word, so that its colour is not needed. @param {{state: string, text?: string}} props */
export function State({ state, text = state }) {
  const { shape, kind } = STATES[/** @type {keyof typeof STATES} */ (state.replaceAll("_", "-"))] ?? { shape: "○", kind: "calm" };
  return html`<span class="state ${kind}"><span aria-hidden="true">${shape}</span> ${text.replaceAll("_", " ")}</span>`;
}

/** A status code of HTTP. @param {{status: number}} props */
export function Status({ status }) {
  const [kind, shape] = status >= 500 ? ["bad", "✕"] : status >= 400 ? ["warn", "▲"] : ["good", "●"];
  return html`<span class="state ${kind}"><span aria-hidden="true">${shape}</span> ${status || "none"}</span>`;
}

/** The level of a log line. @param {{level: string}} props */
export function Level({ level }) {
  const name = level.toLowerCase();
  const kind = /err|crit|fatal/.test(name) ? "bad" : name.startsWith("warn") ? "warn" : "calm";
  return html`<span class="level ${kind}">${level}</span>`;
}

/** What a page shows in place of an empty list: why, and what to do. @param {{title: string, children?: Children}} props */
export function Empty({ title, children }) {
  return html`<div class="empty"><p class="lead">${title}</p>${children && html`<p>${children}</p>`}</div>`;
}

/** @param {{error: unknown}} props */
export function ProblemText({ error }) {
  if (!error || error instanceof Unreachable) {
    return null;
  }
  return html`<p role="alert" class="problem">${error instanceof Error ? error.message : String(error)}</p>`;
}

/** The title of a page, what it is about, and its controls. @param {{title: Children, about?: Children, children?: Children}} props */
export function Heading({ title, about, children }) {
  return html`<div class="heading">
    <div>
      <h1>${title}</h1>
      ${about && html`<p class="about">${about}</p>`}
    </div>
    ${children && html`<div class="controls">${children}</div>`}
  </div>`;
}

/** @param {{title: string, id: string, aside?: Children, children?: Children}} props */
export function Panel({ title, id, aside, children }) {
  return html`<section class="panel" aria-labelledby=${id}>
    <header><h2 id=${id}>${title}</h2>${aside}</header>
    ${children}
  </section>`;
}

/** A labelled control of a filter bar. @param {{label: string, children: Children}} props */
export const Filter = ({ label, children }) => html`<label class="filter"><span>${label}</span>${children}</label>`;

/**
 * A text field that reports its value when typing pauses.
 * @param {{label: string, name: string, value: string, placeholder?: string, type?: string, onValue: (value: string) => void}} props
 */
export function TextFilter({ label, name, value, placeholder = "", type = "search", onValue }) {
  const timer = useRef(/** @type {ReturnType<typeof setTimeout> | null} */ (null));
  const later = (/** @type {string} */ text) => {
    clearTimeout(timer.current ?? undefined);
    timer.current = setTimeout(() => onValue(text.trim()), 250);
  };
  return html`<${Filter} label=${label}>
    <input
      type=${type}
      name=${name}
      value=${value}
      placeholder=${placeholder}
      min=${type === "number" ? 0 : undefined}
      autocomplete="off"
      spellcheck=${false}
      onInput=${(/** @type {any} */ event) => later(event.currentTarget.value)}
    />
  <//>`;
}

/**
 * @param {{label: string, name: string, value: string, options: [string, string][], onValue: (value: string) => void}} props
 */
export const ChoiceFilter = ({ label, name, value, options, onValue }) => html`<${Filter} label=${label}>
  <select name=${name} value=${value} onChange=${(/** @type {any} */ event) => onValue(event.currentTarget.value)}>
    ${options.map(([key, text]) => html`<option key=${key} value=${key} selected=${key === value}>${text}</option>`)}
  </select>
<//>`;

/**
 * Load data from the console's API: at first, when path or query change, when the console can be reached again, and each
 * `every` milliseconds.
 * @template T
 * @param {string | null} path @param {Record<string, any>} [query] @param {number} [every]
 * @returns {{data: T | null, error: unknown, loading: boolean, reload: () => Promise<void>, set: (data: T) => void}}
 */
export function useLoad(path, query = {}, every = 0) {
  const [state, setState] = useState(/** @type {{data: T | null, error: unknown, loading: boolean}} */ ({ data: null, error: null, loading: true }));
  const search = JSON.stringify(query);
  const running = useRef(/** @type {AbortController | null} */ (null));
  const reload = useCallback(async () => {
    running.current?.abort();
    if (path === null) {
      return;
    }
    const controller = new AbortController();
    running.current = controller;
    try {
      const data = await get(path, JSON.parse(search), controller.signal);
      if (!controller.signal.aborted) {
        setState({ data, error: null, loading: false });
      }
    } catch (error) {
      if (!controller.signal.aborted) {
        setState((before) => ({ data: error instanceof ApiError ? null : before.data, error, loading: false }));
      }
    }
  }, [path, search]);
  useEffect(() => {
    let wasReachable = connection.reachable;
    const again = () => {
      if (connection.reachable && !wasReachable) {
        void reload();
      }
      wasReachable = connection.reachable;
    };
    void reload();
    connection.addEventListener("changed", again);
    const timer = every ? setInterval(() => document.hidden || void reload(), every) : undefined;
    return () => {
      connection.removeEventListener("changed", again);
      clearInterval(timer);
      running.current?.abort();
    };
  }, [reload, every]);
  const set = useCallback((/** @type {T} */ data) => setState({ data, error: null, loading: false }), []);
  return { ...state, reload, set };
}

/** Say something to those who see the page and to those who hear it. @param {string} text */
export const announce = (text) => dispatchEvent(new CustomEvent("announce", { detail: text }));

/** The line that `announce` writes to. */
export function Announcements() {
  const [text, setText] = useState("");
  useEffect(() => {
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    const show = (/** @type {any} */ event) => {
      setText(event.detail);
      clearTimeout(timer);
      timer = setTimeout(() => setText(""), 8000);
    };
    addEventListener("announce", show);
    return () => {
      removeEventListener("announce", show);
      clearTimeout(timer);
    };
  }, []);
  return html`<div role="status" class="announcement">${text && html`<span>${text}</span>`}</div>`;
}

/** @param {{text: string, label: string}} props */
export function CopyButton({ text, label }) {
  const copy = async () => {
    await navigator.clipboard.writeText(text).then(
      () => announce("Copied."),
      () => announce("The browser refused to copy. Select the text and copy it by hand."),
    );
  };
  return html`<button type="button" onClick=${copy}>${label}</button>`;
}
