/*
 * The token check: an access token is a JWT (RFC 9068) signed with ES256 by a key of the user service. Services verify tokens again;
 * refusing invalid ones here saves them the load. Only services know revoked sessions.
 */

import hashes from 'crypto';
import keys from 'keys.js';

// RFC 6750, with at least one space. The parts of a token are base64url.
const BEARER = /^bearer +([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)$/i;
// The long form is that of API keys (servicekit.auth.access_tokens).
const TYPES = ['at+jwt', 'application/at+jwt'];
// The longest validity of a token, from `iat` to `exp`, and how far the issuer's clock may be ahead; as in servicekit.auth.access_tokens.
const LIFETIME_SECONDS = 15 * 60;
const CLOCK_SKEW_SECONDS = 60;
// Codes of problems (docs/errors.md).
const INVALID = 'token-invalid';
const EXPIRED = 'token-expired';

/* Respond to the auth_request: 204 passes the request to its service, 401 refuses it. */
async function check(r) {
    // The variable holds the value that is passed on: all values, if the header was sent more than once.
    const header = r.variables.http_authorization;
    let refusal = INVALID;
    try {
        refusal = await refusalOf(r, header);
    } catch (error) {
        r.warn('token check: ' + error.message);
    }
    // With a body this is the whole response; otherwise NGINX would also make the error page for the subrequest.
    if (refusal === null || (header && !keys.known())) {
        r.return(204);
    } else {
        // The error page of the client's request (http/problems.conf) sees the variables of the subrequest.
        r.variables.token_problem = refusal;
        r.return(401, 'refused');
    }
}

/* The code of the problem, or null for a valid token. */
async function refusalOf(r, header) {
    const token = BEARER.exec(header);
    if (token === null) {
        // Services ignore other schemes, so the token is missing there, too.
        return /^bearer(?: |$)/i.test(header) ? INVALID : 'token-missing';
    }
    const now = Date.now() / 1000;
    const digest = digestOf(header);
    const rememberedExpiry = ngx.shared.verified_tokens.get(digest);
    if (rememberedExpiry !== undefined) {
        return rememberedExpiry > now ? null : EXPIRED;
    }
    const jose = decode(token[1]);
    const claims = decode(token[2]);
    if (!areAcceptable(r, jose, claims, now)) {
        return INVALID;
    }
    const key = await keys.find(r, jose.kid);
    if (key === null || !await isSigned(key, token)) {
        return INVALID;
    }
    if (claims.exp <= now) {
        return EXPIRED;
    }
    ngx.shared.verified_tokens.set(digest, claims.exp, Math.ceil((claims.exp - now) * 1000));
    return null;
}

/* Everything except the signature, so that most forgeries are refused without costly cryptography. */
function areAcceptable(r, jose, claims, now) {
    return jose !== null && claims !== null
        && jose.alg === 'ES256'
        && typeof jose.typ === 'string' && TYPES.indexOf(jose.typ.toLowerCase()) >= 0
        && jose.crit === undefined
        && typeof jose.kid === 'string'
        && claims.iss === r.variables.token_issuer
        && includesAudience(claims.aud, r.variables.token_audience)
        && typeof claims.exp === 'number'
        && typeof claims.iat === 'number' && claims.iat <= now + CLOCK_SKEW_SECONDS && claims.exp - claims.iat <= LIFETIME_SECONDS
        && (claims.nbf === undefined || (typeof claims.nbf === 'number' && claims.nbf <= now));
}

function includesAudience(audience, expected) {
    return audience === expected || (Array.isArray(audience) && audience.indexOf(expected) >= 0);
}

async function isSigned(jwk, token) {
    const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
    const key = await crypto.subtle.importKey('jwk', jwk, algorithm, false, ['verify']);
    const signed = Buffer.from(token[1] + '.' + token[2]);
    return crypto.subtle.verify(algorithm, key, Buffer.from(token[3], 'base64url'), signed);
}

/* The JSON value in a part of the token, or null. */
function decode(part) {
    try {
        return JSON.parse(Buffer.from(part, 'base64url').toString());
    } catch (error) {
        return null;
    }
}

/* Tokens are remembered by digest, which is short and useless to an attacker who reads the memory. WebCrypto would make every request wait
 * for another pass of the event loop. */
function digestOf(text) {
    return hashes.createHash('sha256').update(text).digest('base64url');
}

export default { check };
