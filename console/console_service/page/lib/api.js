/** Requests to the console's API and to the login of the user service, and whether both can be reached. */

/** @typedef {import("./shapes").Session} Session */
/** @typedef {{type?: string, title?: string, detail?: string, code?: string}} Problem */

const API = "/console/api";

/** A response that refuses a request, by its problem (RFC 9457). */
export class ApiError extends Error {
  /** @param {number} status @param {Problem} problem */
  constructor(status, problem) {
    super(problem.detail || problem.title || `The request failed with status ${status}.`);
    this.status = status;
    this.code = problem.code || (problem.type ?? "").split(/[:/]/).at(-1) || "";
  }
}

/** A request without a response: the console or the gateway before it cannot be reached. */
export class Unreachable extends Error {
  constructor() {
    super("The console cannot be reached.");
  }
}

/** The state of the session and of the connection. `changed` is sent when either changes. */
class Connection extends EventTarget {
  /** @type {Session | null} */
  session = null;
  reachable = true;
  /** Why the login form is shown. */
  notice = "";

  /** @param {Session | null} session @param {string} [notice] */
  setSession(session, notice = "") {
    this.session = session;
    this.notice = notice;
    this.dispatchEvent(new Event("changed"));
  }

  /** @param {boolean} reachable */
  setReachable(reachable) {
    if (this.reachable !== reachable) {
      this.reachable = reachable;
      this.dispatchEvent(new Event("changed"));
    }
  }

  sessionEnded() {
    if (this.session) {
      this.setSession(null, "Your session has ended. Log in again.");
    }
  }
}

export const connection = new Connection();

/**
 * @param {string} method @param {string} url
 * @param {{json?: unknown, headers?: Record<string, string>, signal?: AbortSignal}} [options]
 */
async function send(method, url, { json, headers = {}, signal } = {}) {
  const body = json === undefined ? undefined : JSON.stringify(json);
  /** @type {Record<string, string>} */
  const type = body === undefined ? {} : { "Content-Type": "application/json" };
  /** @type {Response} */
  let response;
  try {
    response = await fetch(url, { method, headers: { ...type, ...headers }, signal, ...(body !== undefined && { body }) });
  } catch (error) {
    if (signal?.aborted) {
      throw error;
    }
    connection.setReachable(false);
    throw new Unreachable();
  }
  if (url.startsWith(API) && (response.status === 502 || response.status === 504)) {
    connection.setReachable(false);
    throw new Unreachable();
  }
  connection.setReachable(true);
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new ApiError(response.status, problem);
  }
  return response.status === 204 ? null : response.json();
}

/**
 * Call the console's API.
 * @param {string} method @param {string} path below /console/api
 * @param {{json?: unknown, query?: Record<string, string | number | null | undefined>, signal?: AbortSignal}} [options]
 * @returns {Promise<any>}
 */
export async function call(method, path, { json, query = {}, signal } = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  /** @type {Record<string, string>} */
  const headers = method === "GET" ? {} : { "X-CSRF-Token": connection.session?.csrf_token ?? "" };
  try {
    return await send(method, `${API}${path}${search && `?${search}`}`, { json, headers, signal });
  } catch (error) {
    if (error instanceof ApiError && (error.status === 401 || error.code === "role-required")) {
      connection.sessionEnded();
    }
    throw error;
  }
}

/** @param {string} path @param {Record<string, any>} [query] @param {AbortSignal} [signal] */
export const get = (path, query, signal) => call("GET", path, { query, signal });

/** Resume the session of this browser if there is one. */
export async function resume() {
  try {
    connection.setSession(await send("GET", `${API}/session`));
  } catch (error) {
    if (!(error instanceof ApiError && (error.status === 401 || error.status === 403))) {
      // While nobody can tell whether the session has ended, the page waits.
      connection.setReachable(false);
      throw error;
    }
    // Another request may have told so already.
    connection.setSession(null, connection.session ? "Your session has ended. Log in again." : connection.notice);
  }
}

/** @param {string} username @param {string} password */
export async function logIn(username, password) {
  const users = "/api/v1/users";
  const tokens = await send("POST", `${users}/login`, { json: { username_or_email: username, password } });
  const { access_token, refresh_token } = tokens;
  try {
    connection.setSession(await send("POST", `${API}/session`, { json: { access_token, refresh_token } }));
  } catch (error) {
    // Nobody else has these tokens.
    await send("POST", `${users}/logout`, { json: { refresh_token } }).catch(() => {});
    throw error;
  }
}

export async function logOut() {
  await call("DELETE", "/session").catch((error) => {
    if (!(error instanceof ApiError && error.status === 401)) {
      throw error;
    }
  });
  connection.setSession(null, "You are logged out.");
}
