/** A table that renders a row again only when its data changed. */

import { Component, html, useState } from "./ui.js";

/**
 * @template R
 * @typedef {object} Column
 * @property {string} head
 * @property {(row: R) => any} cell
 * @property {string} [kind] classes of its cells: number, wide (hidden on narrow windows), grow, code
 * @property {(row: R) => number | string} [sort] makes the column sortable
 */

/** @extends {Component<{row: any, columns: Column<any>[]}>} */
class Row extends Component {
  /** @param {any} next */
  shouldComponentUpdate(next) {
    return next.row !== this.props.row || next.columns !== this.props.columns;
  }

  render() {
    const { row, columns } = this.props;
    return html`<tr>
      ${columns.map((column) => html`<td key=${column.head} class=${column.kind ?? ""}>${column.cell(row)}</td>`)}
    </tr>`;
  }
}

/**
 * Columns must be the same array at each rendering, and so must be a row whose data did not change.
 * @template R
 * @param {{label: string, columns: Column<R>[], rows: R[], keyOf: (row: R) => string, sorted?: string}} props
 */
export function Table({ label, columns, rows, keyOf, sorted = "" }) {
  const [order, setOrder] = useState({ head: sorted, down: true });
  const by = columns.find((column) => column.head === order.head)?.sort;
  const shown = by ? [...rows].sort((a, b) => compare(by(a), by(b)) * (order.down ? -1 : 1)) : rows;
  return html`<div class="scroll" role="region" aria-label=${label} tabindex="0">
    <table>
      <thead>
        <tr>
          ${columns.map((column) => {
            const isOrder = column.head === order.head;
            const next = () => setOrder({ head: column.head, down: isOrder ? !order.down : true });
            return html`<th
              key=${column.head}
              scope="col"
              class=${column.kind ?? ""}
              aria-sort=${column.sort && isOrder ? (order.down ? "descending" : "ascending") : undefined}
            >
              ${column.sort
                ? html`<button type="button" class="sort" onClick=${next}>
                    ${column.head}<span aria-hidden="true">${isOrder ? (order.down ? " ▾" : " ▴") : ""}</span>
                  </button>`
                : column.head}
            </th>`;
          })}
        </tr>
      </thead>
      <tbody>
        ${shown.map((row) => html`<${Row} key=${keyOf(row)} row=${row} columns=${columns} />`)}
      </tbody>
    </table>
  </div>`;
}

/** @param {number | string} a @param {number | string} b */
const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
