/** The keys between services: their age, who has loaded them, and their rotation. */

import { call } from "../lib/api.js";
import { useConfirm } from "../lib/dialog.js";
import { madeOn, plural } from "../lib/format.js";
import { announce, CopyButton, Empty, Heading, Panel, ProblemText, State, useLoad } from "../lib/parts.js";
import { useStream } from "../lib/stream.js";
import { Table } from "../lib/table.js";
import { html } from "../lib/ui.js";

/** @typedef {import("../lib/shapes").Keys} Keys */

/** @type {import("../lib/table.js").Column<Keys["pairs"][number]>[]} */
const COLUMNS = [
  { head: "Pair", cell: (pair) => pair.pair.replace("--", " → "), sort: (pair) => pair.pair },
  { head: "Made", kind: "number", cell: (pair) => madeOn(pair.age_seconds), sort: (pair) => pair.age_seconds ?? 0 },
  { head: "Key", kind: "code", cell: (pair) => pair.key_id ?? "–" },
  {
    head: "Loaded by",
    kind: "grow",
    cell: (pair) => {
      const entries = Object.entries(pair.loaded_by);
      const stale = entries.filter(([, key]) => pair.key_id && key !== pair.key_id).map(([replica]) => replica);
      return stale.length ? html`<${State} state="late" text=${`${stale.join(", ")} still has another key`} />` : entries.map(([replica]) => replica).join(", ") || "–";
    },
  },
];

export default function KeysPage() {
  /** @type {ReturnType<typeof useLoad<Keys>>} */
  const { data, error, reload, set } = useLoad("/keys");
  useStream("keys", set);
  const [question, ask] = useConfirm();
  const rotate = () =>
    ask({
      title: "Rotate all keys?",
      text: html`<p>Every pair of services gets a new key while the platform runs. Old and new keys are accepted side by side until all replicas have the new ones, so no request fails. It takes about 40 s.</p>`,
      action: "Rotate the keys",
      run: async () => {
        await call("POST", "/keys/rotate");
        announce("The rotation has started.");
        await reload();
      },
    });
  const rotation = data?.rotation;
  return html`
    <${Heading} title="Keys" about="One secret key for each ordered pair of services seals the calls between them.">
      ${data?.can_rotate && html`<button type="button" class="primary" disabled=${rotation?.state === "running"} onClick=${rotate}>Rotate the keys</button>`}
    <//>
    <${ProblemText} error=${error} />
    ${data &&
    html`
      ${!data.can_rotate && html`<p>Rotate them on the host of the platform: <code>${data.command}</code> <${CopyButton} text=${data.command} label="Copy" /></p>`}
      ${rotation &&
      rotation.state !== "idle" &&
      html`<${Panel} title="Rotation" id="rotation" aside=${html`<${State} state=${rotation.state} />`}>
        <pre class="mail" tabindex="0" role="log" aria-label="Progress of the rotation">${rotation.lines.join("\n") || "Starting…"}</pre>
      <//>`}
      ${data.pairs.length === 0
        ? html`<${Empty} title="No service has reported its keys yet.">Services report every 2 s when they are started with the console on.<//>`
        : html`<h2>${plural(data.pairs.length, "pair")}</h2><${Table} label="Keys" columns=${COLUMNS} rows=${data.pairs} keyOf=${keyOf} sorted="Age" />`}
    `}
    ${question}
  `;
}

/** @param {Keys["pairs"][number]} pair */
const keyOf = (pair) => pair.pair;
