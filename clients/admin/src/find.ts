/**
 * Finding a channel, a user or a session, and one of them looked at closely. The place in the page's address (`#…`)
 * names what is looked at, so that it can be reloaded and passed on; it is read again every two seconds while it is
 * shown. app.ts owns one; subject.ts draws.
 */
import { Refused, type Api } from "./api.ts";
import type { Deeds } from "./deeds.ts";
import { at, fill, h, type Child } from "./dom.ts";
import { NOTHING } from "./format.ts";
import { draw, type Channel, type Found, type Kind, type Session, type Subject } from "./subject.ts";

/** Hits of each kind. */
const HITS = 8;
/** Typing rests this long before the hub is asked. */
const REST_MS = 300;
const AGAIN_MS = 2_000;

interface Hit {
  kind: Kind;
  name: string;
  aside: string;
}

export class Find {
  private readonly panel = at("found");
  private readonly results = at("results");
  private readonly subject = at("subject");
  private readonly query = at<HTMLInputElement>("query");
  private asking: AbortController | undefined;
  private typing = 0;
  private reading = 0;
  /** What is looked at. */
  private shown: { kind: Kind; name: string } | undefined;
  private gone = false;
  private readable = false;

  constructor(
    private readonly api: Api,
    private readonly deeds: Deeds,
    private readonly now: () => number,
  ) {
    at<HTMLFormElement>("search").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.search();
    });
    this.query.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = window.setTimeout(() => void this.search(), REST_MS);
    });
    at("found-close").addEventListener("click", () => this.close());
    addEventListener("hashchange", () => this.place());
    addEventListener("keydown", (event) => this.key(event));
    setInterval(() => void this.read(), AGAIN_MS);
  }

  /** The door is open. */
  begin(): void {
    this.readable = true;
    this.place();
  }

  /** What the address names. */
  private place(): void {
    const [, kind, name] = /^#(session|channel|user)\/(.+)$/.exec(location.hash) ?? [];
    this.shown = kind === undefined || name === undefined ? undefined : { kind: kind as Kind, name: decode(name) };
    this.gone = false;
    for (const hit of this.results.querySelectorAll("a")) hit.toggleAttribute("aria-current", hit.hash === location.hash);
    fill(this.subject, this.shown !== undefined && h("p", { class: "empty" }, `Reading ${this.shown.name}…`));
    this.panel.hidden = this.shown === undefined && this.results.childElementCount === 0;
    if (this.shown === undefined) return;
    document.title = `${this.shown.name} · Tidewire`;
    void this.read();
    this.panel.scrollIntoView({ block: "nearest" });
  }

  private close(): void {
    this.asking?.abort();
    fill(this.results);
    this.query.value = "";
    this.panel.hidden = true;
    history.replaceState(null, "", location.pathname);
    document.title = "Tidewire · operator";
    this.place();
    this.query.focus();
  }

  private key(event: KeyboardEvent): void {
    const typing = event.target instanceof HTMLInputElement || event.ctrlKey || event.metaKey || event.altKey;
    if (event.key === "/" && !typing) {
      event.preventDefault();
      this.query.focus();
    } else if (event.key === "Escape" && !this.panel.hidden && document.querySelector("dialog[open]") === null) this.close();
  }

  private async search(): Promise<void> {
    clearTimeout(this.typing);
    const wanted = this.query.value.trim();
    this.asking?.abort();
    if (wanted === "") return fill(this.results);
    const asking = (this.asking = new AbortController());
    const q = encodeURIComponent(wanted);
    this.panel.hidden = false;
    if (this.results.childElementCount === 0) fill(this.results, h("p", { class: "empty" }, "Looking…"));
    const [channels, users, sessions] = await Promise.allSettled([
      wanted.startsWith("$") ? { channels: [], more: false } : this.api.get<{ channels: { channel: string; offset: number }[]; more: boolean }>(`/v1/channels?prefix=${q}&limit=${HITS}`, asking.signal),
      this.api.get<Found>(`/v1/sessions?user=${q}&limit=${HITS}`, asking.signal),
      this.api.get<Found>(`/v1/sessions?session=${q}&limit=${HITS}`, asking.signal),
    ]);
    if (asking.signal.aborted) return;
    const all = [
      group("Channels", channels, ({ channels }) => channels.map(({ channel, offset }) => ({ kind: "channel", name: channel, aside: `head ${offset}` }))),
      group("Users", users, ({ sessions }) => people(sessions)),
      group("Sessions", both(users, sessions), ({ sessions }) => sessions.map(({ session, user, node }) => ({ kind: "session", name: session, aside: `${user ?? "anonymous"} on ${node}` }))),
    ];
    const silent = [users, sessions].flatMap((answer) => (answer.status === "fulfilled" ? answer.value.silent : []));
    fill(this.results, ...all, silent.length > 0 && h("p", { class: "bad" }, `${[...new Set(silent)].join(", ")} did not answer: there may be more.`));
  }

  /** Reads what is looked at, unless nobody can see it. */
  private async read(): Promise<void> {
    const { shown } = this;
    if (shown === undefined || this.gone || !this.readable || document.hidden || this.panel.hidden) return;
    const reading = ++this.reading;
    const name = encodeURIComponent(shown.name);
    try {
      const subject: Subject =
        shown.kind === "session"
          ? { kind: "session", of: await this.api.get<Session>(`/v1/sessions/${name}`) }
          : shown.kind === "channel"
            ? { kind: "channel", of: await this.api.get<Channel>(`/v1/channels/${name}`) }
            : { kind: "user", name: shown.name, of: await this.api.get<Found>(`/v1/sessions?user=${name}&exact=true&limit=100`) };
      if (reading === this.reading) this.show(subject);
    } catch (error) {
      if (reading !== this.reading) return;
      // What is gone stays gone: asking again would only be refused again.
      this.gone = error instanceof Refused && error.status === 404;
      fill(this.subject, h("h3", { class: "title" }, shown.name), h("p", { class: "error" }, error instanceof Error ? error.message : NOTHING));
    }
  }

  /** Focus stays where it was: what is drawn anew has the same buttons. */
  private show(subject: Subject): void {
    const held = this.subject.contains(document.activeElement) ? document.activeElement?.getAttribute("data-focus") : undefined;
    draw(this.subject, subject, this.now(), { disconnect: (kind, name) => void this.disconnect(kind, name) });
    if (held !== undefined && held !== null) this.subject.querySelector<HTMLElement>(`[data-focus="${CSS.escape(held)}"]`)?.focus();
  }

  private async disconnect(kind: "session" | "user", name: string): Promise<void> {
    const path = `/v1/${kind}s/${encodeURIComponent(name)}`;
    await this.deeds.ask({
      title: `Disconnect ${kind} ${name}?`,
      text:
        kind === "session"
          ? "Its client is told to stay away (4403), and nothing of the session can be resumed. A program that connects anew with a valid token gets a new session."
          : "Every session of this user that has a connection, on every node, is ended and cannot be resumed. To keep the user out, withdraw the tokens as well: POST /v1/tokens/revoke.",
      verb: "Disconnect",
      doing: `Disconnect ${kind} ${name}`,
      run: async () => {
        if (kind === "session") {
          await this.api.delete(path);
          return "ended";
        }
        const { disconnected } = await this.api.post<{ disconnected: number }>(`${path}/disconnect`);
        return `ended ${disconnected} here; the other nodes end theirs within 5 s`;
      },
    });
    await this.read();
    if (this.query.value !== "") await this.search();
  }
}

