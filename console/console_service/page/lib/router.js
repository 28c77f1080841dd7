/** The page's address: `#/requests?status=5xx` names a page, what follows its name, and its filters. */

import { useEffect, useState } from "./ui.js";

/** @typedef {{page: string, rest: string, query: Record<string, string>}} Address */

/** @returns {Address} */
export function address() {
  const [path = "", search = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [page = "", ...rest] = path.split("/").map(decodeURIComponent);
  return { page: page || "overview", rest: rest.join("/"), query: Object.fromEntries(new URLSearchParams(search)) };
}

/** @param {string} path @param {Record<string, string | null | undefined>} [query] */
export function linkTo(path, query = {}) {
  const given = Object.entries(query).flatMap(([name, value]) => (value ? [[name, value]] : []));
  const search = new URLSearchParams(given).toString();
  return `#/${path}${search && `?${search}`}`;
}

/** Change the filters in the address, without a new entry of the history. @param {Record<string, string>} query */
export function setQuery(query) {
  const { page, rest } = address();
  history.replaceState(null, "", linkTo(rest ? `${page}/${encodeURIComponent(rest)}` : page, query));
  dispatchEvent(new HashChangeEvent("hashchange"));
}

export function useAddress() {
  const [current, setCurrent] = useState(address);
  useEffect(() => {
    const update = () => setCurrent(address());
    addEventListener("hashchange", update);
    return () => removeEventListener("hashchange", update);
  }, []);
  return current;
}
