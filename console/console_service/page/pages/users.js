/** Accounts: search, role, sessions, erasure. */

import { call, connection, get } from "../lib/api.js";
import { useConfirm } from "../lib/dialog.js";
import { dateTime } from "../lib/format.js";
import { announce, Empty, Heading, ProblemText, TextFilter, useLoad } from "../lib/parts.js";
import { setQuery } from "../lib/router.js";
import { html, useState } from "../lib/ui.js";

/** @typedef {import("../lib/shapes").Account} Account */
/** @typedef {{items: Account[], next_cursor: string | null}} Page */

/** @param {{query: Record<string, string>}} props */
export default function UsersPage({ query }) {
  const q = query["q"] ?? "";
  /** @type {ReturnType<typeof useLoad<Page>>} */
  const { data, error, reload, set } = useLoad("/users", { q });
  const [question, ask] = useConfirm();
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const [opened, setOpened] = useState("");

  const loadMore = async () => {
    if (!data) {
      return;
    }
    try {
      const page = await get("/users", { q, cursor: data.next_cursor });
      set({ items: [...data.items, ...page.items], next_cursor: page.next_cursor });
    } catch (failure) {
      setProblem(failure);
    }
  };
  /** @param {Account} account @param {string} role */
  const changeRole = (account, role) =>
    ask({
      title: `Change the role of ${account.username}?`,
      text: html`<p>The role changes from <b>${account.role}</b> to <b>${role}</b>. ${role === "admin" ? "An admin may do everything that this console can." : "The account loses the rights of an admin."} Its sessions end, so no token keeps the old role.</p>`,
      action: `Give the role ${role}`,
      run: async () => {
        await call("PUT", `/users/${account.id}/role`, { json: { role } });
        announce(`${account.username} has the role ${role}.`);
        await reload();
      },
    });
  /** @param {Account} account */
  const endSessions = (account) =>
    ask({
      title: `End all sessions of ${account.username}?`,
      text: html`<p>Every device of <b>${account.username}</b> is logged out at once, and its API keys are deleted. The account and its data stay, and a new login is possible.</p>`,
      action: "End all sessions",
      run: async () => {
        await call("DELETE", `/users/${account.id}/sessions`);
        announce(`All sessions of ${account.username} have ended.`);
      },
    });
  /** @param {Account} account */
  const erase = (account) =>
    ask({
      title: `Erase ${account.username}?`,
      text: html`<p>The account, its notes, files and events are erased in all services. This cannot be undone.</p>`,
      action: "Erase the account",
      dangerous: true,
      typed: account.username,
      run: async () => {
        await call("DELETE", `/users/${account.id}`);
        announce(`${account.username} is erased.`);
        await reload();
      },
    });
  return html`
    <${Heading} title="Users" about="Each action asks first, and leaves an entry in the audit." />
    <form class="filters" role="search" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
      <${TextFilter} label="Username or e-mail" name="q" value=${q} onValue=${(/** @type {string} */ text) => setQuery({ q: text })} />
    </form>
    <${ProblemText} error=${error ?? problem} />
    ${data?.items.length === 0 &&
    html`<${Empty} title=${q ? "No account matches." : "There is no account yet."}>${q ? "Search by the beginning of a username or an e-mail address." : "Register one at POST /api/v1/users/register."}<//>`}
    <ul class="list" aria-label="Accounts">
      ${data?.items.map(
        (account) => html`<li key=${account.id} class="panel account">
          <div class="who">
            <h2>${account.username}</h2>
            <p>${account.email ?? ""} <span class="tag">${account.role}</span>${account.created_at && html` <small>since ${dateTime(account.created_at)}</small>`}</p>
          </div>
          <div class="buttons">
            <button type="button" aria-expanded=${opened === account.id ? "true" : "false"} onClick=${() => setOpened(opened === account.id ? "" : account.id)}>Details</button>
            <button type="button" disabled=${account.username === connection.session?.username} onClick=${() => changeRole(account, account.role === "admin" ? "user" : "admin")}>
              ${account.role === "admin" ? "Take the role admin" : "Give the role admin"}
            </button>
            <button type="button" onClick=${() => endSessions(account)}>End sessions</button>
            <button type="button" class="danger" disabled=${account.username === connection.session?.username} onClick=${() => erase(account)}>Erase</button>
          </div>
          ${opened === account.id && html`<${Details} id=${account.id} />`}
        </li>`,
      )}
    </ul>
    ${data?.next_cursor && html`<p><button type="button" onClick=${loadMore}>Load more accounts</button></p>`}
    ${question}
  `;
}

/** @param {{id: string}} props */
function Details({ id }) {
  /** @type {ReturnType<typeof useLoad<Account>>} */
  const { data, error } = useLoad(`/users/${encodeURIComponent(id)}`);
  const facts = Object.entries(data ?? {}).filter(([, value]) => value !== null && typeof value !== "object");
  return html`<div class="fields">
    <${ProblemText} error=${error} />
    <dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${/_at$/.test(name) ? dateTime(String(value)) : String(value)}</dd></div>`)}</dl>
    ${data?.sessions &&
    html`<h3>Sessions</h3>
      ${data.sessions.length === 0
        ? html`<p class="none">No session is open.</p>`
        : html`<ul class="rows">${data.sessions.map((session) => html`<li key=${session.id}><span>${session.user_agent ?? session.client ?? session.id}<small>since ${dateTime(session.created_at)}</small></span><span>${dateTime(session.last_used_at)}</span></li>`)}</ul>`}`}
  </div>`;
}
