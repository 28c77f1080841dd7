/*
 * GET /lb-health: 200 when every service answers its own /health, otherwise 503.
 */

async function report(r) {
    const pools = r.variables.service_pools.split(' ').filter(pool => pool !== '');
    const answers = await Promise.all(pools.map(pool => r.subrequest('/-/probe/' + pool)));
    const services = {};
    let allUp = true;
    pools.forEach((pool, index) => {
        const service = pool.replace(/_v[0-9]+$/, '');
        const up = answers[index].status === 200 && services[service] !== 'down';
        services[service] = up ? 'up' : 'down';
        allUp = allUp && up;
    });
    r.headersOut['Content-Type'] = 'application/json';
    // A balancer must hear of a change at once.
    r.headersOut['Cache-Control'] = 'no-store';
    r.return(allUp ? 200 : 503, JSON.stringify({ services: services }));
}

export default { report };
