/*
 * The hop of a request from its rule set to the candidate of a release.
 *
 * What the gateway itself may refuse is decided before it: limits, token, and the body, which NGINX reads before it runs this. What
 * fails after it is the candidate's doing, so there an error can mean that the stable pool shall answer.
 */

function tryCandidate(r) {
    r.internalRedirect('@candidate_' + r.variables.route);
}

export default { tryCandidate };
