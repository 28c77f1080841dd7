/**
 * Keep the page open while the platform gets a load, and print frames a second, the console's memory and what failed:
 *
 *     node console/tests_browser/under_load.js [--minutes 10] [--rate 200]
 *
 * Load, browser and platform share this machine. A frame takes 16.7 ms if nothing delays it.
 */

import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";

import { startBrowser } from "./browser.js";
import { logIn, startPlatform } from "./platform.js";

const PAGES = ["Overview", "Map", "Requests", "Logs", "Routes"];
const TICK_MS = 20;

const { values } = parseArgs({ options: { minutes: { type: "string", default: "10" }, rate: { type: "string", default: "200" } } });
const [minutes, rate] = [Number(values.minutes), Number(values.rate)];
if (!(minutes > 0) || !(rate > 0)) {
  throw new Error("--minutes and --rate are positive numbers");
}

const percentile = (numbers, share) => [...numbers].sort((a, b) => a - b)[Math.floor(share * (numbers.length - 1))];

/** Send requests at the rate until `load.ended`; most read a note, some list, write and count. */
async function send(platform, load) {
  const { access_token: token } = await platform.logIn("ada");
  const made = await platform.send("POST", "/api/v1/notes", { token, json: { title: "read", body: "bread and apples" } });
  const { id } = await made.json();
  const kinds = [
    ...Array(6).fill(() => platform.send("GET", `/api/v1/notes/${id}`, { token })),
    () => platform.send("GET", "/api/v1/notes", { token }),
    () => platform.send("GET", "/api/v1/users/profile", { token }),
    () => platform.send("POST", "/api/v1/notes", { token, json: { title: "new", body: "milk" } }),
    () => platform.send("POST", "/api/v1/analytics/events", { token, json: { type: "button.click" } }),
  ];
  const count = (outcome) => (load.outcomes[outcome] = (load.outcomes[outcome] ?? 0) + 1);
  const one = async (kind) => {
    const began = performance.now();
    try {
      const response = await kind();
      await response.arrayBuffer();
      count(response.ok ? "ok" : response.status);
    } catch (error) {
      count(error.name);
    }
    load.times.push(performance.now() - began);
  };
  for (const began = performance.now(); !load.ended; await new Promise((resolve) => setTimeout(resolve, TICK_MS))) {
    while (load.sent < (rate * (performance.now() - began)) / 1000) {
      void one(kinds[load.sent % kinds.length]);
      load.sent += 1;
    }
  }
}

/** Return the frames of a page in each of the next seconds. */
const frames = (page, seconds) =>
  page.evaluate(async (count) => {
    const counts = [];
    for (let second = 0; second < count; second += 1) {
      counts.push(
        await new Promise((resolve) => {
          const began = performance.now();
          let seen = 0;
          const step = (now) => (now - began < 1000 ? ((seen += 1), requestAnimationFrame(step)) : resolve((seen * 1000) / (now - began)));
          requestAnimationFrame(step);
        }),
      );
    }
    return counts;
  }, seconds);

/** Return the memory of a process and its workers in MiB; pages that they share count once. */
async function memoryOf(pid) {
  const workers = (await readFile(`/proc/${pid}/task/${pid}/children`, "utf8")).split(" ").filter(Boolean);
  const sizes = [pid, ...workers].map(async (id) => Number(/^Pss:\s+(\d+)/m.exec(await readFile(`/proc/${id}/smaps_rollup`, "utf8"))[1]));
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size) / 1024;
}

const [browser, platform] = await Promise.all([startBrowser(), startPlatform()]);
const load = { sent: 0, outcomes: {}, times: [], ended: false };
try {
  await platform.register("ada");
  await platform.makeAdmin("ada");
  const page = await browser.newPage({ baseURL: platform.gateway, viewport: { width: 1280, height: 800 } });
  await page.goto("/console");
  await logIn(page, "ada");
  await page.getByRole("heading", { name: "Overview", level: 1 }).waitFor();
  const pid = await platform.pid("console");
  const before = await memoryOf(pid);
  const sending = send(platform, load);
  const rounds = Math.max(1, Math.round(minutes / 2));
  const seconds = Math.round((minutes * 60) / rounds / PAGES.length);
  const seen = Object.fromEntries(PAGES.map((name) => [name, []]));
  const memory = [];
  for (let round = 0; round < rounds; round += 1) {
    for (const name of PAGES) {
      await page.getByRole("navigation").getByRole("link", { name, exact: true }).click();
      await page.getByRole("heading", { name, level: 1 }).waitFor();
      seen[name].push(...(await frames(page, seconds)));
      memory.push(await memoryOf(pid));
    }
    console.error(`  minute ${((round + 1) * minutes) / rounds}: ${load.sent} requests, console ${memory.at(-1).toFixed(0)} MiB`);
  }
  load.ended = true;
  await sending;
  for (const [name, counts] of Object.entries(seen)) {
    console.log(`${name.padEnd(9)} ${percentile(counts, 0.5).toFixed(0)} frames/s, in the worst twentieth of seconds ${percentile(counts, 0.05).toFixed(0)}`);
  }
  console.log(`console   ${before.toFixed(0)} MiB before, ${Math.max(...memory).toFixed(0)} MiB at most`);
  console.log(`requests  ${JSON.stringify(load.outcomes)}, p95 ${percentile(load.times, 0.95).toFixed(0)} ms`);
} finally {
  load.ended = true;
  await browser.close();
  await platform.stop();
}
