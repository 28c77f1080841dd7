import { ApiError, EditConflict } from './errors.js';
import { createClient, type Client } from './generated/client/index.js';
import { repeatablePaths } from './generated/contract.gen.js';
import { Operations, type UserLoginBody, type UserTokenPair } from './generated/index.js';
import { memoryStore, Session, type TokenStore } from './session.js';

export interface ApiClientOptions {
  /** The gateway, such as `http://127.0.0.1:8080`. Empty in a page that the gateway itself serves. */
  baseUrl?: string;
  /** Where tokens are kept; in memory by default. */
  tokens?: TokenStore;
  fetch?: typeof globalThis.fetch;
  /** How often a request that may be repeated is sent at most. */
  tries?: number;
}

const REPEATED_STATUSES = new Set([429, 502, 503, 504]);
const MAX_WAIT_SECONDS = 60;

/**
 * All operations of the platform, with a session that refreshes itself.
 *
 * A failed operation throws ApiError. GET requests, and creations, which get an Idempotency-Key, are repeated after
 * failures of the network and of a service.
 */
export class ApiClient extends Operations {
  readonly baseUrl: string;
  readonly session: Session;
  readonly #fetch: typeof globalThis.fetch;
  readonly #tries: number;

  constructor(options: ApiClientOptions = {}) {
    const client = createClient({ baseUrl: options.baseUrl ?? '', throwOnError: true });
    super({ client });
    this.baseUrl = options.baseUrl ?? '';
    this.#fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
    this.#tries = options.tries ?? 4;
    this.session = new Session(options.tokens ?? memoryStore(), (token) => this.#exchange(token));
    client.setConfig({ auth: () => this.session.accessToken(), fetch: (input) => this.#send(input as Request) });
    client.interceptors.error.use((error, response) =>
      response instanceof Response && !(error instanceof ApiError) ? new ApiError(error, response) : error,
    );
  }

  /** The generated client below: for requests that no operation describes. */
  get http(): Client {
    return this.client;
  }

  async logIn(credentials: UserLoginBody): Promise<void> {
    const { data } = await this.usersLogIn({ body: credentials });
    await this.session.start(data);
  }

  /** End the session here and on the server. */
  async logOut(): Promise<void> {
    const tokens = await this.session.end();
    if (tokens) await this.usersLogOut({ body: { refresh_token: tokens.refresh_token } });
  }

  async #exchange(refreshToken: string): Promise<UserTokenPair> {
    try {
      const { data } = await this.usersRefreshSession({ body: { refresh_token: refreshToken } });
      return data;
    } catch (error) {
      // The session has ended: the next request goes without a token, and says so.
      if (error instanceof ApiError && error.status === 401) await this.session.end();
      throw error;
    }
  }

  async #send(request: Request): Promise<Response> {
    const repeatable = isRepeatable(request);
    const headers = new Headers(request.headers);
    if (repeatable && request.method === 'POST' && !headers.has('Idempotency-Key')) {
      headers.set('Idempotency-Key', crypto.randomUUID());
    }
    const body = request.body === null ? undefined : await request.blob();
    let refreshed = false;
    for (let attempt = 1; ; attempt++) {
      const copy: RequestInit = { method: request.method, headers, signal: request.signal };
      if (body) copy.body = body;
      let response: Response | undefined;
      try {
        response = await this.#fetch(request.url, copy);
      } catch (error) {
        if (request.signal.aborted || !repeatable || attempt >= this.#tries) throw error;
      }
      const used = headers.get('Authorization')?.replace(/^Bearer /, '');
      if (response?.status === 401 && used && !refreshed && (await codeOf(response)) === 'token-expired') {
        const tokens = await this.session.refresh(used);
        if (!tokens) return response;
        headers.set('Authorization', `Bearer ${tokens.access_token}`);
        refreshed = true;
        continue;
      }
      if (response && !(await mayRepeat(response, repeatable))) return response;
      if (response && attempt >= this.#tries) return response;
      await pause(response, attempt, request.signal);
    }
  }
}

/** Read something, change it, and write it unless it has changed in the meantime. Throws EditConflict. */
export async function edit<T, C, R>(steps: {
  read: () => Promise<{ data: T; response: Response }>;
  change: (current: T) => C;
  write: (change: C, ifMatch: string) => Promise<R>;
}): Promise<R> {
  const before = await steps.read();
  const mine = steps.change(before.data);
  try {
    return await steps.write(mine, etagOf(before.response));
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== 'stale-version') throw error;
    const now = await steps.read();
    throw new EditConflict(before.data, mine, now.data, etagOf(now.response));
  }
}

/** Return the version of what a response holds, for If-Match. */
export function etagOf(response: Response): string {
  const etag = response.headers.get('ETag');
  if (etag === null) throw new Error('The response has no ETag.');
  return etag;
}

/** Iterate over the items of all pages of a list: `items((cursor) => api.notesListNotes({ query: { cursor } }))`. */
export async function* items<T>(
  page: (cursor: string | undefined) => Promise<{ data: { items: T[]; next_cursor?: string | null } }>,
): AsyncGenerator<T, void, undefined> {
  let cursor: string | undefined;
  do {
    const { data } = await page(cursor);
    yield* data.items;
    cursor = data.next_cursor ?? undefined;
  } while (cursor !== undefined);
}

function isRepeatable(request: Request): boolean {
  if (request.method === 'GET' || request.method === 'HEAD') return true;
  const { pathname } = new URL(request.url);
  return request.method === 'POST' && repeatablePaths.some((path) => pathname.endsWith(path));
}

async function mayRepeat(response: Response, repeatable: boolean): Promise<boolean> {
  // A rate limit refuses a request before it has any effect.
  if (response.status === 429) return (await codeOf(response)) === 'rate-limited';
  if (response.status === 409) return repeatable && (await codeOf(response)) === 'key-in-flight';
  return repeatable && REPEATED_STATUSES.has(response.status);
}

async function codeOf(response: Response): Promise<string> {
  try {
    return new ApiError(await response.clone().json(), response).code;
  } catch {
    return '';
  }
}

/** Wait as long as the response asks for, or ever longer. Some randomness keeps clients from coming back together. */
export async function pause(response: Response | undefined, attempt: number, signal?: AbortSignal | null): Promise<void> {
  const asked = Number(response?.headers.get('Retry-After'));
  const seconds = asked > 0 ? asked : 0.2 * 2 ** attempt * (0.5 + Math.random() / 2);
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(resolve, Math.min(seconds, MAX_WAIT_SECONDS) * 1000);
    signal?.addEventListener('abort', () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}
