/*
 * GET /lb-health: 200 if every service responds to its own /health, otherwise 503.
 */

async function report(r) {
    const pools = r.variables.service_pools.split(' ').filter(pool => pool !== '');
    const responses = await Promise.all(pools.map(pool => r.subrequest('/-/probe/' + pool)));
    const services = {};
    pools.forEach((pool, index) => {
        const service = pool.replace(/_v[0-9]+$/, '');
        // During a release a service has two pools, and is up if one of them is.
        if (services[service] !== 'up') {
            services[service] = responses[index].status === 200 ? 'up' : 'down';
        }
    });
    const allUp = Object.keys(services).every(service => services[service] === 'up');
    r.headersOut['Content-Type'] = 'application/json';
    // A load balancer must see a change at once.
    r.headersOut['Cache-Control'] = 'no-store';
    r.return(allUp ? 200 : 503, JSON.stringify({ services: services }));
}

export default { report };
