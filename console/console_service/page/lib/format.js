/** Figures, times and sizes as text. */

const NONE = "–";
const counts = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

/** @typedef {number | null | undefined} Figure */

/** @param {Figure} value */
export const count = (value) => (value === null || value === undefined ? NONE : counts.format(value));

/** One or many of something. @param {number} value @param {string} one @param {string} [many] */
export const plural = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;

/** Two digits, or all before the point. @param {Figure} value */
export function short(value) {
  if (value === null || value === undefined) {
    return NONE;
  }
  return value >= 100 ? counts.format(value) : String(Number(value.toPrecision(value < 0.1 ? 1 : 2)));
}

/** @param {Figure} value */
export const perSecond = (value) => `${short(value)}/s`;

/** @param {Figure} ms */
export function duration(ms) {
  if (ms === null || ms === undefined) {
    return NONE;
  }
  return ms >= 1000 ? `${short(ms / 1000)} s` : `${short(ms)} ms`;
}

/** @param {Figure} seconds */
export function age(seconds) {
  if (seconds === null || seconds === undefined) {
    return NONE;
  }
  for (const [size, name] of /** @type {[number, string][]} */ ([[86400, "d"], [3600, "h"], [60, "min"]])) {
    if (seconds >= size) {
      return `${Math.floor(seconds / size)} ${name}`;
    }
  }
  return `${Math.max(0, Math.floor(seconds))} s`;
}

/** When a key was made. Its id has the day only. @param {Figure} seconds */
export function madeOn(seconds) {
  if (seconds === null || seconds === undefined) {
    return NONE;
  }
  const days = Math.floor(seconds / 86400);
  return days < 1 ? "today" : `${plural(days, "day")} ago`;
}

/** @param {Figure} bytes */
export function size(bytes) {
  if (bytes === null || bytes === undefined) {
    return NONE;
  }
  let rest = bytes;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (rest < 1000) {
      return `${short(rest)} ${unit}`;
    }
    rest /= 1000;
  }
  return `${short(rest)} TB`;
}

/** @param {number | null | undefined} ratio */
export const percent = (ratio) => (ratio === null || ratio === undefined ? NONE : `${short(100 * ratio)} %`);

/** @param {string | number} at */
export function time(at) {
  const moment = new Date(at);
  return `${clock.format(moment)}.${String(moment.getMilliseconds()).padStart(3, "0")}`;
}

/** @param {number} seconds */
export const minute = (seconds) => clock.format(seconds * 1000).slice(0, 5);

/** @param {string | number | null | undefined} at */
export function dateTime(at) {
  if (at === null || at === undefined) {
    return NONE;
  }
  const moment = new Date(at);
  return `${day.format(moment)}, ${clock.format(moment)}`;
}
