/** Domain events between services: what waits, what is dead-lettered, and a retry. */

import { call } from "../lib/api.js";
import { useConfirm } from "../lib/dialog.js";
import { age, count, dateTime, plural } from "../lib/format.js";
import { announce, Empty, Heading, Panel, ProblemText, useLoad } from "../lib/parts.js";
import { html } from "../lib/ui.js";

/** @typedef {import("../lib/shapes").Events} Events */

export default function EventsPage() {
  /** @type {ReturnType<typeof useLoad<Events>>} */
  const { data, error, reload } = useLoad("/events", {}, 3000);
  const [question, ask] = useConfirm();
  const services = data?.services ?? [];
  const dead = services.flatMap((service) => service.dead_letters.map((letter) => ({ ...letter, service: service.service })));

  /** @param {string} service @param {string[] | null} ids @param {number} number */
  const retry = (service, ids, number) =>
    ask({
      title: ids ? "Retry this event?" : `Retry all dead letters of ${service}?`,
      text: html`<p>
        ${ids ? "The event waits" : `${plural(number, "event")} wait`} in the outbox of <b>${service}</b> again and ${ids ? "is" : "are"} delivered in order. What fails
        again comes back to this list. Receivers ignore an event that they have already handled.
      </p>`,
      action: ids ? "Retry the event" : "Retry all",
      run: async () => {
        const { retried } = await call("POST", "/events/retry", { json: { service, ids } });
        announce(`${plural(retried, "event")} of ${service} will be delivered again.`);
        await reload();
      },
    });
  const waiting = services.flatMap((service) => service.destinations.map((destination) => ({ ...destination, service: service.service })));
  return html`
    <${Heading} title="Events" about="Events that services owe each other. An event that fails too often steps aside as a dead letter." />
    <${ProblemText} error=${error} />
    ${data &&
    html`
      <div class="panels">
        <${Panel} title="Waiting" id="waiting">
          ${waiting.length === 0
            ? html`<p class="none">Nothing waits.</p>`
            : html`<ul class="rows">
                ${waiting.map((one) => html`<li key=${`${one.service} ${one.destination}`}><span>${one.service} → ${one.destination}<small>${one.waiting ? `oldest ${age(one.oldest_seconds)}` : "nothing waits"}</small></span><span>${count(one.waiting)}</span></li>`)}
              </ul>`}
        <//>
      </div>
      <section aria-labelledby="dead">
        <div class="heading">
          <h2 id="dead">Dead letters</h2>
          <div class="controls">
            ${services
              .filter((service) => service.dead_letters.length > 0)
              .map((service) => html`<button key=${service.service} type="button" onClick=${() => retry(service.service, null, service.dead_letters.length)}>Retry all of ${service.service}</button>`)}
          </div>
        </div>
        ${dead.length === 0
          ? html`<${Empty} title="There are no dead letters.">Nothing to do: every event was delivered or still waits for its next try.<//>`
          : html`<ul class="list" aria-label="Dead letters">
              ${dead.map(
                (letter) => html`<li key=${letter.id} class="panel account">
                  <div class="who">
                    <h3 class="code">${letter.type}</h3>
                    <p>${letter.service} → ${letter.destination}, ${plural(letter.attempts, "attempt")} <small>since ${dateTime(letter.occurred_at)}</small></p>
                    ${letter.error && html`<p class="code bad">✕ ${letter.error}</p>`}
                  </div>
                  <div class="buttons"><button type="button" onClick=${() => retry(letter.service, [letter.id], 1)}>Retry</button></div>
                </li>`,
              )}
            </ul>`}
      </section>
    `}
    ${question}
  `;
}
