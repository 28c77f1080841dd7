/** The console: the login form, the frame around the pages, and the page that the address names. */

import { ApiError, connection, logIn, logOut, resume } from "./lib/api.js";
import { Announcements, ProblemText } from "./lib/parts.js";
import { useAddress } from "./lib/router.js";
import { html, render, useEffect, useReducer, useRef, useState } from "./lib/ui.js";
import { options } from "./vendor/preact.js";

// Changes of one frame are drawn together.
options.debounceRendering = requestAnimationFrame;

/** @typedef {{name: string, title: string, load: () => Promise<{default: any}>}} Entry */

/** @type {[string, Entry[]][]} */
const NAVIGATION = [
  [
    "Watch",
    [
      { name: "overview", title: "Overview", load: () => import("./pages/overview.js") },
      { name: "map", title: "Map", load: () => import("./pages/map.js") },
      { name: "requests", title: "Requests", load: () => import("./pages/requests.js") },
      { name: "logs", title: "Logs", load: () => import("./pages/logs.js") },
      { name: "routes", title: "Routes", load: () => import("./pages/routes.js") },
    ],
  ],
  [
    "Manage",
    [
      { name: "users", title: "Users", load: () => import("./pages/users.js") },
      { name: "data", title: "Data", load: () => import("./pages/data.js") },
      { name: "events", title: "Events", load: () => import("./pages/events.js") },
      { name: "mail", title: "Mail", load: () => import("./pages/mail.js") },
      { name: "keys", title: "Keys", load: () => import("./pages/keys.js") },
      { name: "audit", title: "Audit", load: () => import("./pages/audit.js") },
      { name: "api", title: "API", load: () => import("./pages/api.js") },
    ],
  ],
];
const ENTRIES = NAVIGATION.flatMap(([, entries]) => entries);
/** Pages that another page leads to. @type {Entry[]} */
const DETAILS = [{ name: "request", title: "Request", load: () => import("./pages/request.js") }];
const RETRY_MS = 2000;

function useConnection() {
  const [, changed] = useReducer((/** @type {number} */ count) => count + 1, 0);
  useEffect(() => {
    const update = () => changed(undefined);
    connection.addEventListener("changed", update);
    return () => connection.removeEventListener("changed", update);
  }, []);
  return connection;
}

function Console() {
  const { session, reachable } = useConnection();
  const [asked, setAsked] = useState(false);
  useEffect(() => {
    const ask = () => resume().then(() => setAsked(true), () => {});
    void ask();
    // The stream tries again by itself; before a session and on pages without a stream, this does.
    const timer = setInterval(() => connection.reachable || void ask(), RETRY_MS);
    return () => clearInterval(timer);
  }, []);
  return html`
    ${!reachable && html`<div role="alert" class="banner">✕ The console cannot be reached. Trying again…</div>`}
    ${session ? html`<${Frame} session=${session} />` : asked ? html`<${Login} />` : null}
  `;
}

function Login() {
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const [running, setRunning] = useState(false);
  const submit = async (/** @type {any} */ event) => {
    event.preventDefault();
    const values = new FormData(event.currentTarget);
    setRunning(true);
    setError(null);
    try {
      await logIn(String(values.get("username")), String(values.get("password")));
    } catch (failure) {
      const needsRole = failure instanceof ApiError && failure.status === 403;
      setError(needsRole ? new Error("This account does not have the role admin. Give it the role: make admin USERNAME=…") : failure);
      setRunning(false);
    }
  };
  useEffect(() => {
    document.title = "Log in – console";
  }, []);
  return html`<main class="login">
    <form class="panel" onSubmit=${submit}>
      <h1>Console</h1>
      ${connection.notice && html`<p role="status" class="about">${connection.notice}</p>`}
      <label class="field"><span>Username or e-mail</span><input name="username" autocomplete="username" required autofocus /></label>
      <label class="field"><span>Password</span><input name="password" type="password" autocomplete="current-password" required /></label>
      <${ProblemText} error=${error} />
      <p class="buttons"><button class="primary" disabled=${running}>Log in</button></p>
      <p class="hint">For accounts with the role admin: <code>make admin USERNAME=…</code></p>
    </form>
  </main>`;
}

/** @param {{session: import("./lib/shapes").Session}} props */
function Frame({ session }) {
  const { page, rest, query } = useAddress();
  const entry = [...ENTRIES, ...DETAILS].find(({ name }) => name === page);
  const [open, setOpen] = useState(false);
  const main = useRef(/** @type {HTMLElement | null} */ (null));
  const shown = useRef(`${page}/${rest}`);
  useEffect(() => {
    document.title = `${entry?.title ?? "Not found"} – console`;
    if (shown.current !== `${page}/${rest}`) {
      shown.current = `${page}/${rest}`;
      setOpen(false);
      scrollTo(0, 0);
      main.current?.focus({ preventScroll: true });
    }
  }, [page, rest]);
  const skip = (/** @type {Event} */ event) => {
    event.preventDefault();
    main.current?.focus();
  };
  const current = page === "request" ? "requests" : page;
  return html`<div class="frame">
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <header class="side">
      <div class="brand">
        <span><span class="mark" aria-hidden="true"></span> Console</span>
        <button type="button" class="menu" aria-expanded=${open ? "true" : "false"} aria-controls="navigation" onClick=${() => setOpen(!open)}>Menu</button>
      </div>
      <nav id="navigation" aria-label="Pages" class=${open ? "open" : ""}>
        ${NAVIGATION.map(
          ([group, entries]) => html`<div key=${group}>
            <h2 id="group-${group}">${group}</h2>
            <ul aria-labelledby="group-${group}">
              ${entries.map(
                ({ name, title }) =>
                  html`<li key=${name}><a href="#/${name}" aria-current=${name === current ? "page" : undefined}>${title}</a></li>`,
              )}
            </ul>
          </div>`,
        )}
        <div class="account">
          <span class="name">${session.username}</span>
          <button type="button" onClick=${() => void logOut().catch(() => {})}>Log out</button>
        </div>
      </nav>
    </header>
    <main id="main" tabindex="-1" ref=${main}>
      ${entry
        ? html`<${Lazy} key=${`${page}/${rest}`} load=${entry.load} rest=${rest} query=${query} />`
        : html`<h1>Not found</h1><p>There is no page of this name. <a href="#/overview">Go to the overview</a></p>`}
    </main>
    <${Announcements} />
  </div>`;
}

/** A page whose module is loaded when it is first shown. @param {{load: Entry["load"], rest: string, query: Record<string, string>}} props */
function Lazy({ load, rest, query }) {
  const [Page, setPage] = useState(/** @type {any} */ (null));
  const [failed, setFailed] = useState(false);
  useEffect(() => {
    load().then(
      (module) => setPage(() => module.default),
      () => setFailed(true),
    );
  }, []);
  if (failed) {
    return html`<p role="alert" class="problem">This page could not be loaded. Reload the console.</p>`;
  }
  return Page && html`<${Page} rest=${rest} query=${query} />`;
}

const root = document.getElementById("console");
if (root) {
  root.replaceChildren();
  render(html`<${Console} />`, root);
}
