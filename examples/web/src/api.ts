/** The platform's HTTP API as this application uses it: types, a session, and one function per operation. */

/** The gateway. Empty where it also serves this application. */
const BASE: string = import.meta.env.VITE_API_URL ?? "";
const API = `${BASE}/api/v1`;
const REFRESH_TOKEN = "refresh_token";

export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  request_id?: string;
  errors?: { field: string; message: string }[];
}

export interface Account {
  id: string;
  username: string;
  email: string;
  display_name: string;
  role: string;
  created_at: string;
}

export interface NoteContent {
  title: string;
  body: string;
  attachments: string[];
}

export interface Note extends NoteContent {
  id: string;
  tags: string[];
  slug: string | null;
  created_at: string;
  updated_at: string;
  /** What an edit of this version names in If-Match. */
  etag: string;
}

export interface PublicNote {
  title: string;
  body: string;
  published_at: string;
  author: { id: string; username: string; display_name: string } | null;
  attachments: { id: string; filename: string; media_type: string; size: number; url: string }[] | null;
}

export interface Asset {
  id: string;
  filename: string;
  media_type: string;
  size: number;
  sha256: string;
  created_at: string;
}

export interface Point {
  start: string;
  count: number;
}

export interface Stats {
  total: number;
  by_type: Record<string, number>;
}

interface Page<T> {
  items: T[];
  next_cursor: string | null;
}

interface Tokens {
  access_token: string;
  refresh_token: string;
}

interface Options {
  json?: unknown;
  query?: Record<string, string>;
  headers?: Record<string, string>;
}

/** A response with an error status, or none at all (`status` 0). */
export class ApiError extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.detail || problem.title);
    this.problem = problem;
  }

  get status(): number {
    return this.problem.status;
  }

  /** Whether the problem has this code (docs/errors.md). */
  is(code: string): boolean {
    return this.problem.type === `urn:baseplate:problem:${code}`;
  }
}

const UNREACHABLE: Problem = {
  type: "about:blank",
  title: "Unreachable",
  status: 0,
  detail: "The server cannot be reached. Check the connection and try again.",
};

async function problemOf(response: Response): Promise<Problem> {
  try {
    return (await response.json()) as Problem;
  } catch {
    const title = response.statusText || "Error";
    return { type: "about:blank", title, status: response.status, detail: `${title} (${response.status})` };
  }
}

async function send(method: string, path: string, options: Options, token: string | null): Promise<Response> {
  const headers: Record<string, string> = { ...options.headers };
  const init: RequestInit = { method, headers };
  if (token !== null) {
    headers["Authorization"] = `Bearer ${token}`;
  }
  if (options.json !== undefined) {
    headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(options.json);
  }
  const query = options.query ? `?${new URLSearchParams(options.query)}` : "";
  let response: Response;
  try {
    response = await fetch(`${API}${path}${query}`, init);
  } catch {
    throw new ApiError(UNREACHABLE);
  }
  if (!response.ok) {
    throw new ApiError(await problemOf(response));
  }
  return response;
}

/** The signed-in user's tokens. The access token stays in memory; the refresh token survives a reload of the tab. */
class Session {
  #access: string | null = null;
  #refreshing: Promise<string> | null = null;

  get isOpen(): boolean {
    return sessionStorage.getItem(REFRESH_TOKEN) !== null;
  }

  open(tokens: Tokens): void {
    this.#access = tokens.access_token;
    sessionStorage.setItem(REFRESH_TOKEN, tokens.refresh_token);
  }

  /** Forget the tokens and return the refresh token, if any. */
  close(): string | null {
    const refresh = sessionStorage.getItem(REFRESH_TOKEN);
    this.#access = null;
    sessionStorage.removeItem(REFRESH_TOKEN);
    return refresh;
  }

  async token(): Promise<string> {
    return this.#access ?? this.refresh();
  }

  /** Get new tokens. Concurrent callers share one request, because a refresh token is used once. */
  refresh(): Promise<string> {
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }

  async #refresh(): Promise<string> {
    const refresh_token = sessionStorage.getItem(REFRESH_TOKEN);
    try {
      const response = await send("POST", "/users/refresh", { json: { refresh_token } }, null);
      const tokens = (await response.json()) as Tokens;
      this.open(tokens);
      return tokens.access_token;
    } catch (error) {
      if (error instanceof ApiError && [400, 401, 422].includes(error.status)) {
        this.close();
        window.dispatchEvent(new Event("session-ended"));
      }
      throw error;
    }
  }
}

export const session = new Session();

/** Send a request of the signed-in user; a token that has expired is exchanged once. */
async function call(method: string, path: string, options: Options = {}): Promise<Response> {
  const token = await session.token();
  try {
    return await send(method, path, options, token);
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 401) {
      throw error;
    }
    return send(method, path, options, await session.refresh());
  }
}

async function read<T>(path: string, query?: Record<string, string>): Promise<T> {
  return (await (await call("GET", path, query ? { query } : {})).json()) as T;
}

