/** One request: where its time went, and the log lines of all services. */

import { dateTime, duration } from "../lib/format.js";
import { CopyButton, Empty, Heading, ProblemText, Status, useLoad } from "../lib/parts.js";
import { linkTo } from "../lib/router.js";
import { html, useState } from "../lib/ui.js";
import { LogList } from "./log_list.js";

/** @typedef {import("../lib/shapes").RequestDetail} RequestDetail */
/** @typedef {import("../lib/shapes").Span} Span */

/** @param {{rest: string}} props */
export default function RequestPage({ rest }) {
  /** @type {ReturnType<typeof useLoad<RequestDetail>>} */
  const { data, error, reload } = useLoad(`/requests/${encodeURIComponent(rest)}`);
  if (!data) {
    return html`<${Heading} title="Request" about=${html`<code>${rest}</code>`} /><${ProblemText} error=${error} />
      ${error && html`<p>The console keeps a while only. <a href="#/requests">Go to the requests</a></p>`}`;
  }
  const { request, spans, logs, curl } = data;
  const facts = [
    ["Took", duration(request.ms)],
    ["At", dateTime(request.at)],
    ["Replica", request.replica],
    ["Route", request.route],
    ["User", request.user_id],
    ["Caller", request.caller],
    ["Request id", request.request_id],
    ["Trace id", request.trace_id],
  ].filter(([, value]) => value);
  return html`
    <${Heading} title=${html`<span class="code">${request.method} ${request.path}</span>`} about=${html`<${Status} status=${request.status} />`}>
      <button type="button" onClick=${reload}>Reload</button>
      <${CopyButton} text=${curl} label="Copy as curl" />
    <//>
    <${ProblemText} error=${error} />
    <dl class="facts">
      ${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${name === "User" ? html`<a href=${linkTo("users", { q: String(value) })}>${value}</a>` : value}</dd></div>`)}
    </dl>
    <h2>Waterfall</h2>
    ${spans.length === 0
      ? html`<${Empty} title="This request was not traced.">At most ten new traces a second are kept. A busy platform traces some of its requests.<//>`
      : html`<${Waterfall} spans=${spans} />`}
    <h2>Log lines</h2>
    ${logs.length === 0 ? html`<${Empty} title="No service has written a line for this request." />` : html`<${LogList} lines=${oldestFirst(logs)} label="Log lines" />`}
  `;
}

/** @param {import("../lib/shapes").LogLine[]} lines */
const oldestFirst = (lines) => [...lines].sort((a, b) => new Date(a.at).getTime() - new Date(b.at).getTime());

/** The spans in the order of a tree, each with its depth. @param {Span[]} spans */
function ordered(spans) {
  const ids = new Set(spans.map((span) => span.span_id));
  /** @type {Map<string, Span[]>} */
  const children = new Map();
  for (const span of [...spans].sort((a, b) => a.start_ms - b.start_ms)) {
    const parent = span.parent_id && ids.has(span.parent_id) ? span.parent_id : "";
    children.set(parent, [...(children.get(parent) ?? []), span]);
  }
  /** @type {{span: Span, depth: number}[]} */
  const rows = [];
  /** @param {string} parent @param {number} depth */
  const add = (parent, depth) => {
    for (const span of children.get(parent) ?? []) {
      rows.push({ span, depth });
      add(span.span_id, depth + 1);
    }
    children.delete(parent);
  };
  add("", 0);
  return rows;
}

/** @param {{spans: Span[]}} props */
function Waterfall({ spans }) {
  const rows = ordered(spans);
  const end = Math.max(0.001, ...spans.map((span) => span.start_ms + span.duration_ms));
  const begin = Math.min(0, ...spans.map((span) => span.start_ms));
  const scale = 100 / (end - begin);
  const [open, setOpen] = useState("");
  return html`<div class="waterfall">
    <div class="ruler" aria-hidden="true">${[0, 0.25, 0.5, 0.75, 1].map((part) => html`<span key=${part}>${duration(begin + part * (end - begin))}</span>`)}</div>
    <ol>
      ${rows.map(({ span, depth }) => {
        const isOpen = open === span.span_id;
        const place = { marginLeft: `${Math.max(0, (span.start_ms - begin) * scale)}%`, width: `${Math.max(0.3, span.duration_ms * scale)}%` };
        return html`<li key=${span.span_id}>
          <button type="button" aria-expanded=${isOpen ? "true" : "false"} onClick=${() => setOpen(isOpen ? "" : span.span_id)}>
            <span class="what" style=${{ paddingLeft: `${Math.min(depth, 8) * 0.8}rem` }}>
              <b>${span.service}</b> <span class="code">${span.name}</span> ${span.attributes["rpc.sealed"] === "yes" && html`<small>sealed</small>`}
              ${span.failed && html`<span class="state bad">✕ failed</span>`}
            </span>
            <span class="lane"><span class="bar ${kindOf(span)} ${span.failed ? "failed" : ""}" style=${place}></span></span>
            <span class="took">${duration(span.duration_ms)}</span>
          </button>
          ${isOpen &&
          html`<dl class="facts">
            <div><dt>replica</dt><dd>${span.replica}</dd></div>
            <div><dt>kind</dt><dd>${span.kind}</dd></div>
            <div><dt>begins at</dt><dd>${duration(span.start_ms)}</dd></div>
            ${Object.entries(span.attributes).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${String(value)}</dd></div>`)}
          </dl>`}
        </li>`;
      })}
    </ol>
    <p class="hint"><span class="bar server"></span> served <span class="bar client"></span> called a service <span class="bar store"></span> called a store. Press a line for its attributes.</p>
  </div>`;
}

/** @param {Span} span */
const kindOf = (span) => (span.attributes["db.system.name"] ? "store" : /client|producer/i.test(span.kind) ? "client" : "server");
