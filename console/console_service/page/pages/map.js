/** Gateway, services and stores as a drawing: what calls what, how often, and how often it fails. */

import { duration, perSecond } from "../lib/format.js";
import { Empty, Heading, ProblemText, useLoad } from "../lib/parts.js";
import { useStream } from "../lib/stream.js";
import { Table } from "../lib/table.js";
import { html, useMemo } from "../lib/ui.js";

/** @typedef {import("../lib/shapes").SystemMap} SystemMap */
/** @typedef {import("../lib/shapes").MapNode} MapNode */
/** @typedef {import("../lib/shapes").MapEdge} MapEdge */

const COLUMNS = ["gateway", "service", "store"];
const [BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y, MARGIN] = [132, 48, 220, 46, 16];
const SHAPES = { up: "●", late: "◐", down: "✕" };

/** @type {import("../lib/table.js").Column<MapEdge>[]} */
const EDGE_COLUMNS = [
  { head: "From", cell: (edge) => edge.from },
  { head: "To", cell: (edge) => edge.to },
  { head: "Calls", kind: "number", cell: (edge) => perSecond(edge.calls_per_second), sort: (edge) => edge.calls_per_second },
  { head: "Failures", kind: "number", cell: (edge) => html`<span class=${edge.failures_per_second > 0 ? "bad" : ""}>${perSecond(edge.failures_per_second)}</span>`, sort: (edge) => edge.failures_per_second },
  { head: "p95", kind: "number", cell: (edge) => duration(edge.p95_ms), sort: (edge) => edge.p95_ms ?? -1 },
  { head: "Sealed", cell: (edge) => (edge.sealed ? "sealed" : "–") },
];

export default function MapPage() {
  /** @type {ReturnType<typeof useLoad<SystemMap>>} */
  const { data, error, set } = useLoad("/map");
  useStream("map", set);
  return html`
    <${Heading} title="Map" about="Calls of the last minute. A thicker line carries more calls; a dashed one fails; S marks sealed calls." />
    <${ProblemText} error=${error} />
    ${data && data.nodes.length === 0 && html`<${Empty} title="Nothing has reported yet.">Send a request through the gateway, and its way shows here.<//>`}
    ${data &&
    data.nodes.length > 0 &&
    html`<div class="scroll map" role="region" aria-label="Drawing" tabindex="0"><${Drawing} map=${data} /></div>
      <h2>The same as a table</h2>
      <${Table} label="Calls" columns=${EDGE_COLUMNS} rows=${data.edges} keyOf=${keyOf} sorted="Calls" />`}
  `;
}

/** @param {MapEdge} edge */
const keyOf = (edge) => `${edge.from} ${edge.to} ${edge.sealed}`;

/** Place the nodes in columns, each centred. @param {MapNode[]} nodes */
function layOut(nodes) {
  const columns = COLUMNS.map((kind) => nodes.filter((node) => node.kind === kind).sort((a, b) => a.id.localeCompare(b.id)));
  const rows = Math.max(1, ...columns.map((column) => column.length));
  const height = rows * (BOX_HEIGHT + GAP_Y) - GAP_Y + 2 * MARGIN;
  /** @type {Map<string, {x: number, y: number, column: number, node: MapNode}>} */
  const places = new Map();
  for (const [column, members] of columns.entries()) {
    const top = (height - members.length * (BOX_HEIGHT + GAP_Y) + GAP_Y) / 2;
    for (const [row, node] of members.entries()) {
      places.set(node.id, { x: MARGIN + column * (BOX_WIDTH + GAP_X), y: top + row * (BOX_HEIGHT + GAP_Y), column, node });
    }
  }
  return { places, height, width: 3 * BOX_WIDTH + 2 * GAP_X + 2 * MARGIN };
}

/** @param {{map: SystemMap}} props */
function Drawing({ map }) {
  const names = map.nodes.map((node) => `${node.id}/${node.kind}`).join();
  const { places, height, width } = useMemo(() => layOut(map.nodes), [names]);
  return html`<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="Map of ${map.nodes.length} nodes and ${map.edges.length} connections; the table below says the same">
    ${map.edges.map((edge) => html`<${Edge} key=${keyOf(edge)} edge=${edge} places=${places} />`)}
    ${map.nodes.map((node) => {
      const place = places.get(node.id);
      return (
        place &&
        html`<g key=${node.id} class="node ${node.state}" transform="translate(${place.x} ${place.y})">
          <rect width=${BOX_WIDTH} height=${BOX_HEIGHT} rx="8" />
          <text x="12" y="20" class="name">${node.id}</text>
          <text x="12" y="37" class="note">${SHAPES[node.state]} ${node.state} · ${node.kind}</text>
        </g>`
      );
    })}
  </svg>`;
}

/** @param {{edge: MapEdge, places: ReturnType<typeof layOut>["places"]}} props */
function Edge({ edge, places }) {
  const [from, to] = [places.get(edge.from), places.get(edge.to)];
  if (!from || !to) {
    return null;
  }
  const fails = edge.failures_per_second > 0;
  const width = 1 + Math.min(5, Math.log2(1 + edge.calls_per_second));
  const [y1, y2] = [from.y + BOX_HEIGHT / 2, to.y + BOX_HEIGHT / 2];
  /** @type {[string, number, number]} */
  let drawn;
  if (from.column === to.column) {
    // An arc beside the column: calls down the list on the right, calls up on the left.
    const down = y2 > y1;
    const side = down ? from.x + BOX_WIDTH : from.x;
    const bulge = (down ? 1 : -1) * (30 + 0.22 * Math.abs(y2 - y1));
    const shift = down ? 10 : -10;
    drawn = [
      `M ${side} ${y1 + shift} C ${side + bulge} ${y1 + shift}, ${side + bulge} ${y2 - shift}, ${side} ${y2 - shift}`,
      side + bulge * 0.72,
      // Arcs of different lengths do not share a middle.
      y1 + (y2 - y1) * (Math.abs(y2 - y1) > BOX_HEIGHT + GAP_Y ? 0.28 : 0.5),
    ];
  } else {
    const [x1, x2] = [from.x + BOX_WIDTH, to.x];
    const middle = (x1 + x2) / 2;
    drawn = [`M ${x1} ${y1} C ${middle} ${y1}, ${middle} ${y2}, ${x2} ${y2}`, x1 + (x2 - x1) * 0.6, y1 + (y2 - y1) * 0.65];
  }
  const [path, x, y] = drawn;
  const text = `${perSecond(edge.calls_per_second)}${edge.sealed ? " S" : ""}${fails ? ` ✕ ${perSecond(edge.failures_per_second)}` : ""}`;
  return html`<g class="edge ${fails ? "fails" : ""} ${edge.calls_per_second > 0 ? "" : "quiet"}">
    <title>${edge.from} to ${edge.to}: ${perSecond(edge.calls_per_second)} calls, ${perSecond(edge.failures_per_second)} failures, p95 ${duration(edge.p95_ms)}${edge.sealed ? ", sealed" : ""}</title>
    <path d=${path} stroke-width=${width} />
    ${edge.calls_per_second > 0 && html`<text x=${x} y=${y}>${text}</text>`}
  </g>`;
}
