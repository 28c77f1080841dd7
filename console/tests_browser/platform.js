/** The real platform, started by `make run` with the console, and what tests do to it. */

import { execFile, spawn } from "node:child_process";
import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const HERE = fileURLToPath(new URL(".", import.meta.url));
const READY = /^ready (http:\S+)/m;
const START_MILLISECONDS = 180_000;
const PASSWORD = "a harbour of quiet otters";

const run = promisify(execFile);

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Wait until a function returns something true, and return it. */
export async function until(claim, read, milliseconds = 30_000) {
  for (const deadline = Date.now() + milliseconds; ; ) {
    const value = await read();
    if (value) {
      return value;
    }
    if (Date.now() > deadline) {
      throw new Error(`not within ${milliseconds} ms: ${claim}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Log in on the page of the console. */
export async function logIn(page, username) {
  await page.getByLabel("Username or e-mail").fill(username);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Log in" }).click();
}

class Platform {
  constructor(gateway, data, process, ended) {
    Object.assign(this, { gateway, data, process, ended });
  }

  /** Send a request to the gateway. */
  send(method, path, { json, token, headers = {} } = {}) {
    return fetch(this.gateway + path, {
      method,
      headers: {
        ...(json !== undefined && { "Content-Type": "application/json" }),
        ...(token && { Authorization: `Bearer ${token}` }),
        ...headers,
      },
      ...(json !== undefined && { body: JSON.stringify(json) }),
    });
  }

  /** Register an account, and return its tokens. */
  async register(username) {
    const account = { username, email: `${username}@example.com`, password: PASSWORD };
    const response = await this.send("POST", "/api/v1/users/register", { json: account });
    if (response.status !== 201) {
      throw new Error(`${username} was not registered: ${await response.text()}`);
    }
    return this.logIn(username);
  }

  async logIn(username) {
    const json = { username_or_email: username, password: PASSWORD };
    return (await this.send("POST", "/api/v1/users/login", { json })).json();
  }

  makeAdmin(username) {
    return run("make", ["--silent", "admin", `USERNAME=${username}`, `DATA_DIR=${this.data}`], { cwd: ROOT, env: environment() });
  }

  /** Run a statement in the database of a service. */
  async execute(service, statement) {
    const python = join(ROOT, ".venv/bin/python");
    const options = ["-m", "local_platform", "exec", "--data-dir", this.data, service, "run_statement", statement];
    await run(python, options, { cwd: HERE, env: environment() });
  }

  async pid(name) {
    const { processes } = JSON.parse(await readFile(join(this.data, "run.json"), "utf8"));
    return processes.find((entry) => entry.name === name || entry.service === name).pid;
  }

  /** Send a signal to a process and its workers. */
  async signal(name, signal) {
    process.kill(-(await this.pid(name)), signal);
  }

  interrupt() {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      process.kill(-this.process.pid, "SIGINT");
    }
  }

  async stop() {
    this.interrupt();
    await this.ended;
    await rm(join(this.data, ".."), { recursive: true, force: true });
  }
}

function environment() {
  const { MAKEFLAGS: _flags, MAKELEVEL: _level, ...rest } = process.env;
  return rest;
}

export async function startPlatform() {
  const scratch = await mkdtemp(join(tmpdir(), "console-"));
  // The database server may run as a user of its own.
  await chmod(scratch, 0o755);
  const port = await freePort();
  const settings = { GATEWAY_PORT: port, DATA_DIR: join(scratch, "data"), CONSOLE: "on", GATEWAY_RATE_AUTH: 0, GATEWAY_RATE_GENERAL: 0, USER_RATE: 0 };
  const variables = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
  // A group of its own, which gets the signal that Ctrl-C in a terminal would send.
  const child = spawn("make", ["run", ...variables], { cwd: ROOT, env: environment(), detached: true });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const platform = new Platform(`http://127.0.0.1:${port}`, settings.DATA_DIR, child, ended);
  // Tests that are interrupted leave nothing behind.
  process.once("exit", () => platform.interrupt());
  for (const signal of ["SIGINT", "SIGTERM"]) {
    process.once(signal, () => process.exit(1));
  }
  let output = "";
  const keep = (piece) => (output += piece);
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  try {
    await until("make run is ready", () => {
      if (child.exitCode !== null) {
        throw new Error("make run ended");
      }
      return READY.test(output);
    }, START_MILLISECONDS);
  } catch (error) {
    await platform.stop();
    throw new Error(`${error.message}\n${output}`);
  }
  return platform;
}
