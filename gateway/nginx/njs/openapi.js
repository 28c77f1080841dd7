/*
 * GET /openapi.json: the API documents of all services in one, with the paths that clients can reach.
 */

// The paths that the gateway routes. Probes, metrics and internal paths of services are not part of the public API.
const ROUTED = /^\/(?:api\/v1|\.well-known)\//;
const SCHEMAS = '"#/components/schemas/';
const REFERENCE = /"#\/components\/(?:schemas|examples)\/[^"]+"/g;
// The same in all services.
const SHARED = 'Problem';
const INTRODUCTION = 'All services of the platform behind one gateway.\n\n' +
    'Register, log in, and send the access token as `Authorization: Bearer …`. It is valid for 15 minutes; ' +
    '`/api/v1/users/refresh` brings the next one.\n\n' +
    'Errors are problem documents (RFC 9457): their `type` is stable. A POST with an `Idempotency-Key` may be repeated. ' +
    'A change needs the `ETag` of what it changes in `If-Match`. Lists return a `next_cursor` until the last page.';

async function merged(r) {
    const pools = r.variables.service_pools.split(' ').filter(pool => pool !== '');
    const responses = await Promise.all(pools.map(pool => r.subrequest('/-/openapi/' + pool)));
    const document = {
        openapi: '3.1.0',
        info: { title: 'Baseplate', version: '1', description: INTRODUCTION },
        servers: [{ url: '/' }],
        paths: {},
        components: { schemas: {}, examples: {}, securitySchemes: {} },
        tags: [],
    };
    // During a release a service has two pools; the document of the first that responds is used, and the stable pool comes first.
    const texts = {};
    pools.forEach((pool, index) => {
        const service = pool.replace(/_v[0-9]+$/, '');
        texts[service] = texts[service] || (responses[index].status === 200 ? responses[index].responseText : '');
    });
    const services = Object.keys(texts);
    const missing = services.filter(service => texts[service] === '');
    services.filter(service => texts[service] !== '').forEach(service => add(document, service, texts[service]));
    if (missing.length > 0) {
        document.info.description += '\n\nUnavailable at the moment, so not listed here: ' + missing.join(', ') + '.';
    }
    keepUsed(document);
    r.headersOut['Content-Type'] = 'application/json';
    // A release may add paths.
    r.headersOut['Cache-Control'] = 'no-cache';
    r.return(missing.length < services.length ? 200 : 503, JSON.stringify(document));
}

function add(document, service, text) {
    // Two services may have different schemas with the same name.
    const own = SCHEMAS + service + '.';
    const theirs = JSON.parse(text.split(SCHEMAS).join(own).split(own + SHARED + '"').join(SCHEMAS + SHARED + '"'));
    Object.keys(theirs.paths).filter(path => ROUTED.test(path)).forEach(path => {
        const operations = theirs.paths[path];
        Object.keys(operations).forEach(method => {
            operations[method].tags = [service];
        });
        document.paths[path] = operations;
    });
    const components = theirs.components || {};
    Object.keys(components.schemas || {}).forEach(name => {
        document.components.schemas[name === SHARED ? name : service + '.' + name] = components.schemas[name];
    });
    // The example of an error is the same in all services.
    Object.assign(document.components.examples, components.examples);
    Object.assign(document.components.securitySchemes, components.securitySchemes);
    document.tags.push({ name: service, description: theirs.info.title });
}

// Remove the schemas and examples that only internal paths use.
function keepUsed(document) {
    const parts = document.components;
    const used = {};
    const visit = value => (JSON.stringify(value).match(REFERENCE) || []).forEach(reference => {
        const path = reference.slice('"#/components/'.length, -1).split('/');
        if (!used[reference] && parts[path[0]][path[1]]) {
            used[reference] = true;
            visit(parts[path[0]][path[1]]);
        }
    });
    visit(document.paths);
    ['schemas', 'examples'].forEach(part => {
        Object.keys(parts[part]).filter(name => !used['"#/components/' + part + '/' + name + '"'])
            .forEach(name => delete parts[part][name]);
    });
}

export default { merged };
