/*
 * Durations in the public interface: ms as a number, or text like "30s".
 */
export type Duration = number | `${number}${"ms" | "s" | "m" | "h"}`;

const UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Whole ms; throws a `TypeError` for anything else. */
export function toMs(duration: Duration): number {
  const ms = typeof duration === "number" ? duration : parseFloat(duration) * (UNITS[duration.replace(/^[\d.]+/, "")] ?? NaN);
  if (!(ms >= 0)) throw new TypeError("not a duration");
  return Math.round(ms);
}
