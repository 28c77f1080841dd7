/** The user's events: record one, totals, and a chart with a table for those who cannot see it. */

import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

import { type Interval, type Point, readSeries, readStats, recordEvent, type Stats } from "./api";
import { Field, Form, ProblemText, textOf, useAction } from "./form";

const INTERVALS = [
  { value: "minute", name: "Last hour" },
  { value: "hour", name: "Last day" },
  { value: "day", name: "Last 30 days" },
];

export function Events() {
  const [interval, setInterval] = useState<Interval>("minute");
  const [points, setPoints] = useState<Point[] | null>(null);
  const [stats, setStats] = useState<Stats | null>(null);
  const loading = useAction();
  const recording = useAction();

  const load = async () => {
    const [series, totals] = await Promise.all([readSeries(interval), readStats()]);
    setPoints(series);
    setStats(totals);
  };
  useEffect(() => void loading.run(load), [interval]);

  const record = (values: FormData) =>
    recording.run(async () => {
      await recordEvent(textOf(values, "type"));
      await load();
    });
  return (
    <>
      <h1>Events</h1>
      <section aria-labelledby="record">
        <h2 id="record">Record an event</h2>
        <Form onSubmit={record}>
          <Field
            label="Type"
            name="type"
            defaultValue="button.click"
            pattern="[A-Za-z0-9][A-Za-z0-9._:\-]{0,63}"
            hint="Letters, digits and . _ : -"
            required
          />
          <ProblemText problem={recording.problem} />
          <button disabled={recording.isRunning}>Record</button>
        </Form>
      </section>
      <ProblemText problem={loading.problem} />
      {stats && (
        <section aria-labelledby="totals">
          <h2 id="totals">Totals</h2>
          <p role="status">{stats.total === 1 ? "1 event" : `${stats.total} events`}</p>
          <ul>
            {Object.entries(stats.by_type).map(([type, count]) => (
              <li key={type}>
                {type}: {count}
              </li>
            ))}
          </ul>
        </section>
      )}
      <section aria-labelledby="course">
        <h2 id="course">Over time</h2>
        <p class="field">
          <label for="interval">Time</label>
          <select id="interval" value={interval} onChange={(event) => setInterval(event.currentTarget.value as Interval)}>
            {INTERVALS.map((entry) => (
              <option key={entry.value} value={entry.value}>
                {entry.name}
              </option>
            ))}
          </select>
        </p>
        {points && <Chart points={points} />}
        {points && (
          <details>
            <summary>The same as a table</summary>
            <table>
              <thead>
                <tr>
                  <th scope="col">From</th>
                  <th scope="col">Events</th>
                </tr>
              </thead>
              <tbody>
                {points
                  .filter((point) => point.count > 0)
                  .map((point) => (
                    <tr key={point.start}>
                      <td>{new Date(point.start).toLocaleString()}</td>
                      <td>{point.count}</td>
                    </tr>
                  ))}
              </tbody>
            </table>
          </details>
        )}
      </section>
    </>
  );
}

function Chart({ points }: { points: Point[] }) {
  const place = useRef<HTMLDivElement>(null);
  const dark = useDark();
  useEffect(() => {
    const target = place.current;
    if (target === null) {
      return;
    }
    const style = getComputedStyle(target);
    const [ink, line, accent] = ["--ink", "--line", "--accent"].map((name) => style.getPropertyValue(name).trim());
    const axis = { stroke: ink ?? "", grid: { stroke: line ?? "" }, ticks: { stroke: line ?? "" } };
    const bars = uPlot.paths.bars?.({ size: [0.8, 40] });
    const chart = new uPlot(
      {
        width: target.clientWidth,
        height: 220,
        legend: { show: false },
        scales: { y: { range: (_plot, _low, high) => [0, Math.max(1, high)] } },
        axes: [axis, { ...axis, size: 40, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10000] }],
        series: [{}, { stroke: accent ?? "", fill: accent ?? "", points: { show: false }, ...(bars ? { paths: bars } : {}) }],
      },
      [points.map((point) => Date.parse(point.start) / 1000), points.map((point) => point.count)],
      target,
    );
    const observer = new ResizeObserver(() => chart.setSize({ width: target.clientWidth, height: 220 }));
    observer.observe(target);
    return () => {
      observer.disconnect();
      chart.destroy();
    };
  }, [points, dark]);
  const total = points.reduce((sum, point) => sum + point.count, 0);
  return <div ref={place} class="chart" role="img" aria-label={`Chart of ${total} events over time`} />;
}

function useDark(): boolean {
  const query = matchMedia("(prefers-color-scheme: dark)");
  const [dark, setDark] = useState(query.matches);
  useEffect(() => {
    const update = () => setDark(query.matches);
    query.addEventListener("change", update);
    return () => query.removeEventListener("change", update);
  }, []);
  return dark;
}
