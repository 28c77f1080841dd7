/** The mails that make run keeps in place of sending them. */

import { ApiError } from "../lib/api.js";
import { dateTime } from "../lib/format.js";
import { Empty, Heading, ProblemText, useLoad } from "../lib/parts.js";
import { linkTo } from "../lib/router.js";
import { html, useEffect, useRef, useState } from "../lib/ui.js";

/** @typedef {import("../lib/shapes").MailItem} MailItem */

/** @param {{rest: string}} props */
export default function MailPage({ rest }) {
  /** @type {ReturnType<typeof useLoad<{items: MailItem[]}>>} */
  const { data, error } = useLoad("/mail", {}, 3000);
  const isOff = error instanceof ApiError && error.status === 404;
  return html`
    <${Heading} title="Mail" about="Mails of the platform, kept in place of being sent." />
    ${isOff
      ? html`<${Empty} title="Mails are sent, so none are kept here.">The platform keeps mails in a folder when it is started with make run.<//>`
      : html`<${ProblemText} error=${error} />`}
    ${data?.items.length === 0 && html`<${Empty} title="No mail yet.">Register an account or ask for a new password, and its mail shows here.<//>`}
    ${data &&
    data.items.length > 0 &&
    html`<div class="split">
      <ul class="rows links" aria-label="Mails">
        ${data.items.map(
          (mail) => html`<li key=${mail.id}>
            <a href=${linkTo(`mail/${encodeURIComponent(mail.id)}`)} aria-current=${mail.id === rest ? "true" : undefined}><b>${mail.subject}</b><small>${mail.to}</small><small>${dateTime(mail.at)}</small></a>
          </li>`,
        )}
      </ul>
      ${rest ? html`<${Content} id=${rest} mail=${data.items.find((mail) => mail.id === rest)} />` : html`<${Empty} title="Choose a mail." />`}
    </div>`}
  `;
}

/** @param {{id: string, mail: MailItem | undefined}} props */
function Content({ id, mail }) {
  /** @type {ReturnType<typeof useLoad<{text: string | null, html: string | null}>>} */
  const { data, error } = useLoad(`/mail/${encodeURIComponent(id)}`);
  const [plain, setPlain] = useState(false);
  const showsText = plain || !data?.html;
  return html`<article class="panel" aria-labelledby="subject">
    <header>
      <h2 id="subject">${mail?.subject ?? "Mail"}</h2>
      ${data?.html && html`<button type="button" aria-pressed=${plain ? "true" : "false"} onClick=${() => setPlain(!plain)}>Plain text</button>`}
    </header>
    <${ProblemText} error=${error} />
    ${data && (showsText ? html`<pre class="mail" tabindex="0" role="region" aria-label="Text of the mail">${data.text}</pre>` : html`<${Sandbox} markup=${data.html ?? ""} />`)}
  </article>`;
}

/**
 * HTML in a frame in which no script runs and nothing is loaded.
 *
 * The page's policy holds in the frame, too, and refuses inline styles of markup. So the markup is parsed without them, and
 * they are set by script from outside.
 * @param {{markup: string}} props
 */
function Sandbox({ markup }) {
  const frame = useRef(/** @type {HTMLIFrameElement | null} */ (null));
  useEffect(() => {
    const target = frame.current?.contentDocument;
    if (!target) {
      return;
    }
    const inert = new DOMParser().parseFromString(markup.replace(/\sstyle=/gi, " data-style="), "text/html");
    for (const element of inert.querySelectorAll("script, style, link, meta, base, iframe, object, embed, form")) {
      element.remove();
    }
    target.documentElement.lang = inert.documentElement.lang || "en";
    target.title = "Mail";
    target.body.replaceWith(target.adoptNode(inert.body));
    for (const element of /** @type {NodeListOf<HTMLElement>} */ (target.querySelectorAll("[data-style]"))) {
      element.style.cssText = element.dataset["style"] ?? "";
    }
  }, [markup]);
  return html`<iframe class="mail" title="Content of the mail" sandbox="allow-same-origin" ref=${frame}></iframe>`;
}
