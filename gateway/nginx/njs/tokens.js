/*
 * The bearer check: an access token is a JWT (RFC 9068) signed with ES256 by a key of the user service. Services verify again; what
 * is refused here never costs them anything. Whether its session has ended is known to them alone.
 */

import keys from 'keys.js';

// RFC 6750, with at least one space; the token's alphabet is that of base64url.
const BEARER = /^bearer +([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)$/i;
// Verified tokens are remembered for at most this long, however late they expire.
const LONGEST_MEMORY_SECONDS = 3600;

/* Answer the auth_request: 204 lets the request pass to its service, 401 refuses it. */
async function check(r) {
    // The variable holds what is passed on, all of it when the header was sent more than once.
    const header = r.variables.http_authorization;
    let passes = false;
    try {
        passes = await isValid(r, header) || !keys.known();
    } catch (error) {
        r.warn('token check: ' + error.message);
    }
    // A text makes this the whole answer; without it NGINX would fetch the error page for the subrequest, too.
    if (passes) {
        r.return(204);
    } else {
        r.return(401, 'refused');
    }
}

async function isValid(r, header) {
    const token = BEARER.exec(header);
    if (token === null) {
        return false;
    }
    const now = Date.now() / 1000;
    const digest = await digestOf(header);
    const rememberedExpiry = ngx.shared.verified_tokens.get(digest);
    if (rememberedExpiry !== undefined) {
        return rememberedExpiry > now;
    }
    const jose = decode(token[1]);
    const claims = decode(token[2]);
    if (!areAcceptable(r, jose, claims, now)) {
        return false;
    }
    const key = await keys.find(r, jose.kid);
    if (key === null || !await isSigned(key, token)) {
        return false;
    }
    const memory = Math.min(claims.exp - now, LONGEST_MEMORY_SECONDS);
    ngx.shared.verified_tokens.set(digest, claims.exp, Math.ceil(memory * 1000));
    return true;
}

/* Everything but the signature, so that most forgeries cost no elliptic curve. */
function areAcceptable(r, jose, claims, now) {
    return jose !== null && claims !== null
        && jose.alg === 'ES256'
        && typeof jose.typ === 'string' && jose.typ.toLowerCase() === 'at+jwt'
        && jose.crit === undefined
        && typeof jose.kid === 'string'
        && claims.iss === r.variables.token_issuer
        && isMeantFor(claims.aud, r.variables.token_audience)
        && typeof claims.exp === 'number' && claims.exp > now
        && (claims.nbf === undefined || (typeof claims.nbf === 'number' && claims.nbf <= now));
}

function isMeantFor(audience, us) {
    return audience === us || (Array.isArray(audience) && audience.indexOf(us) >= 0);
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

/* Tokens are remembered by digest: short, and of no use to somebody who reads the memory. */
async function digestOf(text) {
    return Buffer.from(await crypto.subtle.digest('SHA-256', Buffer.from(text))).toString('base64url');
}

export default { check };
