/**
 * The chat room: what was said in the order of the log, what this page said and is not yet in it, who is here, and
 * paging into the past. app.ts feeds it. It shows each publication id once, wherever it came from.
 */
import type { Arrival } from "./arrival.ts";
import type { Entry, Link } from "./link.ts";
import { byId, element } from "./surface.ts";

/** Lines kept in the page; older ones can be paged in again. */
const LINES_MAX = 600;
const PAGE = 30;
/** Nearer to the end than this, new lines keep the end in sight. */
const FOLLOW_PX = 60;
const MEMBERS_SHOWN = 12;

type State = "waiting" | "acked" | "said" | "failed";

/** One message; plain, so that it outlives a reload. */
export interface Line {
  id: string;
  by: string;
  text: string;
  at: number;
  /** Its place in the log; 0 while it has none. */
  offset: number;
  state: State;
  replayed: boolean;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** A person's colour, from the name alone. */
function hue(name: string): string {
  let sum = 7;
  for (const letter of name) sum = (sum * 31 + (letter.codePointAt(0) ?? 0)) % 360;
  return String(sum);
}

export class Chat {
  private readonly lines = new Map<string, { line: Line; host: HTMLElement }>();
  private readonly list = byId("messages");
  private readonly scroll = byId("chat-scroll");
  private readonly earlier = byId<HTMLButtonElement>("older");
  private more = true;
  private paging = false;
  /** Pages are of one epoch; in another one, paging begins anew. */
  private oldest: number | undefined;

  constructor(private readonly me: string, private readonly link: () => Link) {
    const text = byId<HTMLInputElement>("chat-text");
    byId("write").addEventListener("submit", (event) => {
      event.preventDefault();
      const said = text.value.trim();
      if (said === "") return;
      text.value = "";
      this.send(said);
    });
    this.earlier.addEventListener("click", () => void this.page());
    this.scroll.addEventListener("scroll", () => {
      if (this.scroll.scrollTop < 8 && this.scroll.scrollHeight > this.scroll.clientHeight) void this.page();
    });
  }

  /** Takes one publication of the room. */
  take(a: Arrival): void {
    this.put(a, a.replayed);
  }

  /** Fetches the page of messages before the oldest one shown. */
  async page(): Promise<void> {
    if (this.paging || !this.more) return;
    this.paging = true;
    const height = this.scroll.scrollHeight;
    try {
      const page = await this.link().older("chat:lobby", this.oldest, PAGE);
      this.more = page.more;
      for (const item of page.items) this.put(item, false);
      const first = page.items[0];
      if (first !== undefined) this.oldest = Math.min(first.offset, this.oldest ?? first.offset);
      if (height > this.scroll.clientHeight) this.scroll.scrollTop += this.scroll.scrollHeight - height;
      else this.scroll.scrollTop = this.scroll.scrollHeight;
    } catch {
      // Out of reach: the button stays and the next visit of the top tries again.
    } finally {
      this.paging = false;
      this.earlier.disabled = !this.more;
    }
  }

  /** Shows who is in the room. */
  members(users: readonly string[]): void {
    const names = [...new Set(users)].sort((a, b) => Number(b === this.me) - Number(a === this.me) || a.localeCompare(b));
    const chips = names.slice(0, MEMBERS_SHOWN).map((name) => {
      const chip = element("li", name === this.me ? "self" : "");
      const face = element("i", "", [...name][0]?.toUpperCase() ?? "?");
      face.style.setProperty("--hue", hue(name));
      face.setAttribute("aria-hidden", "true");
      chip.append(face, name === this.me ? `${name} (you)` : name);
      return chip;
    });
    if (names.length > MEMBERS_SHOWN) chips.push(element("li", "", `and ${names.length - MEMBERS_SHOWN} more`));
    byId("members").replaceChildren(...chips);
  }

  /** What to keep over a reload. */
  save(): Line[] {
    return [...this.lines.values()].map(({ line }) => line).slice(-LINES_MAX);
  }

