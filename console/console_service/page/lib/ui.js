/** Preact, its hooks and `html`, by which all modules write elements. */

import htm from "../vendor/htm.js";
import { h } from "../vendor/preact.js";

/** @typedef {import("preact").ComponentChildren} Children */
/** @typedef {import("preact").VNode<any>} Element */

export { Component, createRef, Fragment, render } from "../vendor/preact.js";
export * from "../vendor/preact-hooks.js";
export { h };
export const html = /** @type {(strings: TemplateStringsArray, ...values: any[]) => Element} */ (htm.bind(h));
