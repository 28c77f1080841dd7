/** The log lines of all services in one list, newest first. */

import { get } from "../lib/api.js";
import { KEPT, useLive, useReveal } from "../lib/live.js";
import { ChoiceFilter, Empty, Heading, ProblemText, TextFilter } from "../lib/parts.js";
import { setQuery } from "../lib/router.js";
import { html, useState } from "../lib/ui.js";
import { LogList } from "./log_list.js";

/** @typedef {import("../lib/shapes").LogLine} LogLine */

const LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];
const CHOICES = /** @type {[string, string][]} */ ([["", "all"], ...LEVELS.slice(1).map((level) => [level, `${level.toLowerCase()} and above`])]);
const FILTERS = ["level", "service", "q", "request_id", "trace_id"];

/** @param {Record<string, string>} query @returns {(line: LogLine) => boolean} */
const matcher = ({ level = "", service = "", q = "", request_id = "", trace_id = "" }) => {
  const least = LEVELS.indexOf(level);
  const words = q.toLowerCase();
  return (line) =>
    LEVELS.indexOf(line.level.toUpperCase()) >= least &&
    (!service || line.service === service) &&
    (!words || `${line.message} ${line.logger} ${line.traceback ?? ""} ${JSON.stringify(line.fields)}`.toLowerCase().includes(words)) &&
    (!request_id || line.request_id === request_id) &&
    (!trace_id || line.trace_id === trace_id);
};
/** @param {LogLine} line */
const keyOf = (line) => line.id;

/** @param {{query: Record<string, string>}} props */
export default function LogsPage({ query }) {
  const [paused, setPaused] = useState(false);
  const [older, setOlder] = useState(/** @type {"some" | "loading" | "none"} */ ("some"));
  const filters = Object.fromEntries(FILTERS.flatMap((name) => (query[name] ? [[name, query[name]]] : [])));
  const { items, error, skipped, held, reload, append } = useLive({
    path: "/logs",
    topic: "logs",
    query: filters,
    matches: matcher(filters),
    keyOf,
    paused,
  });
  const [limit, more] = useReveal(items?.length ?? 0);
  const change = (/** @type {string} */ name) => (/** @type {string} */ value) => {
    setOlder("some");
    setQuery({ ...filters, [name]: value });
  };
  const loadOlder = async () => {
    setPaused(true);
    setOlder("loading");
    try {
      const page = await get("/logs", { ...filters, limit: KEPT, before: items?.at(-1)?.id });
      append(page.items);
      setOlder(page.items.length === KEPT ? "some" : "none");
    } catch {
      setOlder("some");
    }
  };
  return html`
    <${Heading} title="Logs" about="All services, newest first; health checks are left out.">
      <button type="button" aria-pressed=${paused ? "false" : "true"} onClick=${() => setPaused(!paused)}>${paused ? `Follow${held ? `, ${held} new` : ""}` : "Following"}</button>
    <//>
    <form class="filters" role="search" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
      <${ChoiceFilter} label="Level" name="level" value=${filters["level"] ?? ""} options=${CHOICES} onValue=${change("level")} />
      <${TextFilter} label="Service" name="service" value=${filters["service"] ?? ""} placeholder="notes" onValue=${change("service")} />
      <${TextFilter} label="Text" name="q" value=${filters["q"] ?? ""} onValue=${change("q")} />
      <${TextFilter} label="Request id" name="request_id" value=${filters["request_id"] ?? ""} onValue=${change("request_id")} />
      <${TextFilter} label="Trace id" name="trace_id" value=${filters["trace_id"] ?? ""} onValue=${change("trace_id")} />
      ${Object.keys(filters).length > 0 && html`<button type="button" onClick=${() => setQuery({})}>Clear</button>`}
    </form>
    <${ProblemText} error=${error} />
    ${skipped > 0 && html`<p class="hint">${skipped} more came too fast to show. <button type="button" class="plain" onClick=${reload}>Load the latest</button></p>`}
    ${items?.length === 0 &&
    html`<${Empty} title=${Object.keys(filters).length ? "No line matches." : "No log line yet."}>
      ${Object.keys(filters).length ? "Clear a filter, or wait: matching lines show at once." : "Services send their lines when they are started with the console on."}
    <//>`}
    ${items && items.length > 0 && html`<${LogList} lines=${items.slice(0, limit)} label="Log lines" />`}
    ${more}
    ${items && items.length >= KEPT && !more && older !== "none" && html`<p><button type="button" disabled=${older === "loading"} onClick=${loadOlder}>Load older lines</button></p>`}
  `;
}
