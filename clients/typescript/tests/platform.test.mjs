// Against a running platform: PLATFORM_URL, and USERNAME and PASSWORD of an administrator. tests/test_clients.py runs it.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { before, test } from 'node:test';
import { ApiClient, ApiError, edit, EditConflict, etagOf, items, memoryStore, upload } from '../dist/index.js';

const baseUrl = process.env.PLATFORM_URL;
const admin = { username_or_email: process.env.USERNAME, password: process.env.PASSWORD };
const description = JSON.parse(await readFile(new URL('../../openapi.json', import.meta.url), 'utf8'));
const api = new ApiClient({ baseUrl });

const newAccount = async (options = {}) => {
  const client = new ApiClient({ baseUrl, ...options });
  const username = `u${crypto.randomUUID().replaceAll('-', '').slice(0, 20)}`;
  const password = 'correct horse battery staple';
  await client.usersRegisterAccount({ body: { username, email: `${username}@mail.dev`, password } });
  await client.logIn({ username_or_email: username, password });
  return client;
};

before(() => api.logIn(admin));

const exampleOf = (schema) => {
  if (schema.$ref) return exampleOf(description.components.schemas[schema.$ref.split('/').pop()]);
  if (schema.examples) return schema.examples[0];
  if (schema.const !== undefined) return schema.const;
  const choice = (schema.oneOf ?? schema.anyOf ?? schema.allOf)?.[0];
  if (choice) return exampleOf(choice);
  if (schema.format === 'binary') return new Blob(['a text'], { type: 'text/plain' });
  if (schema.type !== 'object') return schema.enum?.[0] ?? schema.default ?? 'x';
  return Object.fromEntries((schema.required ?? []).map((name) => [name, exampleOf(schema.properties[name])]));
};

test('every operation reaches the platform, and responds as the description says', async () => {
  const id = '0197f2c8-5d3e-7a41-9c6b-2f8e1d4a7b90';
  const unexpected = [];
  for (const operations of Object.values(description.paths)) {
    for (const operation of Object.values(operations)) {
      const name = operation.operationId.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
      // The account of this test is used further on.
      if (['usersLogOut', 'usersDeleteProfile'].includes(name)) continue;
      const options = { path: {}, headers: {} };
      for (const parameter of operation.parameters ?? []) {
        if (parameter.in === 'path') options.path[parameter.name] = parameter.schema.format === 'uuid' ? id : 'nothing';
        if (parameter.name === 'If-Match') options.headers['If-Match'] = '"1"';
      }
      const content = Object.values(operation.requestBody?.content ?? {})[0];
      if (content) options.body = exampleOf(content.schema);
      let status;
      try {
        status = (await api[name](options)).response.status;
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        status = error.status;
      }
      // No example has a token that a mail has brought.
      const isRight = ![400, 415].includes(status) || options.body?.token !== undefined;
      if (!(status in operation.responses) || !isRight) unexpected.push(`${name}: ${status}`);
    }
  }
  assert.deepEqual(unexpected, []);
  const leaver = await newAccount();
  await leaver.usersDeleteProfile();
  const visitor = await newAccount();
  await visitor.logOut();
  await assert.rejects(visitor.usersReadProfile(), { code: 'token-missing', status: 401 });
});

test('many callers that need a new access token share one refresh', async () => {
  const store = memoryStore();
  let refreshes = 0;
  const counting = (input, init) => {
    refreshes += String(input).endsWith('/refresh');
    return fetch(input, init);
  };
  const client = await newAccount({ tokens: store, fetch: counting });
  const old = store.load();
  store.save({ ...old, expires_at: 0 });

  await Promise.all(Array.from({ length: 20 }, () => client.usersReadProfile()));

  assert.equal(refreshes, 1);
  assert.notEqual(store.load().refresh_token, old.refresh_token);
});

test('a request whose token has expired is sent again with a new one', async () => {
  let refused = 0;
  const expiring = (input, init) => {
    if (String(input).endsWith('/profile') && refused++ === 0) {
      const problem = { type: 'urn:baseplate:problem:token-expired', status: 401 };
      return Promise.resolve(Response.json(problem, { status: 401 }));
    }
    return fetch(input, init);
  };
  const client = await newAccount({ fetch: expiring });

  const { data } = await client.usersReadProfile();

  assert.equal(refused, 2);
  assert.match(data.username, /^u/);
});

test('a creation whose response is lost is sent again with the same key, and has one effect', async () => {
  const keys = [];
  const losing = async (input, init) => {
    const response = await fetch(input, init);
    if (String(input).endsWith('/notes') && init.method === 'POST' && keys.push(init.headers.get('Idempotency-Key')) === 1) {
      throw new TypeError('the connection was lost');
    }
    return response;
  };
  const client = await newAccount({ fetch: losing });

  const { data, response } = await client.notesCreateNote({ body: { title: 'once' } });

  assert.equal(keys.length, 2);
  assert.equal(keys[0], keys[1]);
  assert.equal(response.headers.get('Idempotency-Replayed'), 'true');
  const { data: page } = await client.notesListNotes();
  assert.deepEqual(page.items.map((note) => note.id), [data.id]);
});

test('an edit of what someone else has changed tells both versions, and can be sent again', async () => {
  const client = await newAccount();
  const { data: note } = await client.notesCreateNote({ body: { title: 'first' } });
  const path = { note_id: note.id };
  const write = (body, etag) => client.notesChangeNote({ path, body, headers: { 'If-Match': etag } });
  const read = () => client.notesReadNote({ path });

  const edited = await edit({ read, change: () => ({ title: 'second' }), write });
  assert.equal(edited.data.title, 'second');

  const late = edit({
    read,
    change: () => ({ title: 'mine' }),
    write: async (change, etag) => {
      await write({ title: 'theirs' }, etag);
      return write(change, etag);
    },
  });
  const conflict = await late.catch((error) => error);
  assert.ok(conflict instanceof EditConflict);
  assert.deepEqual([conflict.base.title, conflict.mine.title, conflict.theirs.title], ['second', 'mine', 'theirs']);
  const merged = await write(conflict.mine, conflict.etag);
  assert.equal(merged.data.title, 'mine');
  assert.notEqual(etagOf(merged.response), conflict.etag);
});

test('an upload tells its progress and keeps the bytes', async () => {
  const client = await newAccount();
  const text = 'a line of text\n'.repeat(50_000);
  const progress = [];

  const asset = await upload(client, new Blob([text], { type: 'text/plain' }), {
    filename: 'café.txt',
    onProgress: (sent, total) => progress.push(sent / total),
  });

  assert.equal(asset.filename, 'café.txt');
  assert.ok(progress.length > 5);
  assert.equal(progress.at(-1), 1);
  const { data } = await client.assetsReadContent({ path: { asset_id: asset.id }, parseAs: 'text' });
  assert.equal(data, text);
});

test('a list is one sequence, whatever its pages', async () => {
  const client = await newAccount();
  for (const title of ['a', 'b', 'c', 'd', 'e']) await client.notesCreateNote({ body: { title } });
  const titles = [];

  for await (const note of items((cursor) => client.notesListNotes({ query: { cursor, limit: 2 } }))) titles.push(note.title);

  assert.deepEqual(titles, ['e', 'd', 'c', 'b', 'a']);
});

test('an error has a code, and says what is wrong', async () => {
  const error = await api.notesCreateNote({ body: {} }).catch((error) => error);

  assert.ok(error instanceof ApiError);
  assert.deepEqual([error.code, error.status, error.problem.errors[0].field], ['validation', 422, 'body.title']);
  assert.ok(error.requestId);
});
