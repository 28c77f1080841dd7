// What all scripts share: settings, accounts, the requests of load/mixes.json, and the thresholds.
//
//   URL        the gateway (http://127.0.0.1:8080), started without rate limits
//   RATE       requests per second (200)
//   SECONDS    how long (30)
//   CLIENTS    the most requests at a time; each client has an account of its own (40)
//
// `name` of a request is its line in the mix; `kind` is `read` or `write`. Requests of the setup have no kind, so that
// no threshold counts them.
import { check, fail } from 'k6';
import encoding from 'k6/encoding';
import { randomBytes } from 'k6/crypto';
import exec from 'k6/execution';
import http from 'k6/http';

export const api = `${(__ENV.URL || 'http://127.0.0.1:8080').replace(/\/+$/, '')}/api/v1`;
const rate = Number(__ENV.RATE || 200);
const seconds = Number(__ENV.SECONDS || 30);
const clients = Number(__ENV.CLIENTS || 40);
const mixes = JSON.parse(open('../mixes.json'));

const NOTES = 5;
const NOTES_KEPT = 50;
// Access tokens live for 15 minutes.
const SESSION_SECONDS = 600;
const BATCH = 8;
const WORDS = ['amber', 'birch', 'cedar', 'delta', 'ember', 'fjord', 'grove', 'heron', 'inlet', 'jetty'];
const FILE = 'A line of a small text file, as people upload them.\n'.repeat(320);

http.setResponseCallback(http.expectedStatuses(200, 201, 202, 204));

/** Return the options of a script: a constant rate, and the objectives as thresholds. */
export function optionsFor(name) {
  // k6 reports a tag of its own only where a threshold names it.
  const named = Object.keys(mixes[name]).map((one) => [`http_req_duration{name:${one}}`, ['max>=0']]);
  return {
    scenarios: {
      load: {
        executor: 'constant-arrival-rate',
        rate: rate,
        duration: `${seconds}s`,
        preAllocatedVUs: clients,
        maxVUs: clients,
        gracefulStop: '10s',
      },
    },
    thresholds: Object.assign(Object.fromEntries(named), {
      'http_req_duration{kind:read}': ['p(95)<100'],
      'http_req_duration{kind:write}': ['p(95)<200'],
      'http_req_failed{kind:read}': ['rate==0'],
      'http_req_failed{kind:write}': ['rate==0'],
      checks: ['rate==1'],
      dropped_iterations: ['count==0'],
    }),
    summaryTrendStats: ['count', 'avg', 'min', 'p(5)', 'p(25)', 'med', 'p(75)', 'p(90)', 'p(95)', 'p(99)', 'p(99.9)', 'max'],
    setupTimeout: '120s',
  };
}

/** Register an account for each client and log it in; give it some notes and a file to read. Return all of them. */
export function makeAccounts() {
  const made = [];
  for (let start = 0; start < clients; start += BATCH) {
    const accounts = [];
    for (let n = start; n < Math.min(start + BATCH, clients); n++) accounts.push(newAccount());
    const created = http.batch(accounts.map((account) => jsonRequest('/users/register', account)));
    created.forEach((response) => demand(response, 201, 'register an account'));
    const logins = http.batch(accounts.map((account) => jsonRequest('/users/login', credentials(account))));
    logins.forEach((response, n) => made.push({ account: signedIn(accounts[n], demand(response, 200, 'log in')), notes: [], files: [] }));
  }
  made.forEach((client) => {
    for (let n = 0; n < NOTES; n++) demand(addNote(client, { name: 'setup' }), 201, 'create a note');
    demand(addFile(client, { name: 'setup' }), 201, 'store a file');
  });
  return made;
}

/** Return the function of one iteration, which sends one request of a mix. */
export function sender(name) {
  const mix = mixes[name];
  const names = Object.keys(mix);
  const total = names.reduce((sum, one) => sum + mix[one], 0);
  return (clients) => {
    const client = ownClient(clients);
    let left = Math.random() * total;
    const chosen = names.find((one) => (left -= mix[one]) < 0) || names[names.length - 1];
    actions[chosen](client);
  };
}

let own;
/** Return this client's state, with a session that does not end during the next request. */
function ownClient(clients) {
  if (own === undefined) own = clients[(exec.vu.idInTest - 1) % clients.length];
  if (Date.now() > own.account.until) own.account = logIn(own.account);
  return own;
}

export function newAccount() {
  const username = `k6-${hex(12)}`;
  return { username: username, email: `${username}@mail.dev`, password: hex(16) };
}

export function logIn(account, tags) {
  const response = send('POST', '/users/login', { body: credentials(account), tags: tags });
  return signedIn(account, demand(response, 200, 'log in'));
}

function credentials(account) {
  return { username_or_email: account.username, password: account.password };
}

function signedIn(account, response) {
  const tokens = response.json();
  return Object.assign({}, account, {
    token: tokens.access_token,
    refresh: tokens.refresh_token,
    until: Date.now() + SESSION_SECONDS * 1000,
  });
}

function demand(response, status, what) {
  if (response.status !== status) {
    const hint = response.status === 429 ? '; start the platform without rate limits' : '';
    fail(`cannot ${what}: ${response.status} ${response.body}${hint}`);
  }
  return response;
}

