/** Write the libraries of the page from their npm packages into page/vendor/, or with --check compare what is there. */

import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const VENDOR = here("console_service/page/vendor/");
// A browser resolves no bare name without an import map, and an import map would be an inline script.
const bySibling = (text) => text.replaceAll('from"preact"', 'from"./preact.js"');
const withoutSourceMap = (text) => text.replace(/\n\/\/# sourceMappingURL=\S+\s*$/, "\n");
const FILES = {
  "preact.js": ["preact/dist/preact.mjs", withoutSourceMap],
  "preact-hooks.js": ["preact/hooks/dist/hooks.mjs", (text) => bySibling(withoutSourceMap(text))],
  "preact.LICENSE": ["preact/LICENSE"],
  "htm.js": ["htm/dist/htm.module.js"],
  "htm.LICENSE": ["htm/LICENSE"],
  "uplot.js": ["uplot/dist/uPlot.esm.js"],
  "uplot.css": ["uplot/dist/uPlot.min.css"],
  "uplot.LICENSE": ["uplot/LICENSE"],
};

const contents = {};
for (const [name, [source, change = (text) => text]] of Object.entries(FILES)) {
  contents[name] = change(await readFile(here(`node_modules/${source}`), "utf8"));
}
const sum = (text) => createHash("sha256").update(text).digest("hex");
contents.SHA256SUMS = Object.entries(contents)
  .map(([name, text]) => `${sum(text)}  ${name}\n`)
  .join("");

const differing = [];
for (const [name, text] of Object.entries(contents)) {
  if (process.argv.includes("--check")) {
    if ((await readFile(VENDOR + name, "utf8").catch(() => "")) !== text) {
      differing.push(name);
    }
  } else {
    await writeFile(VENDOR + name, text);
  }
}
if (differing.length > 0) {
  console.error(`page/vendor/ differs from the pinned packages (make console-vendor writes it): ${differing.join(", ")}`);
  process.exitCode = 1;
}
