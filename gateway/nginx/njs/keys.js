/*
 * The public keys of access tokens: the user service's JWKS (RFC 7517), in a dictionary that all workers share.
 *
 * Only syntax that both engines of njs support is used; the built-in one has no `for … of`, destructuring or spread.
 */

const PUBLIC_KEYS = 'jwks';
const FETCHED_AT = 'fetched_at';
const FRESH_MILLISECONDS = 10000;
const FORCED_FETCH = 'forced';
const RUNNING = 'running';
const DONE = 'done';
const POLL_MILLISECONDS = 25;

/* Called periodically in one worker (server/tokens.conf). Fetch the keys if they are missing or old; after a failure the last ones stay. */
async function refresh(session) {
    const fetchedAt = ngx.shared.public_keys.get(FETCHED_AT);
    if (fetchedAt === undefined || Date.now() - Number(fetchedAt) >= FRESH_MILLISECONDS) {
        await fetchFromAny(addresses(session));
    }
}

/* Whether keys were ever fetched. Until then a valid token cannot be told from a forged one. */
function known() {
    return ngx.shared.public_keys.has(PUBLIC_KEYS);
}

/*
 * The JWK with this key id, or null. The key of an unknown id may be newer than our copy, so it is fetched. Clients can invent ids, so
 * this happens only once within the time-out of `forced_fetches`. Requests that arrive meanwhile wait for the result, so that the first
 * tokens of a new key are not refused.
 */
async function find(r, kid) {
    const key = stored(kid);
    if (key !== null) {
        return key;
    }
    const gate = ngx.shared.forced_fetches;
    if (gate.add(FORCED_FETCH, RUNNING)) {
        await fetchFromAny(addresses(r));
        gate.set(FORCED_FETCH, DONE);
    } else {
        while (gate.get(FORCED_FETCH) === RUNNING) {
            await pause(POLL_MILLISECONDS);
        }
    }
    return stored(kid);
}

function stored(kid) {
    const text = ngx.shared.public_keys.get(PUBLIC_KEYS);
    if (text === undefined) {
        return null;
    }
    const matches = JSON.parse(text).filter(key => key.kid === kid);
    return matches.length > 0 ? matches[0] : null;
}

/* One URL per replica of the user service, rendered from the service list. */
function addresses(r) {
    return r.variables.jwks_urls.split(' ').filter(url => url !== '');
}

async function fetchFromAny(urls) {
    for (let i = 0; i < urls.length; i++) {
        try {
            const response = await ngx.fetch(urls[i], { headers: { 'User-Agent': 'gateway' } });
            if (response.status !== 200) {
                throw new Error('status ' + response.status);
            }
            store(usable(await response.json()));
            return;
        } catch (error) {
            ngx.log(ngx.WARN, 'public keys not fetched from ' + urls[i] + ': ' + error.message);
        }
    }
}

/* The keys that may have signed an access token, as JSON that is equal for equal keys. */
function usable(document) {
    const keys = document.keys.filter(key => typeof key.kid === 'string' && key.kty === 'EC' && key.crv === 'P-256'
        && (key.use === undefined || key.use === 'sig') && (key.alg === undefined || key.alg === 'ES256'));
    if (keys.length === 0) {
        throw new Error('it holds no ES256 key');
    }
    return JSON.stringify(keys.map(key => ({ kid: key.kid, kty: key.kty, crv: key.crv, x: key.x, y: key.y })));
}

function store(text) {
    ngx.shared.public_keys.set(FETCHED_AT, String(Date.now()));
    if (ngx.shared.public_keys.get(PUBLIC_KEYS) === text) {
        return;
    }
    ngx.shared.public_keys.set(PUBLIC_KEYS, text);
    // Tokens of a withdrawn key must be verified again, and so be refused.
    ngx.shared.verified_tokens.clear();
}

function pause(milliseconds) {
    return new Promise(resolve => setTimeout(resolve, milliseconds));
}

export default { refresh, known, find };
