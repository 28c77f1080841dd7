/** How much there is: accounts, notes, files, and events by type over time. No private content. */

import { Chart } from "../lib/chart.js";
import { count, dateTime, short, size } from "../lib/format.js";
import { ChoiceFilter, Empty, Heading, Panel, ProblemText, useLoad } from "../lib/parts.js";
import { setQuery } from "../lib/router.js";
import { Table } from "../lib/table.js";
import { html, useMemo } from "../lib/ui.js";

/** @typedef {import("../lib/shapes").Data} Data */
/** @typedef {{type: string, total: number}} Row */

const INTERVALS = /** @type {[string, string][]} */ ([["minute", "minutes"], ["hour", "hours"], ["day", "days"]]);
const CHARTS = 4;

/** @type {import("../lib/table.js").Column<Row>[]} */
const COLUMNS = [
  { head: "Type", kind: "grow code", cell: (row) => row.type, sort: (row) => row.type },
  { head: "Events", kind: "number", cell: (row) => count(row.total), sort: (row) => row.total },
];

/** @param {{query: Record<string, string>}} props */
export default function DataPage({ query }) {
  const interval = query["interval"] ?? "minute";
  /** @type {ReturnType<typeof useLoad<Data>>} */
  const { data, error } = useLoad("/data", { interval }, 10_000);
  const rows = useMemo(() => Object.entries(data?.by_type ?? {}).map(([type, total]) => ({ type, total })), [data]);
  const busiest = [...(data?.series ?? [])].filter((one) => one.items.length > 0).sort((a, b) => total(b) - total(a)).slice(0, CHARTS);
  const services = [...new Set(data?.counts.map((figure) => figure.service))];
  return html`
    <${Heading} title="Data" about="Counts only: the console sees no note, no file and no event of a user.">
      <${ChoiceFilter} label="Events by" name="interval" value=${interval} options=${INTERVALS} onValue=${(/** @type {string} */ value) => setQuery({ interval: value })} />
    <//>
    <${ProblemText} error=${error} />
    ${data &&
    html`
      <div class="panels">
        ${services.map(
          (service) => html`<${Panel} key=${service} title=${service} id="of-${service}">
            <dl class="counts">
              ${data.counts.filter((figure) => figure.service === service).map((figure) => html`<div key=${figure.name}><dt>${figure.name.replaceAll("_", " ")}</dt><dd>${/bytes/.test(figure.name) ? size(figure.value) : count(figure.value)}</dd></div>`)}
            </dl>
          <//>`,
        )}
      </div>
      ${rows.length === 0
        ? html`<${Empty} title="No event has been recorded yet.">Each registration, note and file makes one; so does POST /api/v1/analytics/events.<//>`
        : html`<h2>Events by type</h2>
            <div class="charts">
              ${busiest.map(
                (one) => html`<${Chart}
                  key=${one.type}
                  label=${one.type}
                  at=${one.items.map((item) => new Date(item.start).getTime())}
                  format=${short}
                  bars
                  series=${[{ name: "events", values: one.items.map((item) => item.count), color: "--series-1" }]}
                />`,
              )}
            </div>
            <${Table} label="Events by type" columns=${COLUMNS} rows=${rows} keyOf=${keyOf} sorted="Events" />
            ${busiest[0] && html`<p class="hint">The charts begin at ${dateTime(busiest[0].items[0]?.start)}.</p>`}`}
    `}
  `;
}

/** @param {Row} row */
const keyOf = (row) => row.type;
/** @param {Data["series"][number]} one */
const total = (one) => one.items.reduce((sum, item) => sum + item.count, 0);
