import type { UserTokenPair } from './generated/index.js';

export type Tokens = Pick<UserTokenPair, 'access_token' | 'refresh_token' | 'expires_in'> & { expires_at: number };

/** Where tokens are kept. Both functions may be asynchronous. */
export interface TokenStore {
  load(): Tokens | undefined | Promise<Tokens | undefined>;
  save(tokens: Tokens | undefined): void | Promise<void>;
}

/** Keeps the tokens until the page or the process ends. */
export const memoryStore = (): TokenStore => {
  let kept: Tokens | undefined;
  return { load: () => kept, save: (tokens) => void (kept = tokens) };
};

/** Keeps the tokens in a `Storage` of the browser, which all scripts of the page can read. */
export const storageStore = (storage: Storage, key = 'session'): TokenStore => ({
  load: () => JSON.parse(storage.getItem(key) ?? 'null') ?? undefined,
  save: (tokens) => (tokens ? storage.setItem(key, JSON.stringify(tokens)) : storage.removeItem(key)),
});

// A token that expires sooner is replaced before it is used.
const MARGIN_MS = 30_000;

/** The tokens of a login. However many callers need a new access token at once, one refresh gets it. */
export class Session {
  #refreshing: Promise<Tokens | undefined> | undefined;

  constructor(
    private readonly store: TokenStore,
    private readonly exchange: (refreshToken: string) => Promise<UserTokenPair>,
  ) {}

  /** Return an access token that is valid for a while, or undefined without a login. */
  async accessToken(): Promise<string | undefined> {
    const tokens = await this.store.load();
    if (!tokens || tokens.expires_at - Date.now() > MARGIN_MS) return tokens?.access_token;
    return (await this.refresh(tokens.access_token))?.access_token;
  }

  /** Return tokens that differ from the used one: those of another caller's refresh, or of one of its own. */
  refresh(used: string): Promise<Tokens | undefined> {
    this.#refreshing ??= exclusively(() => this.#refresh(used)).finally(() => (this.#refreshing = undefined));
    return this.#refreshing;
  }

  async start(pair: UserTokenPair): Promise<Tokens> {
    const { access_token, refresh_token, expires_in = 900 } = pair;
    const tokens = { access_token, refresh_token, expires_in, expires_at: Date.now() + expires_in * 1000 };
    await this.store.save(tokens);
    return tokens;
  }

  async end(): Promise<Tokens | undefined> {
    const tokens = await this.store.load();
    await this.store.save(undefined);
    return tokens;
  }

  async #refresh(used: string): Promise<Tokens | undefined> {
    const tokens = await this.store.load();
    if (!tokens || tokens.access_token !== used) return tokens;
    return this.start(await this.exchange(tokens.refresh_token));
  }
}

/** Run one at a time: in all tabs of a browser, which share the store. */
function exclusively<T>(task: () => Promise<T>): Promise<T> {
  const locks = globalThis.navigator?.locks;
  return locks && 'document' in globalThis ? (locks.request('session-refresh', task) as Promise<T>) : task();
}
