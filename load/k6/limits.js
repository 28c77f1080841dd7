// The rate limits, which have to be on: GATEWAY_RATE_GENERAL=100 and USER_RATE=30 requests per second.
//
// In each phase a greedy client sends more than its limit, and a modest one far less. The greedy one gets 429 with
// Retry-After; the modest one never does. First they differ by address (--local-ips 127.0.0.2,127.0.0.3), then by user.
import { check, sleep } from 'k6';
import exec from 'k6/execution';
import { Counter } from 'k6/metrics';
import http from 'k6/http';
import { logIn, newAccount, send } from './platform.js';

const refused = new Counter('refused');
const modestRefused = new Counter('modest_refused');
const served = new Counter('greedy_served');
const PHASE_SECONDS = 12;

export const options = {
  scenarios: {
    address: { executor: 'constant-vus', vus: 2, duration: `${PHASE_SECONDS}s`, exec: 'byAddress', gracefulStop: '5s' },
    user: { executor: 'constant-vus', vus: 2, duration: `${PHASE_SECONDS}s`, exec: 'byUser', startTime: `${PHASE_SECONDS + 6}s`, gracefulStop: '5s' },
  },
  thresholds: {
    checks: ['rate==1'],
    'refused{scenario:address}': ['count>100'],
    'refused{scenario:user}': ['count>50'],
    'greedy_served{scenario:address}': ['count>1000'],
    'greedy_served{scenario:user}': ['count>200'],
    modest_refused: ['count==0'],
  },
  setupTimeout: '60s',
};

http.setResponseCallback(http.expectedStatuses(200, 201, 429));

export function setup() {
  return [1, 2].map(() => {
    const account = newAccount();
    const made = send('POST', '/users/register', { body: account });
    check(made, { 'an account is registered': (r) => r.status === 201 });
    return logIn(account);
  });
}

/** Two addresses: VUs take them in turn. */
export function byAddress() {
  visit(null, '/users/stats/count', 0.003);
}

/** Two users at one address each, below the limit per address. */
export function byUser(accounts) {
  visit({ account: accounts[exec.vu.idInTest % 2] }, '/users/profile', 0.014);
}

function visit(client, path, pause) {
  const greedy = exec.vu.idInTest % 2 === 0;
  const response = send('GET', path, { client: client, tags: { name: greedy ? 'greedy' : 'modest' } });
  const limited = response.status === 429;
  if (greedy && limited) {
    refused.add(1);
    check(response, { '429 names the time to wait': (r) => Number(r.headers['Retry-After']) >= 1 });
    check(response, { '429 is a problem document': (r) => r.headers['Content-Type'] === 'application/problem+json' });
  } else {
    check(response, { [greedy ? 'greedy: 200' : 'modest: 200']: (r) => r.status === 200 });
    if (greedy) served.add(1);
    else modestRefused.add(limited ? 1 : 0);
  }
  sleep(greedy ? pause : 0.1);
}