export function hex(bytes) {
  return encoding.b64encode(randomBytes(bytes), 'rawurl').replace(/[-_]/g, 'x');
}

/** Return a POST for `http.batch`. */
function jsonRequest(path, body) {
  return ['POST', api + path, JSON.stringify(body), { headers: { 'Content-Type': 'application/json' }, tags: { name: 'setup' } }];
}

/** Send a request; `kind` and `name` go into its tags. */
export function send(method, path, { client, body, headers, tags } = {}) {
  const fields = Object.assign({}, headers);
  if (client) fields.Authorization = `Bearer ${client.account.token}`;
  let content = body === undefined ? null : body;
  if (content !== null && typeof content === 'object') {
    content = JSON.stringify(content);
    fields['Content-Type'] = 'application/json';
  }
  return http.request(method, api + path, content, { headers: fields, tags: tags || { name: 'setup' } });
}

function read(client, name, path, status = 200) {
  const response = send('GET', path, { client: client, tags: { kind: 'read', name: name } });
  check(response, { [`${name}: ${status}`]: (r) => r.status === status });
  return response;
}

function write(client, name, method, path, status, given) {
  const response = send(method, path, Object.assign({ client: client, tags: { kind: 'write', name: name } }, given));
  check(response, { [`${name}: ${status}`]: (r) => r.status === status });
  return response;
}

function pick(values) {
  return values[Math.floor(Math.random() * values.length)];
}

function newNote() {
  return { title: `${pick(WORDS)} ${pick(WORDS)}`, body: `${pick(WORDS)} ${pick(WORDS)} ${'what was written '.repeat(8)}`, tags: [pick(WORDS)] };
}

function remember(values, value, most) {
  values.push(value);
  if (values.length > most) values.shift();
}

function keyed(key) {
  return { 'Content-Type': 'application/json', 'Idempotency-Key': key };
}

function addNote(client, tags) {
  // Text, because k6 may change the order of an object's members between setup and load, and a key allows no other body.
  const created = { key: hex(16), note: JSON.stringify(newNote()) };
  const response = send('POST', '/notes', { client: client, body: created.note, headers: keyed(created.key), tags: tags });
  if (response.status === 201) {
    created.id = response.json('id');
    client.created = created;
    remember(client.notes, { id: created.id, etag: response.headers.Etag }, NOTES_KEPT);
  }
  return response;
}

function addFile(client, tags) {
  const headers = { 'Content-Type': 'text/plain', 'X-Filename': 'k6.txt', 'Idempotency-Key': hex(16) };
  const response = send('POST', '/assets', { client: client, body: FILE, headers: headers, tags: tags });
  if (response.status === 201) remember(client.files, response.json('id'), NOTES_KEPT);
  return response;
}

const actions = {
  read_profile: (client) => read(client, 'read_profile', '/users/profile'),
  read_statistics: (client) => read(client, 'read_statistics', '/analytics/stats'),
  read_note: (client) => read(client, 'read_note', `/notes/${pick(client.notes).id}`),
  list_notes: (client) => read(client, 'list_notes', '/notes?limit=20'),
  search_notes: (client) => read(client, 'search_notes', `/notes?limit=20&q=${pick(WORDS)}`),
  read_file: (client) => read(client, 'read_file', `/assets/${pick(client.files)}`),
  download_file: (client) => read(client, 'download_file', `/assets/${pick(client.files)}/content`),

  log_in: (client) => {
    const body = credentials(client.account);
    const response = write(null, 'log_in', 'POST', '/users/login', 200, { body: body });
    if (response.status === 200) client.account = signedIn(client.account, response);
  },
  refresh_session: (client) => {
    const body = { refresh_token: client.account.refresh };
    const response = write(null, 'refresh_session', 'POST', '/users/refresh', 200, { body: body });
    if (response.status === 200) client.account = signedIn(client.account, response);
  },
  register: () => {
    const headers = { 'Idempotency-Key': hex(16) };
    write(null, 'register', 'POST', '/users/register', 201, { body: newAccount(), headers: headers });
  },
  create_note: (client) => {
    const response = addNote(client, { kind: 'write', name: 'create_note' });
    check(response, { 'create_note: 201': (r) => r.status === 201 });
  },
  repeat_note: (client) => {
    const { key, note, id } = client.created;
    const response = write(client, 'repeat_note', 'POST', '/notes', 201, { body: note, headers: keyed(key) });
    check(response, { 'repeat_note: the first response': (r) => r.status === 201 && r.json('id') === id });
  },
  change_note: (client) => {
    const note = pick(client.notes);
    const response = write(client, 'change_note', 'PATCH', `/notes/${note.id}`, 200, {
      body: { tags: [pick(WORDS)] },
      headers: { 'If-Match': note.etag },
    });
    if (response.status === 200) note.etag = response.headers.Etag;
  },
  record_event: (client) => {
    const body = { type: 'page.viewed', properties: { page: `/${pick(WORDS)}` } };
    write(client, 'record_event', 'POST', '/analytics/events', 202, { body: body, headers: { 'Idempotency-Key': hex(16) } });
  },
  upload_file: (client) => {
    check(addFile(client, { kind: 'write', name: 'upload_file' }), { 'upload_file: 201': (r) => r.status === 201 });
  },
};
