/** The real platform, started by `make run` with the built application, and the same build served from another origin. */

import { spawn } from "node:child_process";
import { chmod, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { build, preview } from "vite";

const FOLDER = fileURLToPath(new URL("..", import.meta.url));
const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const READY = /^ready (http:\S+)/m;
const START_MILLISECONDS = 120_000;

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Build the application for an API at this URL. */
async function buildFor(api, outDir) {
  process.env.VITE_API_URL = api;
  await build({ root: FOLDER, logLevel: "warn", build: { outDir, emptyOutDir: true } });
}

/** Return the mails that the platform has delivered, as text, the oldest first. */
async function mailsIn(folder) {
  const names = (await readdir(folder)).filter((name) => name.endsWith(".eml")).sort();
  return Promise.all(names.map((name) => readFile(join(folder, name), "utf8")));
}

/** Start everything. Returns the two origins of the application, the URL of the API, and functions that read mails and stop all. */
export async function startPlatform() {
  const scratch = await mkdtemp(join(tmpdir(), "example-web-"));
  // The database server may run as a user of its own.
  await chmod(scratch, 0o755);
  const [gatewayPort, otherPort] = [await freePort(), await freePort()];
  const gateway = `http://127.0.0.1:${gatewayPort}`;
  await buildFor("", join(scratch, "own"));
  await buildFor(gateway, join(scratch, "other"));

  const settings = {
    GATEWAY_PORT: gatewayPort,
    DATA_DIR: join(scratch, "data"),
    STATIC_DIR: join(scratch, "own"),
    CORS_ALLOWED_ORIGINS: `http://127.0.0.1:${otherPort}`,
    GATEWAY_RATE_AUTH: 0,
    CONSOLE: "off",
  };
  const variables = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
  // A group of its own, which gets the signal that Ctrl-C in a terminal would send.
  const { MAKEFLAGS: _flags, MAKELEVEL: _level, ...environment } = process.env;
  const platform = spawn("make", ["run", ...variables], { cwd: ROOT, env: environment, detached: true });
  // Tests that are interrupted leave nothing behind.
  const interrupt = () => {
    if (platform.exitCode === null && platform.signalCode === null) {
      process.kill(-platform.pid, "SIGINT");
    }
  };
  process.once("exit", interrupt);
  for (const signal of ["SIGINT", "SIGTERM"]) {
    process.once(signal, () => process.exit(1));
  }
  const ended = new Promise((resolve) => platform.once("exit", resolve));
  let output = "";
  const keep = (piece) => (output += piece);
  platform.stdout.on("data", keep);
  platform.stderr.on("data", keep);
  const other = await preview({
    root: FOLDER,
    build: { outDir: join(scratch, "other") },
    preview: { host: "127.0.0.1", port: otherPort, strictPort: true },
  });

  const stop = async () => {
    await other.close();
    interrupt();
    await ended;
    await rm(scratch, { recursive: true, force: true });
  };
  const isReady = new Promise((resolve, reject) => {
    platform.stdout.on("data", () => READY.test(output) && resolve());
    void ended.then(() => reject(new Error(`make run ended:\n${output}`)));
    setTimeout(() => reject(new Error(`make run is not ready:\n${output}`)), START_MILLISECONDS).unref();
  });
  try {
    await isReady;
  } catch (error) {
    await stop();
    throw error;
  }
  const readMails = () => mailsIn(join(scratch, "data", "mail"));
  return { gateway, readMails, origins: { gateway, "another origin": `http://127.0.0.1:${otherPort}` }, stop };
}
