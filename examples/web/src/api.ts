/** The platform as this application uses it: the typed client (clients/typescript) and what the pages ask of it. */

import {
  ApiClient,
  type AssetsAssetOut,
  etagOf,
  items,
  type NotesNoteItem,
  type NotesNoteOut,
  storageStore,
  upload as uploadFile,
} from "baseplate-client";

export { ApiError } from "baseplate-client";
export type {
  AnalyticsInterval as Interval,
  AnalyticsPoint as Point,
  AnalyticsStats as Stats,
  AssetsAssetOut as Asset,
  NotesNoteItem as Note,
  NotesPublicNote as PublicNote,
  UserAccount as Account,
} from "baseplate-client";
import type { AnalyticsInterval } from "baseplate-client";

export type NoteContent = Pick<NotesNoteItem, "title" | "body" | "attachments">;

/** The gateway. Empty where it also serves this application. */
const BASE: string = import.meta.env.VITE_API_URL ?? "";
const STORED = "session";
// The tokens survive a reload of the tab, and end with it.
const store = storageStore(sessionStorage, STORED);

export const api = new ApiClient({
  baseUrl: BASE,
  tokens: {
    load: store.load,
    save: (tokens) => {
      void store.save(tokens);
      if (tokens === undefined) {
        window.dispatchEvent(new Event("session-ended"));
      }
    },
  },
});

export const isSignedIn = (): boolean => sessionStorage.getItem(STORED) !== null;

/** URLs of responses are relative to the gateway. */
export const absolute = (url: string): string => `${BASE}${url}`;

async function all<T>(list: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of list) {
    found.push(item);
  }
  return found;
}

/** A note as lists have it: with the version that an edit names. */
const listed = ({ data, response }: { data: NotesNoteOut; response: Response }): NotesNoteItem => ({
  ...data,
  etag: etagOf(response),
});

export async function register(username: string, email: string, password: string): Promise<void> {
  await api.usersRegisterAccount({ body: { username, email, password } });
}

export const logIn = (username_or_email: string, password: string): Promise<void> =>
  api.logIn({ username_or_email, password });

export const logOut = (): Promise<void> => api.logOut();

export async function confirmEmail(token: string): Promise<void> {
  await api.usersConfirmEmail({ body: { token } });
}

export async function requestPasswordReset(email: string): Promise<void> {
  await api.usersRequestPasswordReset({ body: { email } });
}

/** Set a new password by the token of a mail. All sessions of the account end. */
export async function resetPassword(token: string, password: string): Promise<void> {
  await api.usersResetPassword({ body: { token, password } });
}

export const readProfile = async () => (await api.usersReadProfile()).data;

export const listNotes = (): Promise<NotesNoteItem[]> =>
  all(items((cursor) => api.notesListNotes({ query: { limit: 100, cursor: cursor ?? null } })));

export const createNote = async (body: NoteContent, key: string): Promise<NotesNoteItem> =>
  listed(await api.notesCreateNote({ body, headers: { "Idempotency-Key": key } }));

export const readNote = async (note_id: string): Promise<NotesNoteItem> =>
  listed(await api.notesReadNote({ path: { note_id } }));

/** Change a note that still has this version; otherwise the code of the error is `stale-version`. */
export const changeNote = async (note_id: string, etag: string, body: NoteContent): Promise<NotesNoteItem> =>
  listed(await api.notesChangeNote({ path: { note_id }, body, headers: { "If-Match": etag } }));

export async function deleteNote(note_id: string, etag: string): Promise<void> {
  await api.notesDeleteNote({ path: { note_id }, headers: { "If-Match": etag } });
}

export const publishNote = async (note_id: string): Promise<string> =>
  (await api.notesPublishNote({ path: { note_id } })).data.slug;

export async function withdrawNote(note_id: string): Promise<void> {
  await api.notesWithdrawNote({ path: { note_id } });
}

export const readPublicNote = async (slug: string) => (await api.notesReadPublicNote({ path: { slug } })).data;

export const listAssets = (): Promise<AssetsAssetOut[]> =>
  all(items((cursor) => api.assetsListAssets({ query: { limit: 100, cursor: cursor ?? null } })));

/** Return the URL of each file: the same one for some minutes, so that the browser reuses its copy. */
export async function linksTo(ids: string[]): Promise<Map<string, string>> {
  const links = new Map<string, string>();
  for (let first = 0; first < ids.length; first += 100) {
    const { data } = await api.assetsMakeLinks({ body: { ids: ids.slice(first, first + 100) } });
    for (const link of data.items) {
      links.set(link.id, absolute(link.url));
    }
  }
  return links;
}

export async function deleteAsset(asset_id: string): Promise<void> {
  await api.assetsDeleteAsset({ path: { asset_id } });
}

export const upload = (file: File, onProgress: (share: number) => void): Promise<AssetsAssetOut> =>
  uploadFile(api, file, { onProgress: (sent, total) => onProgress(total ? sent / total : 0) });

export async function recordEvent(type: string): Promise<void> {
  await api.analyticsRecordEvents({ body: { type } });
}

export const readStats = async () => (await api.analyticsReadStatistics({ query: { scope: "own" } })).data;

export const readSeries = async (interval: AnalyticsInterval) =>
  (await api.analyticsReadSeries({ query: { scope: "own", interval } })).data.items;
