/*
 * What njs/metrics.js counted: the families of metrics, and GET /metrics of the inner port, which writes them as Prometheus text.
 */

// Those of the services (servicekit.observability.metrics). metrics.js compares with the same numbers.
const BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const LABELS = BOUNDS.map(bound => bound % 1 === 0 ? bound + '.0' : String(bound)).concat(['+Inf']);
const DROPPED = 'd ';
const STARTED = 'started';
// More than the dictionary holds.
const ALL = 100000;

/* When counting began, in milliseconds. */
function started() {
    const dict = ngx.shared.metrics;
    dict.add(STARTED, Date.now());
    return dict.get(STARTED);
}

/* All families: name, type, help and points. A point has its labels as text and a value, or the buckets (not cumulative) and sum. */
function families(r) {
    const requests = [];
    const dropped = [];
    const durations = {};
    ngx.shared.metrics.items(ALL).forEach(item => {
        const kind = item[0].slice(0, 2);
        const key = item[0].slice(2);
        if (kind === 'c ') {
            requests.push({ labels: key, value: item[1] });
        } else if (kind === DROPPED) {
            dropped.push({ labels: key, value: item[1] });
        } else if (kind === 'b ') {
            durationOf(durations, key.slice(key.indexOf(' ') + 1)).buckets[parseInt(key, 10)] = item[1];
        } else if (kind === 's ') {
            durationOf(durations, key).sum = item[1];
        }
    });
    return [
        { name: 'gateway_http_requests_total', type: 'counter', points: requests,
            help: 'Requests by route, method, status, where the response came from, cache, and limits.' },
        { name: 'gateway_http_request_duration_seconds', type: 'histogram', points: Object.keys(durations).map(route => durations[route]),
            help: 'Time from the first byte of a request to the last one of its response.' },
        { name: 'gateway_upstream_weight', type: 'gauge', points: weights(r), help: 'Requests of a hundred that a version of a service gets.' },
        { name: 'gateway_connections', type: 'gauge', points: connections(r), help: 'Connections of clients by state.' },
        { name: 'gateway_telemetry_dropped_total', type: 'counter', points: dropped,
            help: 'What was not counted or not sent to the console.' },
        { name: 'gateway_start_time_seconds', type: 'gauge', points: [{ labels: '', value: started() / 1000 }],
            help: 'When the counters began.' },
    ].filter(family => family.points.length > 0);
}

function durationOf(durations, route) {
    durations[route] = durations[route] || { labels: 'route="' + route + '"', buckets: LABELS.map(() => 0), sum: 0 };
    return durations[route];
}

/* The shares of all versions, rendered from the pools. */
function weights(r) {
    return r.variables.upstream_weights.split(' ').filter(text => text !== '').map(text => {
        const parts = /^(.+)_(v[0-9]+)=([0-9]+)$/.exec(text);
        return { labels: 'service="' + parts[1] + '",version="' + parts[2] + '"', value: Number(parts[3]) };
    });
}

/* Not every build of NGINX counts its connections (ngx_http_stub_status_module). */
function connections(r) {
    return ['active', 'reading', 'writing', 'waiting']
        .map(state => ({ labels: 'state="' + state + '"', value: Number(r.variables['connections_' + state]) }))
        .filter(point => !isNaN(point.value));
}

/* GET /metrics of the inner port. */
function report(r) {
    const lines = [];
    families(r).forEach(family => {
        lines.push('# HELP ' + family.name + ' ' + family.help, '# TYPE ' + family.name + ' ' + family.type);
        family.points.sort((a, b) => a.labels < b.labels ? -1 : 1).forEach(point => {
            if (point.buckets) {
                writeHistogram(lines, family.name, point);
            } else {
                lines.push(family.name + (point.labels && '{' + point.labels + '}') + ' ' + point.value);
            }
        });
    });
    r.headersOut['Content-Type'] = 'text/plain; version=0.0.4; charset=utf-8';
    r.return(200, lines.join('\n') + '\n');
}

function writeHistogram(lines, name, point) {
    let total = 0;
    point.buckets.forEach((value, i) => {
        total += value;
        lines.push(name + '_bucket{' + point.labels + ',le="' + LABELS[i] + '"} ' + total);
    });
    lines.push(name + '_sum{' + point.labels + '} ' + point.sum, name + '_count{' + point.labels + '} ' + total);
}

export default { started, families, report, BOUNDS };
