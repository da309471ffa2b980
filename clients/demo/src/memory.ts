/**
 * What the page keeps over a reload of its tab: the books, the report, what the panels show. The client keeps session
 * and cursors itself; this keeps the page's own count beside them, so that a reload can be checked like any outage.
 * Session storage only; a page that cannot store starts anew.
 */
import type { Outage } from "./arrival.ts";
import type { Fix } from "./courier.ts";
import type { Stroke } from "./fan.ts";
import type { Ledger } from "./ledger.ts";
import type { Report } from "./report.ts";
import type { Course } from "./board.ts";
import type { Line } from "./chat.ts";
import type { Entry } from "./link.ts";

/** Everything that is kept. */
export interface Memory {
  user: string;
  /** When it was written, in ms of the page's clock. */
  at: number;
  resumes: number;
  session: string;
  books: Record<string, Ledger>;
  report: Report | undefined;
  outages: Outage[];
  /** The rulers' lines. */
  strokes: Record<string, Stroke[]>;
  order: Entry[];
  trail: Fix[];
  board: Record<string, Course>;
  chat: Line[];
}

const KEY = "tidewire-demo";

/** What this user's page kept, if anything. */
export function recall(user: string): Memory | undefined {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "null") as Memory | null;
    return kept !== null && kept.user === user ? kept : undefined;
  } catch {
    return undefined;
  }
}

/** Keeps it. */
export function keep(memory: Memory): void {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(memory));
  } catch {
    // Storage is full or forbidden: the next reload starts anew, and says so.
  }
}

/** The name this tab writes under. */
export function userName(): string {
  try {
    const known = sessionStorage.getItem(`${KEY}-user`);
    if (known !== null && known !== "") return known;
  } catch {
    // Without storage every load is another guest.
  }
  const name = `guest-${Math.floor(Math.random() * 0xfff).toString(16).padStart(3, "0")}`;
  renameUser(name);
  return name;
}

/** Takes another name; the page has to be loaded anew, since a session belongs to one user. */
export function renameUser(name: string): void {
  try {
    sessionStorage.setItem(`${KEY}-user`, name);
    sessionStorage.removeItem(KEY);
  } catch {
    // See above.
  }
}