  /** Puts back what was kept. */
  restore(lines: readonly Line[]): void {
    for (const line of lines) this.show({ ...line });
    this.scroll.scrollTop = this.scroll.scrollHeight;
  }

  private send(text: string): void {
    const { id, acked } = this.link().say(text);
    this.show({ id, by: this.me, text, at: Date.now(), offset: 0, state: "waiting", replayed: false });
    this.scroll.scrollTop = this.scroll.scrollHeight;
    acked.then(
      ({ offset }) => this.change(id, (line) => {
        line.offset = offset;
        if (line.state === "waiting") line.state = "acked";
      }),
      () => this.change(id, (line) => (line.state = line.state === "said" ? "said" : "failed")),
    );
  }

  private put(entry: Entry, replayed: boolean): void {
    const text = (entry.data as { text?: unknown } | null)?.text;
    if (entry.deleted || typeof text !== "string") return;
    const id = entry.id ?? `${entry.epoch}/${entry.offset}`;
    const known = this.lines.get(id);
    if (known !== undefined) {
      this.change(id, (line) => Object.assign(line, { offset: entry.offset, at: entry.published, state: "said" }));
      return;
    }
    this.show({ id, by: entry.by ?? "someone", text, at: entry.published, offset: entry.offset, state: "said", replayed });
  }

  private change(id: string, edit: (line: Line) => void): void {
    const known = this.lines.get(id);
    if (known === undefined) return;
    edit(known.line);
    const follow = this.follows();
    this.dress(known.line, known.host);
    this.place(known.line, known.host);
    if (follow) this.scroll.scrollTop = this.scroll.scrollHeight;
  }

  private show(line: Line): void {
    const follow = this.follows();
    const host = element("li");
    this.lines.set(line.id, { line, host });
    this.dress(line, host);
    this.place(line, host);
    byId("chat-empty").hidden = true;
    if (this.lines.size > LINES_MAX) this.forget();
    if (follow) this.scroll.scrollTop = this.scroll.scrollHeight;
  }

  private forget(): void {
    const [id, oldest] = this.lines.entries().next().value ?? [];
    if (id === undefined || oldest === undefined) return;
    oldest.host.remove();
    this.lines.delete(id);
  }

  private follows(): boolean {
    return this.scroll.scrollHeight - this.scroll.scrollTop - this.scroll.clientHeight < FOLLOW_PX;
  }

  private dress(line: Line, host: HTMLElement): void {
    const mine = line.by === this.me;
    host.className = [mine ? "mine" : "", line.replayed ? "replayed" : ""].filter(Boolean).join(" ");
    host.dataset["state"] = line.state;
    host.dataset["id"] = line.id;
    host.style.setProperty("--hue", hue(line.by));
    const parts: Node[] = [];
    if (!mine) parts.push(element("span", "who", line.by));
    parts.push(element("span", "said", line.text));
    const meta = element("span", "meta");
    if (mine && (line.state === "said" || line.state === "acked")) {
      const ticks = element("span", "ticks", line.state === "said" ? "✓✓" : "✓");
      ticks.title = line.state === "said" ? "in the log, and delivered back" : "in the log";
      meta.append(ticks, " ");
    }
    const text = { waiting: "waiting for the network", failed: "not sent", acked: `@ ${line.offset}`, said: `@ ${line.offset}` }[line.state];
    meta.append(`${clock.format(line.at)} · ${text}`);
    parts.push(meta);
    host.replaceChildren(...parts);
  }

  /** Log order; what has no place in it yet stays last. */
  private place(line: Line, host: HTMLElement): void {
    host.dataset["offset"] = String(line.offset);
    const rank = line.offset === 0 ? Infinity : line.offset;
    let after = this.list.lastElementChild as HTMLElement | null;
    while (after !== null && (after === host || (Number(after.dataset["offset"]) || Infinity) > rank)) {
      after = after.previousElementSibling as HTMLElement | null;
    }
    if (after === null) {
      if (this.list.firstElementChild !== host) this.list.prepend(host);
    } else if (after.nextElementSibling !== host) after.after(host);
  }
}

