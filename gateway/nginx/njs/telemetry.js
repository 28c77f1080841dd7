/*
 * What the gateway tells the console (CONSOLE_URL) of a request: its span and access record. njs/sender.js sends them.
 *
 * Spans and records wait in a dictionary that all workers share. What finds no room there, or no console, is dropped and counted, so a
 * console that is slow or gone costs requests nothing.
 */

import metrics from 'metrics.js';

// Of all workers.
const TRACES_PER_SECOND = 10;
const CONSOLE = /^\/console(?:[/?]|$)/;
const MOST_WAITING = 1000;
const KEPT_MILLISECONDS = 5000;
const SERVER = 2;
const FAILED = { code: 2 };

/* The sampled flag of a request: that of the first few in each second. The console's page must not use them up. */
function draw(r) {
    if (CONSOLE.test(r.variables.request_uri)) {
        return '00';
    }
    const second = String(Math.floor(Date.now() / 1000));
    try {
        return ngx.shared.traces.incr(second, 1, 0, KEPT_MILLISECONDS) <= TRACES_PER_SECOND ? '01' : '00';
    } catch (error) {
        return '00';
    }
}

/* The condition of the access log: count the request, and let its span and record wait. Return 1, so that its line is written. */
function count(r) {
    metrics.count(r);
    const v = r.variables;
    const sampled = v.trace_flags === '01';
    // A service whose response came writes a record itself.
    const unseen = !v.upstream_http_x_request_id || v.metrics_upstream === 'cache';
    if (sampled || unseen) {
        wait(v.request_id, entryOf(v, sampled, unseen));
    }
    return '1';
}

function wait(key, entry) {
    const queue = ngx.shared.telemetry;
    try {
        if (ngx.shared.metrics.incr('waiting', 1, 0) > MOST_WAITING) {
            throw new Error('full');
        }
        queue.set(key, JSON.stringify(entry));
    } catch (error) {
        drop('requests', 'queue full', 1);
    }
}

function drop(signal, reason, number) {
    try {
        ngx.shared.metrics.incr('d signal="' + signal + '",reason="' + reason + '"', number, 0);
    } catch (error) {
        // There is no room even for this.
    }
}

function entryOf(v, sampled, unseen) {
    const end = Date.now();
    const milliseconds = Math.round(Number(v.request_time) * 1000);
    const route = v.metrics_route;
    const method = v.logged_method;
    const status = Number(v.logged_status);
    const entry = {};
    if (sampled) {
        const service = v.upstream_status ? v.logged_service : '';
        entry.span = {
            traceId: v.trace_id,
            spanId: v.gateway_span_id,
            parentSpanId: v.client_parent_id,
            name: method + ' ' + route,
            kind: SERVER,
            startTimeUnixNano: nanoseconds(end - milliseconds),
            endTimeUnixNano: nanoseconds(end),
            attributes: attributesOf({
                'http.request.method': method, 'http.route': route, 'http.response.status_code': status,
                'url.path': v.logged_path, 'request.id': v.gateway_request_id, 'peer.service': service,
            }),
        };
        if (status >= 500) {
            entry.span.status = FAILED;
        }
    }
    if (unseen) {
        entry.record = {
            timeUnixNano: nanoseconds(end),
            severityText: 'INFO',
            severityNumber: 9,
            eventName: 'http.access',
            body: { stringValue: method + ' ' + v.logged_path + ' ' + status },
            traceId: v.trace_id,
            spanId: v.gateway_span_id,
            attributes: attributesOf({
                logger: 'access', method: method, path: v.logged_path, route: route, status: status, ms: milliseconds,
                request_id: v.gateway_request_id,
            }),
        };
    }
    return entry;
}

function nanoseconds(milliseconds) {
    return milliseconds + '000000';
}

/* Attributes of OTLP; those without a value are left out. */
function attributesOf(values) {
    return Object.keys(values).filter(key => values[key] !== '' && values[key] !== undefined).map(key => ({
        key: key, value: typeof values[key] === 'number' ? { intValue: values[key] } : { stringValue: values[key] },
    }));
}

export default { draw, count, drop, attributesOf, nanoseconds, MOST_WAITING };
