import { fileURLToPath } from "node:url";

import { defineConfig } from "vite";

export default defineConfig({
  // The client's source, so that nothing has to be built first.
  resolve: { alias: { "baseplate-client": fileURLToPath(new URL("../../clients/typescript/src/index.ts", import.meta.url)) } },
  // The gateway's Content-Security-Policy allows scripts from files only, and Vite writes no others.
  build: { target: "es2022", assetsInlineLimit: 0 },
});
