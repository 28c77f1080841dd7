/*
 * Sends metrics, spans and access records to the console, as OTLP/JSON over HTTP every 2 s.
 */

import families from 'families.js';
import telemetry from 'telemetry.js';

const CUMULATIVE = 2;

/* Called periodically in one worker (rendered/telemetry.conf). */
async function send(session) {
    const entries = taken();
    const v = session.variables;
    const instance = v.telemetry_instance + '/' + process.ppid;
    const resource = { attributes: telemetry.attributesOf({ 'service.name': 'gateway', 'service.instance.id': instance }) };
    const scope = { name: 'gateway' };
    const spans = entries.filter(entry => entry.span).map(entry => entry.span);
    const records = entries.filter(entry => entry.record).map(entry => entry.record);
    const start = telemetry.nanoseconds(families.started());
    const sums = families.families(session).map(family => metricOf(family, start, telemetry.nanoseconds(Date.now())));
    // One after the other, so that a slow console gets one request at a time.
    if (spans.length > 0) {
        await post(v, 'traces', spans.length, { resourceSpans: [{ resource: resource, scopeSpans: [{ scope: scope, spans: spans }] }] });
    }
    if (records.length > 0) {
        await post(v, 'logs', records.length, { resourceLogs: [{ resource: resource, scopeLogs: [{ scope: scope, logRecords: records }] }] });
    }
    await post(v, 'metrics', 0, { resourceMetrics: [{ resource: resource, scopeMetrics: [{ scope: scope, metrics: sums }] }] });
}

/* A family as a metric of OTLP. */
function metricOf(family, start, now) {
    const metric = { name: family.name, description: family.help };
    const dataPoints = family.points.map(point => {
        const data = { attributes: labelsOf(point.labels), startTimeUnixNano: start, timeUnixNano: now };
        if (point.buckets) {
            data.count = point.buckets.reduce((sum, value) => sum + value, 0);
            data.sum = point.sum;
            data.explicitBounds = families.BOUNDS;
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
    const items = queue.items(telemetry.MOST_WAITING);
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
        telemetry.drop(signal, 'unreachable', count);
    }
}

export default { send };
