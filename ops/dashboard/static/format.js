// Numbers, amounts and times as texts for people. Times are local; utc() gives what stands in the tooltip.

const LOCALE = "en-GB";
const NONE = "–";
const whole = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat(LOCALE, { notation: "compact", maximumFractionDigits: 1 });
const amount = new Intl.NumberFormat(LOCALE, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const significant = new Intl.NumberFormat(LOCALE, { maximumSignificantDigits: 4 });
const percentage = new Intl.NumberFormat(LOCALE, { style: "percent", maximumFractionDigits: 1 });
const moment = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat(LOCALE, { timeStyle: "medium" });
const dayOfMonth = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "short", timeZone: "UTC" });

const missing = (value) => value === null || value === undefined || Number.isNaN(value);
const unless = (format) => (value) => (missing(value) ? NONE : format(value));

export const count = unless((value) => whole.format(value));
export const compact = unless((value) => (Math.abs(value) < 10_000 ? whole : short).format(value));
export const rate = unless((value) => (value < 10 ? significant.format(Number(value.toFixed(1))) : whole.format(value)));
export const figure = unless((value) => significant.format(value));
export const share = unless((value) => percentage.format(value));
export const money = unless((value) => amount.format(value));
export const dateTime = unless((value) => moment.format(new Date(value)));
export const time = unless((value) => clock.format(new Date(value)));
/** Of a day as "2026-03-14": days are UTC days everywhere in the service. */
export const day = unless((value) => dayOfMonth.format(new Date(`${value.slice(0, 10)}T00:00:00Z`)));

/** A score from 0 to 1; what is close to 1 does not become 1. */
export const score = unless((value) => (value >= 0.9995 && value < 1 ? value.toFixed(5) : value.toFixed(3)));

export function utc(value) {
  return missing(value) ? "" : `${new Date(value).toISOString().replace("T", " ").replace("Z", "")} UTC`;
}

export const seconds = unless((value) => {
  if (value < 1) return `${significant.format(Number((value * 1000).toPrecision(3)))} ms`;
  if (value < 120) return `${significant.format(Number(value.toPrecision(3)))} s`;
  return value < 7200 ? `${whole.format(value / 60)} min` : `${whole.format(value / 3600)} h`;
});

export const bytes = unless((value) => {
  if (value < 1000) return `${value} bytes`;
  return value < 1_000_000 ? `${figure(Math.round(value / 100) / 10)} kB` : `${figure(Math.round(value / 100_000) / 10)} MB`;
});

/** How long ago: "just now", "4 min ago", "3 h ago", "2 days ago". */
export const ago = unless((value) => {
  const gone = (Date.now() - Date.parse(value)) / 1000;
  if (gone < 60) return "just now";
  if (gone < 3600) return `${Math.floor(gone / 60)} min ago`;
  if (gone < 86_400) return `${Math.floor(gone / 3600)} h ago`;
  const days = Math.floor(gone / 86_400);
  return `${days} ${days === 1 ? "day" : "days"} ago`;
});

/** "average_precision" -> "average precision". */
export const words = (name) => name.replaceAll("_", " ");

export const plural = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;
