/*
 * The step from a route to the canary of a release.
 *
 * Before it, NGINX has applied limits, checked the token and read the body, so the gateway has refused what it refuses. Errors after it
 * come from the canary, and may lead to the stable pool.
 */

function toCanary(r) {
    r.internalRedirect('@canary_' + r.variables.route);
}

export default { toCanary };
