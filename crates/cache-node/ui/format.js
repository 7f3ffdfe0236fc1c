// Figures as people read them: always with a unit, never more digits than they are worth. What is not known is a dash. A unit
// never begins a line without its figure: the space before it (NB) does not break.

export const DASH = "–";
const NB = "\u00a0";
const known = (value) => typeof value === "number" && Number.isFinite(value);
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const decimals = [0, 1, 2, 3].map((digits) => new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }));

/** Three significant digits, so that a figure does not change its width all the time. */
function three(value) {
  const size = Math.abs(value);
  return decimals[size >= 99.95 || size === 0 ? 0 : size >= 9.995 ? 1 : 2].format(value);
}

export const count = (value) => (known(value) ? whole.format(value) : DASH);

export function short(value) {
  if (!known(value)) return DASH;
  if (Math.abs(value) < 10_000) return Number.isInteger(value) ? whole.format(value) : three(value);
  const [divisor, letter] = value < 1e6 ? [1e3, "k"] : value < 1e9 ? [1e6, "M"] : [1e9, "G"];
  return `${three(value / divisor)}${NB}${letter}`;
}

/** A share of 0 to 1. */
export const percent = (value) => (known(value) ? `${decimals[value > 0 && value < 1 ? 1 : 0].format(value * 100)}${NB}%` : DASH);

export const perSecond = (value) => (known(value) ? `${value !== 0 && Math.abs(value) < 10 ? decimals[1].format(value) : short(Math.round(value))}/s` : DASH);

/** Milliseconds in the unit that suits. */
export function ms(value) {
  if (!known(value)) return DASH;
  if (value !== 0 && Math.abs(value) < 1) return `${three(value * 1000)}${NB}µs`;
  if (Math.abs(value) < 10_000) return `${three(value)}${NB}ms`;
  return span(value);
}

export const us = (value) => ms(known(value) ? value / 1000 : undefined);

export function bytes(value) {
  if (!known(value)) return DASH;
  if (value < 1000) return `${whole.format(value)}${NB}B`;
  const step = Math.min(4, Math.floor(Math.log10(value) / 3));
  return `${three(value / 1000 ** step)}${NB}${["", "kB", "MB", "GB", "TB"][step]}`;
}

/** A span of milliseconds, roughly. */
export function span(value) {
  if (!known(value)) return DASH;
  const s = Math.round(Math.abs(value) / 1000);
  if (s < 100) return `${s}${NB}s`;
  if (s < 5_400) return `${Math.round(s / 60)}${NB}min`;
  if (s < 129_600) return `${Math.round(s / 3600)}${NB}h`;
  return `${Math.round(s / 86_400)}${NB}d`;
}

/** Whole millionths of a dollar. */
export const dollars = (micro) => (known(micro) ? `$${decimals[micro % 10_000 === 0 || micro >= 10e6 ? 2 : 3].format(micro / 1e6)}` : DASH);

const time = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const minute = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const date = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

const valid = (when) => { const at = new Date(when ?? NaN); return Number.isNaN(at.getTime()) ? null : at; };
export const clock = (when) => { const at = valid(when); return at ? time.format(at) : DASH; };
export const minutes = (when) => { const at = valid(when); return at ? minute.format(at) : DASH; };
export const day = (when) => { const at = valid(when); return at ? date.format(at) : DASH; };
/** With milliseconds, for events. */
export const precise = (when) => { const at = valid(when); return at ? `${time.format(at)}.${String(at.getMilliseconds()).padStart(3, "0")}` : DASH; };

/** `booking_created` as words. */
export const words = (name) => String(name).replaceAll("_", " ");