/** Return the whole list, page by page. */
async function readAll<T>(path: string): Promise<T[]> {
  const items: T[] = [];
  let cursor: string | null = null;
  do {
    const page: Page<T> = await read(path, cursor === null ? { limit: "100" } : { limit: "100", cursor });
    items.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor !== null);
  return items;
}

/** The response to an edit has the new version in its header; compression has made the tag weak. */
async function withVersion(response: Response): Promise<Note> {
  const note = (await response.json()) as Omit<Note, "etag">;
  return { ...note, etag: (response.headers.get("ETag") ?? "").replace(/^W\//, "") };
}

export async function register(username: string, email: string, password: string): Promise<void> {
  await send("POST", "/users/register", { json: { username, email, password } }, null);
}

export async function logIn(username_or_email: string, password: string): Promise<void> {
  const response = await send("POST", "/users/login", { json: { username_or_email, password } }, null);
  session.open((await response.json()) as Tokens);
}

export async function logOut(): Promise<void> {
  const refresh_token = session.close();
  if (refresh_token !== null) {
    await send("POST", "/users/logout", { json: { refresh_token } }, null);
  }
}

export const readProfile = (): Promise<Account> => read("/users/profile");

export const listNotes = (): Promise<Note[]> => readAll("/notes");

export async function createNote(content: NoteContent, key: string): Promise<Note> {
  return withVersion(await call("POST", "/notes", { json: content, headers: { "Idempotency-Key": key } }));
}

export const readNote = async (id: string): Promise<Note> => withVersion(await call("GET", `/notes/${id}`));

/** Change a note that still has this version; otherwise the problem is `stale-version`. */
export async function changeNote(id: string, etag: string, content: NoteContent): Promise<Note> {
  return withVersion(await call("PATCH", `/notes/${id}`, { json: content, headers: { "If-Match": etag } }));
}

export async function deleteNote(id: string, etag: string): Promise<void> {
  await call("DELETE", `/notes/${id}`, { headers: { "If-Match": etag } });
}

export async function publishNote(id: string): Promise<string> {
  return ((await (await call("POST", `/notes/${id}/publish`)).json()) as { slug: string }).slug;
}

export async function withdrawNote(id: string): Promise<void> {
  await call("DELETE", `/notes/${id}/publish`);
}

export async function readPublicNote(slug: string): Promise<PublicNote> {
  return (await (await send("GET", `/notes/public/${encodeURIComponent(slug)}`, {}, null)).json()) as PublicNote;
}

export const listAssets = (): Promise<Asset[]> => readAll("/assets");

/** Return the URL of each file: the same one for some minutes, so that the browser reuses its copy. */
export async function linksTo(ids: string[]): Promise<Map<string, string>> {
  const links = new Map<string, string>();
  for (let first = 0; first < ids.length; first += 100) {
    const response = await call("POST", "/assets/links", { json: { ids: ids.slice(first, first + 100) } });
    for (const link of ((await response.json()) as { items: { id: string; url: string }[] }).items) {
      links.set(link.id, absolute(link.url));
    }
  }
  return links;
}

export async function deleteAsset(id: string): Promise<void> {
  await call("DELETE", `/assets/${id}`);
}

/** Upload a file. `fetch` reports no progress of an upload, so this is an XMLHttpRequest. */
export async function upload(file: File, onProgress: (share: number) => void): Promise<Asset> {
  const token = await session.token();
  const key = crypto.randomUUID();
  try {
    return await uploadOnce(file, token, key, onProgress);
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 401) {
      throw error;
    }
    return uploadOnce(file, await session.refresh(), key, onProgress);
  }
}

function uploadOnce(file: File, token: string, key: string, onProgress: (share: number) => void): Promise<Asset> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `${API}/assets`);
    request.setRequestHeader("Authorization", `Bearer ${token}`);
    request.setRequestHeader("Idempotency-Key", key);
    // The bytes decide the type.
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.setRequestHeader("X-Filename", encodeURIComponent(file.name));
    request.upload.onprogress = (event) => onProgress(event.total ? event.loaded / event.total : 0);
    request.onerror = () => reject(new ApiError(UNREACHABLE));
    request.onload = () => {
      if (request.status === 201) {
        resolve(JSON.parse(request.responseText) as Asset);
        return;
      }
      problemOf(new Response(request.responseText, { status: request.status })).then(
        (problem) => reject(new ApiError(problem)),
        reject,
      );
    };
    request.send(file);
  });
}

export async function recordEvent(type: string): Promise<void> {
  await call("POST", "/analytics/events", { json: { type }, headers: { "Idempotency-Key": crypto.randomUUID() } });
}

export const readStats = (): Promise<Stats> => read("/analytics/stats", { scope: "own" });

export async function readSeries(interval: string): Promise<Point[]> {
  return (await read<{ items: Point[] }>("/analytics/stats/series", { scope: "own", interval })).items;
}

/** URLs of responses are relative to the gateway. */
export function absolute(url: string): string {
  return `${BASE}${url}`;
}
