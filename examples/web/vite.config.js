import { defineConfig } from "vite";

export default defineConfig({
  // The gateway's Content-Security-Policy allows scripts from files only, and Vite writes no others.
  build: { target: "es2022", assetsInlineLimit: 0 },
});
