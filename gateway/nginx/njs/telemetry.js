/*
 * What the gateway tells the console (CONSOLE_URL): metrics, spans and access records, as OTLP/JSON over HTTP every 2 s.
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
const CUMULATIVE = 2;
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
        metrics.drop('requests', 'queue full', 1);
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

/* Called periodically in one worker (rendered/telemetry.conf). */
async function send(session) {
    const entries = taken();
    const v = session.variables;
    const resource = { attributes: attributesOf({ 'service.name': 'gateway', 'service.instance.id': v.telemetry_instance + '/' + process.ppid }) };
    const scope = { name: 'gateway' };
    const spans = entries.filter(entry => entry.span).map(entry => entry.span);
    const records = entries.filter(entry => entry.record).map(entry => entry.record);
    const families = metrics.families(session).map(family => metricOf(family, nanoseconds(metrics.started()), nanoseconds(Date.now())));
    // One after the other, so that a slow console gets one request at a time.
    if (spans.length > 0) {
        await post(v, 'traces', spans.length, { resourceSpans: [{ resource: resource, scopeSpans: [{ scope: scope, spans: spans }] }] });
    }
    if (records.length > 0) {
        await post(v, 'logs', records.length, { resourceLogs: [{ resource: resource, scopeLogs: [{ scope: scope, logRecords: records }] }] });
    }
    await post(v, 'metrics', 0, { resourceMetrics: [{ resource: resource, scopeMetrics: [{ scope: scope, metrics: families }] }] });
}

/* A family as a metric of OTLP. */
function metricOf(family, start, now) {
    const metric = { name: family.name, description: family.help };
    const dataPoints = family.points.map(point => {
        const data = { attributes: labelsOf(point.labels), startTimeUnixNano: start, timeUnixNano: now };
        if (point.buckets) {
            data.count = point.buckets.reduce((sum, value) => sum + value, 0);
            data.sum = point.sum;
            data.explicitBounds = metrics.BOUNDS;
            data.bucketCounts = point.buckets;
        } else {
            data.asDouble = point.value;
        }
        return data;
    });
    if (family.type === 'gauge') {
        metric.gauge = { dataPoints: dataPoints };
    } else if (family.type === 'counter') {
        metric.sum = { dataPoints: dataPoints, aggregationTemporality: CUMULATIVE, isMonotonic: true };
    } else {
        metric.histogram = { dataPoints: dataPoints, aggregationTemporality: CUMULATIVE };
    }
    return metric;
}

/* Labels of Prometheus as attributes; no value contains a quote. */
function labelsOf(text) {
    return (text.match(/[a-z]+="[^"]*"/g) || []).map(label => {
        const equals = label.indexOf('=');
        return { key: label.slice(0, equals), value: { stringValue: label.slice(equals + 2, -1) } };
    });
}

/* Take what waits. */
function taken() {
    const queue = ngx.shared.telemetry;
    const items = queue.items(MOST_WAITING);
    items.forEach(item => queue.delete(item[0]));
    ngx.shared.metrics.set('waiting', 0);
    return items.map(item => JSON.parse(item[1]));
}

async function post(v, signal, count, document) {
    try {
        const response = await ngx.fetch(v.console_url + '/v1/' + signal, {
            method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(document),
        });
        if (response.status !== 200) {
            throw new Error('status ' + response.status);
        }
    } catch (error) {
        metrics.drop(signal, 'unreachable', count);
    }
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

export default { draw, count, send };