function group<T extends { more: boolean }>(title: string, answer: PromiseSettledResult<T>, hits: (found: T) => Hit[]): Child {
  const found = answer.status === "fulfilled" ? hits(answer.value) : [];
  const failed = answer.status === "rejected" && h("p", { class: "error" }, answer.reason instanceof Error ? answer.reason.message : NOTHING);
  const none = answer.status === "fulfilled" && found.length === 0 && h("p", { class: "none" }, "none");
  const items = found.map(({ kind, name, aside }) => h("li", {}, h("a", { href: `#${kind}/${encodeURIComponent(name)}` }, h("b", {}, name), h("small", {}, aside))));
  return h("section", {}, h("h3", {}, title), failed, none, h("ul", { class: "hits" }, ...items), answer.status === "fulfilled" && answer.value.more && h("p", { class: "none" }, "and more: type further"));
}

/** Sessions by their user and by their id, as one answer. */
function both(one: PromiseSettledResult<Found>, other: PromiseSettledResult<Found>): PromiseSettledResult<Found> {
  if (one.status === "rejected") return one;
  if (other.status === "rejected") return other;
  const sessions = new Map([...one.value.sessions, ...other.value.sessions].map((found) => [found.session, found]));
  return { status: "fulfilled", value: { sessions: [...sessions.values()], more: one.value.more || other.value.more, silent: [] } };
}

function people(sessions: Found["sessions"]): Hit[] {
  const counts = new Map<string, number>();
  for (const { user } of sessions) if (user !== undefined) counts.set(user, (counts.get(user) ?? 0) + 1);
  return [...counts].map(([name, count]) => ({ kind: "user", name, aside: count === 1 ? "1 session" : `${count} sessions` }));
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
