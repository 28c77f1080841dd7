/** Requests as they end, newest first, by filters. */

import { duration, time } from "../lib/format.js";
import { useLive, useReveal } from "../lib/live.js";
import { ChoiceFilter, Empty, Heading, ProblemText, Status, TextFilter } from "../lib/parts.js";
import { linkTo, setQuery } from "../lib/router.js";
import { Table } from "../lib/table.js";
import { html, useState } from "../lib/ui.js";

/** @typedef {import("../lib/shapes").RequestItem} RequestItem */

/** @type {import("../lib/table.js").Column<RequestItem>[]} */
const COLUMNS = [
  { head: "Time", kind: "number", cell: (item) => html`<time>${time(item.at)}</time>` },
  { head: "Status", cell: (item) => html`<${Status} status=${item.status} />` },
  {
    head: "Request",
    kind: "grow code",
    cell: (item) => html`<a href=${linkTo(`request/${encodeURIComponent(item.request_id)}`)} title=${item.path}><b>${item.method}</b> ${item.route || item.path}</a>`,
  },
  { head: "Took", kind: "number", cell: (item) => duration(item.ms) },
  { head: "Replica", kind: "wide", cell: (item) => item.replica },
  { head: "User or caller", kind: "wide code", cell: (item) => item.caller ?? (item.user_id ? item.user_id.slice(0, 8) : "–") },
];
const STATUSES = /** @type {[string, string][]} */ ([["", "any"], ["2xx", "2xx"], ["3xx", "3xx"], ["4xx", "4xx"], ["5xx", "5xx"], ["401", "401"], ["403", "403"], ["404", "404"], ["409", "409"], ["422", "422"], ["429", "429"], ["500", "500"], ["502", "502"], ["503", "503"]]);
const FILTERS = ["status", "service", "route", "user", "min_ms"];

/** @param {Record<string, string>} query @returns {(item: RequestItem) => boolean} */
const matcher = ({ status = "", service = "", route = "", user = "", min_ms = "" }) => {
  const pattern = status && new RegExp(`^${status.replaceAll("x", "\\d")}$`);
  return (item) =>
    (!pattern || pattern.test(String(item.status))) &&
    (!service || item.service === service) &&
    (!route || `${item.method} ${item.route}`.includes(route)) &&
    (!user || item.user_id === user) &&
    (!min_ms || item.ms >= Number(min_ms));
};
/** Replicas report in turns. @param {RequestItem[]} items */
const newestFirst = (items) => [...items].sort((a, b) => (a.at < b.at ? 1 : a.at > b.at ? -1 : 0));
/** @param {RequestItem} item */
const keyOf = (item) => `${item.request_id} ${item.service} ${item.at}`;

/** @param {{query: Record<string, string>}} props */
export default function RequestsPage({ query }) {
  const [paused, setPaused] = useState(false);
  const filters = Object.fromEntries(FILTERS.flatMap((name) => (query[name] ? [[name, query[name]]] : [])));
  const { items, error, skipped, held, reload } = useLive({
    path: "/requests",
    topic: "requests",
    query: filters,
    matches: matcher(filters),
    keyOf,
    paused,
  });
  const [limit, more] = useReveal(items?.length ?? 0);
  const change = (/** @type {string} */ name) => (/** @type {string} */ value) => setQuery({ ...filters, [name]: value });
  return html`
    <${Heading} title="Requests" about="As they end, newest first; health checks are left out.">
      <button type="button" aria-pressed=${paused ? "true" : "false"} onClick=${() => setPaused(!paused)}>${paused ? `Paused, ${held} new` : "Pause"}</button>
    <//>
    <form class="filters" role="search" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
      <${ChoiceFilter} label="Status" name="status" value=${filters["status"] ?? ""} options=${STATUSES} onValue=${change("status")} />
      <${TextFilter} label="Service" name="service" value=${filters["service"] ?? ""} placeholder="notes" onValue=${change("service")} />
      <${TextFilter} label="Route" name="route" value=${filters["route"] ?? ""} placeholder="/api/v1/notes" onValue=${change("route")} />
      <${TextFilter} label="User id" name="user" value=${filters["user"] ?? ""} onValue=${change("user")} />
      <${TextFilter} label="At least (ms)" name="min_ms" type="number" value=${filters["min_ms"] ?? ""} placeholder="0" onValue=${change("min_ms")} />
      ${Object.keys(filters).length > 0 && html`<button type="button" onClick=${() => setQuery({})}>Clear</button>`}
    </form>
    <${ProblemText} error=${error} />
    ${skipped > 0 && html`<p class="hint">${skipped} more came too fast to show. <button type="button" class="plain" onClick=${reload}>Load the latest</button></p>`}
    ${items?.length === 0 &&
    html`<${Empty} title=${Object.keys(filters).length ? "No request matches." : "No request yet."}>
      ${Object.keys(filters).length ? "Clear a filter, or wait: matching requests show at once." : "Send one through the gateway, for example with make demo."}
    <//>`}
    ${items && items.length > 0 && html`<${Table} label="Requests" columns=${COLUMNS} rows=${newestFirst(items).slice(0, limit)} keyOf=${keyOf} />`}
    ${more}
  `;
}
