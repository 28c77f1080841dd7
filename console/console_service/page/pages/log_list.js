/** Log lines as rows that fold out: all fields, and the traceback. */

import { time } from "../lib/format.js";
import { Level } from "../lib/parts.js";
import { linkTo } from "../lib/router.js";
import { Component, html, useState } from "../lib/ui.js";

/** @typedef {import("../lib/shapes").LogLine} LogLine */

/** @extends {Component<{line: LogLine, open: boolean, toggle: (id: string) => void}>} */
class Line extends Component {
  /** @param {any} next */
  shouldComponentUpdate(next) {
    return next.line !== this.props.line || next.open !== this.props.open;
  }

  render() {
    const { line, open, toggle } = this.props;
    return html`<li class="line">
      <button type="button" aria-expanded=${open ? "true" : "false"} onClick=${() => toggle(line.id)}>
        <time>${time(line.at)}</time>
        <${Level} level=${line.level} />
        <span class="where">${line.replica || line.service}</span>
        <span class="message">${line.message}${line.traceback && html` <span class="state bad">▸ traceback</span>`}</span>
      </button>
      ${open && html`<${Fields} line=${line} />`}
    </li>`;
  }
}

/** @param {{line: LogLine}} props */
function Fields({ line }) {
  const fields = [["logger", line.logger], ["service", line.service], ["trace_id", line.trace_id], ...Object.entries(line.fields)];
  const shown = fields.filter(([name, value]) => value !== null && value !== undefined && value !== "" && name !== "traceback" && name !== "request_id");
  return html`<div class="fields">
    ${line.traceback && html`<pre class="traceback" tabindex="0" role="region" aria-label="Traceback">${line.traceback}</pre>`}
    <dl class="facts">
      ${line.request_id && html`<div><dt>request_id</dt><dd><a href=${linkTo(`request/${encodeURIComponent(line.request_id)}`)}>${line.request_id}</a></dd></div>`}
      ${shown.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${typeof value === "object" ? JSON.stringify(value) : String(value)}</dd></div>`)}
    </dl>
  </div>`;
}

/** @param {{lines: LogLine[], label: string}} props */
export function LogList({ lines, label }) {
  const [opened, setOpened] = useState(/** @type {ReadonlySet<string>} */ (new Set()));
  const toggle = (/** @type {string} */ id) =>
    setOpened((before) => {
      const after = new Set(before);
      return after.delete(id) ? after : after.add(id);
    });
  return html`<ol class="lines" aria-label=${label}>
    ${lines.map((line) => html`<${Line} key=${line.id} line=${line} open=${opened.has(line.id)} toggle=${toggle} />`)}
  </ol>`;
}
