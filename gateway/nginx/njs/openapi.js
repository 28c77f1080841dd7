/*
 * GET /openapi.json: the API documents of all services in one, with the paths that clients can reach.
 */

// The paths that the gateway routes. Probes, metrics and internal paths of services are not part of the public API.
const ROUTED = /^\/(?:api\/v1|\.well-known)\//;
const SCHEMAS = '"#/components/schemas/';

async function merged(r) {
    const pools = r.variables.service_pools.split(' ').filter(pool => pool !== '');
    const responses = await Promise.all(pools.map(pool => r.subrequest('/-/openapi/' + pool)));
    const document = {
        openapi: '3.1.0',
        info: { title: 'Baseplate', version: '1' },
        servers: [{ url: '/' }],
        paths: {},
        components: { schemas: {}, securitySchemes: {} },
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
        document.info.description = 'Unavailable at the moment, so not listed here: ' + missing.join(', ') + '.';
    }
    r.headersOut['Content-Type'] = 'application/json';
    // A release may add paths.
    r.headersOut['Cache-Control'] = 'no-cache';
    r.return(missing.length < services.length ? 200 : 503, JSON.stringify(document));
}

function add(document, service, text) {
    // Two services may have different schemas with the same name.
    const theirs = JSON.parse(text.split(SCHEMAS).join(SCHEMAS + service + '.'));
    Object.keys(theirs.paths).filter(path => ROUTED.test(path)).forEach(path => {
        const operations = theirs.paths[path];
        Object.keys(operations).forEach(method => {
            operations[method].tags = [service];
        });
        document.paths[path] = operations;
    });
    const components = theirs.components || {};
    Object.keys(components.schemas || {}).forEach(name => {
        document.components.schemas[service + '.' + name] = components.schemas[name];
    });
    Object.assign(document.components.securitySchemes, components.securitySchemes);
    document.tags.push({ name: service, description: theirs.info.title });
}

export default { merged };
