/**
 * Figures as operators read them: short, of one width, with their unit. Pure. What is not known is a dash, never a 0.
 */
export const NOTHING = "–";

export function count(value: number | undefined | null): string {
  if (value === undefined || value === null) return NOTHING;
  if (value >= 1e6) return `${trim(value / 1e6)} M`;
  if (value >= 1e4) return `${trim(value / 1e3)} k`;
  return String(Math.round(value));
}

/** Something a second. */
export function rate(value: number | undefined | null): string {
  if (value === undefined || value === null) return NOTHING;
  return value > 0 && value < 10 ? value.toFixed(1) : count(value);
}

export function bytes(value: number | undefined | null): string {
  if (value === undefined || value === null) return NOTHING;
  if (value >= 1 << 30) return `${trim(value / (1 << 30))} GiB`;
  if (value >= 1 << 20) return `${trim(value / (1 << 20))} MiB`;
  return `${trim(value / 1024)} KiB`;
}

/** Seconds as a bound of a bucket. */
export function bound(seconds: number | undefined | null): string {
  if (seconds === undefined || seconds === null) return NOTHING;
  if (seconds > 1e6) return "> 10 s";
  return seconds >= 1 ? `≤ ${trim(seconds)} s` : `≤ ${trim(seconds * 1e3)} ms`;
}

export function millis(value: number | undefined | null): string {
  if (value === undefined || value === null) return NOTHING;
  return value >= 1000 ? `${trim(value / 1000)} s` : `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

export function lag(value: number | undefined | null): string {
  if (value === undefined || value === null) return NOTHING;
  if (value > 65_536) return "> 65 k";
  return value === 0 ? "0" : `≤ ${count(value)}`;
}

export function cores(value: number | undefined | null): string {
  return value === undefined || value === null ? NOTHING : value.toFixed(2);
}

/** A length of time: its two largest units. */
export function span(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

export function clock(ms: number): string {
  return new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

function trim(value: number): string {
  return value >= 100 ? String(Math.round(value)) : value.toFixed(value >= 10 ? 1 : 2).replace(/\.?0+$/, "");
}
