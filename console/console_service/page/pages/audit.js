/** What was done by this console: who, what, when, and whether it worked. */

import { get } from "../lib/api.js";
import { dateTime } from "../lib/format.js";
import { Empty, Heading, ProblemText, State, useLoad } from "../lib/parts.js";
import { Table } from "../lib/table.js";
import { html, useState } from "../lib/ui.js";

/** @typedef {import("../lib/shapes").AuditEntry} AuditEntry */

const LIMIT = 100;
/** @type {import("../lib/table.js").Column<AuditEntry>[]} */
const COLUMNS = [
  { head: "Time", kind: "number", cell: (entry) => dateTime(entry.at) },
  { head: "Who", cell: (entry) => entry.actor },
  { head: "Action", kind: "code", cell: (entry) => entry.action },
  { head: "Target", kind: "grow code", cell: (entry) => entry.target },
  { head: "Outcome", cell: (entry) => html`<${State} state=${entry.outcome} />` },
  { head: "Detail", kind: "wide", cell: (entry) => (typeof entry.detail === "object" ? entry.detail && JSON.stringify(entry.detail) : entry.detail) ?? "" },
];

export default function AuditPage() {
  /** @type {ReturnType<typeof useLoad<{items: AuditEntry[]}>>} */
  const { data, error, set, reload } = useLoad("/audit", { limit: LIMIT });
  const [complete, setComplete] = useState(false);
  const loadOlder = async () => {
    const before = data?.items.at(-1)?.id;
    const page = await get("/audit", { limit: LIMIT, before }).catch(() => null);
    if (page && data) {
      set({ items: [...data.items, ...page.items] });
      setComplete(page.items.length < LIMIT);
    }
  };
  return html`
    <${Heading} title="Audit" about="Every action of this console. Entries are kept in PostgreSQL and outlive the account that acted.">
      <button type="button" onClick=${reload}>Reload</button>
    <//>
    <${ProblemText} error=${error} />
    ${data?.items.length === 0 && html`<${Empty} title="Nothing has been done yet.">An entry is written before each action, and completed after it.<//>`}
    ${data && data.items.length > 0 && html`<${Table} label="Audit" columns=${COLUMNS} rows=${data.items} keyOf=${keyOf} />`}
    ${data && data.items.length >= LIMIT && !complete && html`<p><button type="button" onClick=${loadOlder}>Load older entries</button></p>`}
  `;
}

/** @param {AuditEntry} entry */
const keyOf = (entry) => entry.id;
