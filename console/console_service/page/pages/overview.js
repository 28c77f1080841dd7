/** What runs: replicas, stores, waiting events, circuit breakers, keys, a release. */

import { Sparkline } from "../lib/chart.js";
import { age, count, duration, madeOn, perSecond, plural, size } from "../lib/format.js";
import { Empty, Heading, Panel, ProblemText, State, useLoad } from "../lib/parts.js";
import { linkTo } from "../lib/router.js";
import { useStream } from "../lib/stream.js";
import { html } from "../lib/ui.js";

/** @typedef {import("../lib/shapes").Overview} Overview */
/** @typedef {import("../lib/shapes").Replica} Replica */

export default function OverviewPage() {
  /** @type {ReturnType<typeof useLoad<Overview>>} */
  const { data, error, set } = useLoad("/overview");
  useStream("overview", set);
  if (!data) {
    return html`<${Heading} title="Overview" /><${ProblemText} error=${error} />`;
  }
  const down = data.replicas.filter((replica) => replica.state !== "up").length;
  const breaking = data.breakers.filter((breaker) => breaker.state !== "closed");
  const dead = sum(data.outbox.map((outbox) => outbox.dead_letters));
  return html`
    <${Heading} title="Overview" about="What runs now. A replica that stops reporting is late after 5 s and down after 8 s." />
    <${ProblemText} error=${error} />
    <ul class="figures" aria-label="Summary">
      <${Figure} name="Replicas" value=${count(data.replicas.length)} bad=${down > 0} note=${down ? `${count(down)} not up` : "all up"} href="#replicas-list" />
      <${Figure} name="Requests" value=${perSecond(sum(data.replicas.filter(isEdge).map((replica) => replica.requests_per_second)))} note="at the gateway" href=${linkTo("requests")} />
      <${Figure} name="Errors" value=${perSecond(sum(data.replicas.map((replica) => replica.errors_per_second)))} bad=${data.replicas.some((replica) => replica.errors_per_second > 0)} note="responses with 5xx" href=${linkTo("requests", { status: "5xx" })} />
      <${Figure} name="Events waiting" value=${count(sum(data.outbox.map((outbox) => outbox.waiting)))} note="in outboxes" href=${linkTo("events")} />
      <${Figure} name="Dead letters" value=${count(dead)} bad=${dead > 0} note=${dead ? "retry or look" : "none"} href=${linkTo("events")} />
    </ul>
    <section aria-labelledby="replicas">
      <h2 id="replicas">Replicas</h2>
      ${data.replicas.length === 0
        ? html`<${Empty} title="No process has reported yet.">Services report every 2 s when they are started with the console on.<//>`
        : html`<ul class="cards" id="replicas-list">${data.replicas.map((replica) => html`<${Card} key=${replica.name} replica=${replica} />`)}</ul>`}
    </section>
    <div class="panels">
      <${Panel} title="Stores" id="stores">
        ${data.stores.length === 0
          ? html`<p class="none">No service has reported a store.</p>`
          : html`<ul class="rows">
              ${data.stores.map((store) => html`<li key=${store.name}><span>${store.name}<small>seen by ${store.seen_by.join(", ") || "no service"}</small></span><${State} state=${store.state} /></li>`)}
            </ul>`}
      <//>
      <${Panel} title="Outboxes" id="outboxes" aside=${html`<a href="#/events">Events</a>`}>
        ${data.outbox.length === 0
          ? html`<p class="none">No service has reported an outbox.</p>`
          : html`<ul class="rows">
              ${data.outbox.map(
                (outbox) => html`<li key=${outbox.service}>
                  <span>${outbox.service}<small>${outbox.waiting ? `oldest ${age(outbox.oldest_seconds)}` : "nothing waits"}</small></span>
                  <span>${count(outbox.waiting)} waiting${outbox.dead_letters > 0 && html`<${State} state="failed" text=${`${count(outbox.dead_letters)} dead`} />`}</span>
                </li>`,
              )}
            </ul>`}
      <//>
      <${Panel} title="Circuit breakers" id="breakers">
        ${breaking.length < data.breakers.length && html`<p class="none">${plural(data.breakers.length - breaking.length, "breaker")} closed.</p>`}
        ${data.breakers.length === 0
          ? html`<p class="none">No service has called another one.</p>`
          : html`<ul class="rows">
              ${breaking.map((breaker) => html`<li key=${`${breaker.service} ${breaker.peer}`}><span>${breaker.service} → ${breaker.peer}</span><${State} state=${breaker.state} /></li>`)}
            </ul>`}
      <//>
      <${Panel} title="Keys" id="keys" aside=${html`<a href="#/keys">Rotate</a>`}>
        ${data.keys.length === 0
          ? html`<p class="none">No service has reported its keys.</p>`
          : html`<p>${plural(data.keys.length, "pair")}; the oldest key was made ${madeOn(Math.max(...data.keys.map((key) => key.age_seconds ?? 0)))}.</p>`}
      <//>
      <${Panel} title="Release" id="release">
        ${data.release
          ? html`<p><b>${data.release.service}</b>: the new version gets ${count(data.release.weight)} % of the requests.</p>
              <progress max="100" value=${data.release.weight} aria-label="Share of the new version"></progress>`
          : html`<p class="none">No release is under way.</p>`}
      <//>
    </div>
  `;
}

/** @param {number[]} values */
const sum = (values) => values.reduce((total, value) => total + value, 0);
/** @param {Replica} replica */
const isEdge = (replica) => replica.service === "gateway";

/** @param {{name: string, value: string, note: string, href: string, bad?: boolean}} props */
function Figure({ name, value, note, href, bad = false }) {
  const onPage = href.startsWith("#/") ? undefined : (/** @type {Event} */ event) => {
    event.preventDefault();
    document.getElementById("replicas")?.scrollIntoView();
  };
  return html`<li class=${bad ? "bad" : ""}>
    <a href=${href} onClick=${onPage}><span>${name}</span><strong>${value}</strong><small>${bad ? "✕ " : ""}${note}</small></a>
  </li>`;
}

/** @param {{replica: Replica}} props */
function Card({ replica }) {
  const isUp = replica.state === "up";
  return html`<li class="card ${replica.state}" data-replica=${replica.name}>
    <header><h3>${replica.name}</h3><${State} state=${replica.state} /></header>
    <dl>
      <div><dt>requests</dt><dd>${perSecond(replica.requests_per_second)}</dd></div>
      <div><dt>p95</dt><dd>${duration(replica.p95_ms)}</dd></div>
      <div class=${replica.errors_per_second > 0 ? "bad" : ""}><dt>errors</dt><dd>${perSecond(replica.errors_per_second)}</dd></div>
      <div><dt>memory</dt><dd>${size(replica.memory_bytes || null)}</dd></div>
    </dl>
    <${Sparkline} label="Requests of the last two minutes" values=${replica.sparkline} />
    <footer>
      ${isUp ? `up for ${age(replica.uptime_seconds)}` : `${replica.state} for ${age((Date.now() - new Date(replica.since).getTime()) / 1000)}`}
      <span>${plural(replica.restarts, "restart")} · ${plural(replica.workers, "worker")}</span>
    </footer>
  </li>`;
}
