/** Time series, drawn by uPlot: as a chart with axes, and as a small line without them. */

import uPlot from "../vendor/uplot.js";
import { dateTime, minute } from "./format.js";
import { html, useEffect, useRef, useState } from "./ui.js";

/** @typedef {import("./shapes").Values} Values */
/** @typedef {{name: string, values: Values, color: string}} Series color: the name of a custom property */
/** @typedef {{key: string, at: number, value: number, label: string, href: string}} Point a link on the chart; `at` in ms */

/** Charts are drawn at most twice a second, however often their data changes. */
const REDRAW_MS = 500;
const DASHES = [[], [6, 3], [2, 3], [10, 3, 2, 3]];

const dark = matchMedia("(prefers-color-scheme: dark)");

function useScheme() {
  const [isDark, setDark] = useState(dark.matches);
  useEffect(() => {
    const update = () => setDark(dark.matches);
    dark.addEventListener("change", update);
    return () => dark.removeEventListener("change", update);
  }, []);
  return isDark;
}

/** @param {Element} element @param {string} name */
const color = (element, name) => getComputedStyle(element).getPropertyValue(name).trim();

/**
 * Create a chart in the element that is returned, keep its width, and draw its data.
 * @param {(target: HTMLElement) => Omit<uPlot.Options, "width">} optionsFor @param {uPlot.AlignedData} data
 * @param {unknown[]} inputs what the options depend on
 */
function usePlot(optionsFor, data, inputs) {
  const place = useRef(/** @type {HTMLDivElement | null} */ (null));
  const plot = useRef(/** @type {uPlot | null} */ (null));
  const latest = useRef(data);
  const drawn = useRef(0);
  latest.current = data;
  useEffect(() => {
    const target = place.current;
    if (!target) {
      return undefined;
    }
    const chart = new uPlot({ ...optionsFor(target), width: target.clientWidth }, latest.current ?? [[]], target);
    plot.current = chart;
    const observer = new ResizeObserver(() => {
      if (target.clientWidth !== chart.width) {
        chart.setSize({ width: target.clientWidth, height: chart.height });
      }
    });
    observer.observe(target);
    return () => {
      observer.disconnect();
      chart.destroy();
      plot.current = null;
    };
  }, inputs);
  useEffect(() => {
    const wait = Math.max(0, REDRAW_MS - (performance.now() - (drawn.current ?? 0)));
    const timer = setTimeout(() => {
      drawn.current = performance.now();
      plot.current?.setData(latest.current ?? [[]]);
    }, wait);
    return () => clearTimeout(timer);
  }, [data]);
  return place;
}

/**
 * @param {{label: string, at: number[], series: Series[], format: (value: number) => string, points?: Point[], bars?: boolean}} props
 */
export function Chart({ label, at, series, format, points = [], bars = false }) {
  const isDark = useScheme();
  const current = useRef(points);
  current.current = points;
  /** @param {HTMLElement} target @returns {Omit<uPlot.Options, "width">} */
  const optionsFor = (target) => {
    const [ink, line] = [color(target, "--faint"), color(target, "--line")];
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui, sans-serif" };
    const paths = bars ? uPlot.paths.bars?.({ size: [0.8, 40] }) : undefined;
    return {
      height: 190,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false } },
      scales: { y: { range: (_plot, _low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: [{ ...axis, space: 70, values: (_plot, ticks) => ticks.map(minute) }, { ...axis, size: 64, values: (_plot, ticks) => ticks.map(format) }],
      series: [
        {},
        ...series.map((one, index) => ({
          label: one.name,
          stroke: color(target, one.color),
          width: 2,
          dash: DASHES[index % DASHES.length],
          points: { show: false },
          ...(paths ? { paths, fill: color(target, one.color) } : {}),
        })),
      ],
      hooks: { draw: [(chart) => placeLinks(chart, current.current ?? [])] },
    };
  };
  const data = /** @type {uPlot.AlignedData} */ ([at.map((ms) => ms / 1000), ...series.map((one) => one.values)]);
  const place = usePlot(optionsFor, data, [isDark, series.map((one) => one.name).join()]);
  const last = (/** @type {Values} */ values) => values.findLast((value) => value !== null) ?? null;
  const summary = series.map((one) => `${one.name} ${formatted(last(one.values), format)}`).join(", ");
  return html`<figure class="chart">
    <figcaption>
      <span class="title">${label}</span>
      ${series.map(
        (one, index) =>
          html`<span key=${one.name} class="key">
            <svg width="26" height="8" aria-hidden="true">
              <line x1="0" y1="4" x2="26" y2="4" stroke="var(${one.color})" stroke-width="2" stroke-dasharray=${DASHES[index % DASHES.length]?.join(" ")} />
            </svg>
            ${one.name} <b>${formatted(last(one.values), format)}</b>
          </span>`,
      )}
    </figcaption>
    <div class="plot" ref=${place}></div>
    <p class="visually-hidden">Latest values: ${summary}. From ${dateTime(at[0])} to ${dateTime(at.at(-1))}.</p>
  </figure>`;
}

/** @param {number | null} value @param {(value: number) => string} format */
const formatted = (value, format) => (value === null ? "–" : format(value));

/** Put the links of a chart where their points are. An element that stays keeps its focus. @param {uPlot} chart @param {Point[]} points */
function placeLinks(chart, points) {
  const known = new Map([...chart.over.querySelectorAll("a")].map((link) => [link.dataset["key"], link]));
  for (const point of points) {
    // A request of the step that is not over lies beyond the last value.
    const x = Math.min(chart.valToPos(point.at / 1000, "x"), chart.over.clientWidth);
    const y = chart.valToPos(point.value, "y");
    if (!(x >= 0)) {
      continue;
    }
    const link = known.get(point.key) ?? document.createElement("a");
    known.delete(point.key);
    link.className = "exemplar";
    link.dataset["key"] = point.key;
    link.href = point.href;
    link.title = point.label;
    link.setAttribute("aria-label", point.label);
    link.style.left = `${x}px`;
    link.style.top = `${Math.max(0, y)}px`;
    if (!link.isConnected) {
      chart.over.append(link);
    }
  }
  for (const link of known.values()) {
    link.remove();
  }
}

/** A line of a replica's last two minutes. @param {{label: string, values: number[]}} props */
export function Sparkline({ label, values }) {
  const isDark = useScheme();
  /** @param {HTMLElement} target @returns {Omit<uPlot.Options, "width">} */
  const optionsFor = (target) => ({
    height: 36,
    legend: { show: false },
    cursor: { show: false },
    padding: [2, 0, 2, 0],
    scales: { x: { time: false }, y: { range: (_plot, _low, high) => [0, high > 0 ? high : 1] } },
    axes: [{ show: false }, { show: false }],
    series: [{}, { stroke: color(target, "--accent"), fill: color(target, "--wash"), width: 1.5, points: { show: false } }],
  });
  const place = usePlot(optionsFor, [values.map((_, index) => index), values], [isDark]);
  return html`<div class="sparkline" role="img" aria-label=${label} ref=${place}></div>`;
}
