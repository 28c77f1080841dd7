/** Where the API can be read and tried. */

import { Heading, Panel } from "../lib/parts.js";
import { html } from "../lib/ui.js";

export default function ApiPage() {
  return html`
    <${Heading} title="API" about="All services in one description." />
    <div class="panels">
      <${Panel} title="Read and try it" id="docs">
        <p><a class="action" href="/docs" target="_blank" rel="noopener">Open the API documentation</a></p>
        <p>
          To send requests from it, press <b>Authorize</b> there and give your username and password. This page cannot sign you in: the console keeps its tokens on
          the server, where no script of a page can read them.
        </p>
      <//>
      <${Panel} title="For programs" id="programs">
        <p><a href="/openapi.json">openapi.json</a> is what the clients for Python and TypeScript are made from.</p>
        <p>For scripts, create an API key: <code>POST /api/v1/users/api-keys</code>.</p>
      <//>
    </div>
  `;
}
