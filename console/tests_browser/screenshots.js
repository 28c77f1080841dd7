/** Write docs/console/*.png anew, from a running platform with demo data. */

import { execFile } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { startBrowser } from "./browser.js";
import { logIn, startPlatform } from "./platform.js";

const OUT = fileURLToPath(new URL("../../docs/console/", import.meta.url));
const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const run = promisify(execFile);

const [browser, platform] = await Promise.all([startBrowser(), startPlatform()]);
/** Requests as a user of a frontend sends them, until the pictures are taken. */
async function traffic() {
  const { access_token: token } = await platform.logIn("ada");
  for (let round = 0; !finished; round += 1) {
    const note = await platform.send("POST", "/api/v1/notes", { token, json: { title: `Note ${round}`, body: "bread and apples" } });
    const { id } = await note.json();
    await platform.send("GET", `/api/v1/notes/${id}`, { token });
    await platform.send("GET", "/api/v1/notes", { token });
    await platform.send("GET", "/api/v1/users/profile", { token });
    await platform.send("GET", "/api/v1/assets", { token });
    await platform.send("POST", "/api/v1/analytics/events", { token, json: { type: "button.click" } });
    if (round % 9 === 0) {
      await platform.send("GET", "/api/v1/notes/unheard-of", { token });
    }
  }
}
let finished = false;
try {
  await mkdir(OUT, { recursive: true });
  await platform.register("ada");
  await platform.makeAdmin("ada");
  const busy = traffic();
  const context = await browser.newContext({ baseURL: platform.gateway, viewport: { width: 1200, height: 760 } });
  const page = await context.newPage();
  await page.goto("/console");
  await logIn(page, "ada");
  const shoot = (name) => page.screenshot({ path: `${OUT}${name}.png`, animations: "disabled" });
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  // Long enough for a line in each chart.
  await page.waitForTimeout(45_000);
  await shoot("overview");
  for (const [name, colorScheme] of [["Map", "dark"], ["Requests", "light"], ["Routes", "dark"]]) {
    await page.emulateMedia({ colorScheme });
    await page.getByRole("navigation").getByRole("link", { name, exact: true }).click();
    await page.waitForTimeout(2_000);
    await shoot(name.toLowerCase());
  }
  await page.emulateMedia({ colorScheme: "light" });
  // The slowest traced request that wrote a note.
  await page.getByRole("row").filter({ hasText: "POST /api/v1/notes" }).getByRole("link").click();
  await page.getByRole("heading", { name: "Waterfall" }).waitFor();
  await shoot("request");
  finished = true;
  await busy;
} finally {
  finished = true;
  await browser.close();
  await platform.stop();
}
// Few colours, few bytes.
await run(`${ROOT}.venv/bin/python`, [fileURLToPath(new URL("optimise.py", import.meta.url)), OUT]);
