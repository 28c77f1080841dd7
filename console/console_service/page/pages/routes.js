/** Rate, latency and errors of each route over the last quarter of an hour. */

import { Chart } from "../lib/chart.js";
import { duration, percent, perSecond, short, time } from "../lib/format.js";
import { Empty, Heading, ProblemText, useLoad } from "../lib/parts.js";
import { linkTo, setQuery } from "../lib/router.js";
import { useStream } from "../lib/stream.js";
import { Table } from "../lib/table.js";
import { html } from "../lib/ui.js";

/** @typedef {import("../lib/shapes").Routes} Routes */
/** @typedef {import("../lib/shapes").RouteFigures} RouteFigures */

/** The key of its series; the gateway's figures name no method. @param {RouteFigures} route */
const nameOf = (route) => [route.service, route.method, route.route].filter(Boolean).join(" ");
/** @param {RouteFigures} route */
const select = (route) => () => {
  setQuery({ route: nameOf(route) });
  document.getElementById("charts")?.scrollIntoView({ block: "nearest" });
};

/** @type {import("../lib/table.js").Column<RouteFigures>[]} */
const COLUMNS = [
  {
    head: "Route",
    kind: "grow code",
    cell: (route) => html`<button type="button" class="plain" onClick=${select(route)}><b>${route.method}</b> ${route.route}</button>`,
    sort: (route) => route.route,
  },
  { head: "Service", cell: (route) => route.service, sort: (route) => route.service },
  { head: "Rate", kind: "number", cell: (route) => perSecond(route.requests_per_second), sort: (route) => route.requests_per_second },
  { head: "Errors", kind: "number", cell: (route) => html`<span class=${route.error_ratio > 0 ? "bad" : ""}>${percent(route.error_ratio)}</span>`, sort: (route) => route.error_ratio },
  { head: "p50", kind: "number", cell: (route) => duration(route.p50_ms), sort: (route) => route.p50_ms ?? -1 },
  { head: "p95", kind: "number", cell: (route) => duration(route.p95_ms), sort: (route) => route.p95_ms ?? -1 },
  { head: "p99", kind: "number", cell: (route) => duration(route.p99_ms), sort: (route) => route.p99_ms ?? -1 },
  {
    head: "Slowest traced",
    cell: (route) => {
      const slowest = [...route.exemplars].sort((a, b) => b.ms - a.ms)[0];
      return slowest ? html`<a href=${linkOf(slowest)}>${duration(slowest.ms)}</a>` : "–";
    },
  },
];

/** @param {import("../lib/shapes").Exemplar} exemplar */
const linkOf = (exemplar) =>
  exemplar.request_id ? linkTo(`request/${encodeURIComponent(exemplar.request_id)}`) : linkTo("logs", { trace_id: exemplar.trace_id });

/** @param {{query: Record<string, string>}} props */
export default function RoutesPage({ query }) {
  /** @type {ReturnType<typeof useLoad<Routes>>} */
  const { data, error, set } = useLoad("/routes", { minutes: 15 });
  useStream("routes", set);
  // Services know methods and traces; the gateway counts the same requests once more.
  const first = (/** @type {RouteFigures} */ route) => (route.service === "gateway" ? 0 : 1);
  const busiest = data && [...data.routes].sort((a, b) => first(b) - first(a) || b.requests_per_second - a.requests_per_second)[0];
  const shown = data?.routes.find((route) => nameOf(route) === query["route"]) ?? busiest;
  const series = shown && data?.series.routes[nameOf(shown)];
  return html`
    <${Heading} title="Routes" about="The last 15 minutes. Rings on the latency chart are traced requests: they lead to their waterfall." />
    <${ProblemText} error=${error} />
    ${data && data.routes.length === 0 && html`<${Empty} title="No route has been called yet.">Send a request through the gateway, for example with make demo.<//>`}
    ${data &&
    shown &&
    series &&
    html`<section class="panel" id="charts" aria-labelledby="shown">
      <header><h2 id="shown" class="code">${shown.service}: ${shown.method} ${shown.route}</h2><a href=${linkTo("requests", { route: shown.route })}>Its requests</a></header>
      <div class="charts">
        <${Chart} label="Latency" at=${data.series.at} format=${duration} series=${[
          { name: "p50", values: series.p50, color: "--series-1" },
          { name: "p95", values: series.p95, color: "--series-2" },
          { name: "p99", values: series.p99, color: "--series-3" },
        ]} points=${shown.exemplars.map((exemplar) => ({
          key: exemplar.trace_id,
          at: new Date(exemplar.at).getTime(),
          value: exemplar.ms,
          label: `Traced request of ${duration(exemplar.ms)} at ${time(exemplar.at)}`,
          href: linkOf(exemplar),
        }))} />
        <${Chart} label="Requests a second" at=${data.series.at} format=${short} series=${[{ name: "rate", values: series.rate, color: "--series-1" }]} />
        <${Chart} label="Errors a second" at=${data.series.at} format=${short} series=${[{ name: "errors", values: series.errors, color: "--bad" }]} />
      </div>
    </section>`}
    ${data && data.routes.length > 0 && html`<h2>All routes</h2><${Table} label="Routes" columns=${COLUMNS} rows=${data.routes} keyOf=${nameOf} sorted="Rate" />`}
  `;
}
