/*
 * Counts requests in a dictionary that all workers share. njs/families.js reads it.
 *
 * Keys of the dictionary: `c <labels>` is a counter of requests, `b <bound> <route>` one bucket of a route's latencies (not cumulative),
 * `s <route>` their sum in seconds, `d <labels>` counts what was dropped. A series that finds no room is dropped itself, and counted.
 *
 * For each request njs copies its machine and runs all modules in it, so what a module holds costs each request. What reads the dictionary
 * therefore stands in modules that only some locations import (docs/adr/0028-gateway-metrics-in-njs.md).
 */

/* The condition of the access log: count the request. Return 1, so that its line is written. */
function count(r) {
    const v = r.variables;
    const labels = v.metrics_labels;
    const s = Number(v.request_time);
    const route = labels.slice(7, labels.indexOf('"', 7));
    // The index of the request's bucket; an array of the bounds would be made for each request.
    const bucket = (s > 0.001) + (s > 0.0025) + (s > 0.005) + (s > 0.01) + (s > 0.025) + (s > 0.05) + (s > 0.1) + (s > 0.25) + (s > 0.5)
        + (s > 1) + (s > 2.5) + (s > 5) + (s > 10);
    const dict = ngx.shared.metrics;
    try {
        dict.incr('c ' + labels, 1, 0);
        dict.incr('b ' + bucket + ' ' + route, 1, 0);
        dict.incr('s ' + route, s, 0);
    } catch (error) {
        try {
            dict.incr('d signal="metrics",reason="memory full"', 1, 0);
        } catch (full) {
            // There is no room even for this.
        }
    }
    return '1';
}

export default { count };
