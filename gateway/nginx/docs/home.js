// Show which services are up, and again every 5 s while the page is visible.
const list = document.getElementById('services');

async function refresh() {
    if (document.hidden) return;
    let lines;
    try {
        const {services} = await (await fetch('/lb-health')).json();
        lines = Object.entries(services).map(([name, state]) => `${name}: ${state}`);
    } catch {
        lines = ['The gateway does not respond.'];
    }
    list.replaceChildren(...lines.map((line) => Object.assign(document.createElement('li'), {textContent: line})));
}

refresh();
setInterval(refresh, 5000);
document.addEventListener('visibilitychange', refresh);
