/**
 * The demo page: builds the panels, opens the link, enters what comes into the books, draws once a frame, and keeps
 * what a reload must not lose. The entry of the bundle. Everything that happens is told by the link; nothing is
 * simulated here.
 */
import { CHANNELS, type Arrival, type Outage } from "./arrival.ts";
import { Board, type SeriesInfo } from "./board.ts";
import type { RoutePoint } from "./chart.ts";
import { Chat } from "./chat.ts";
import { Courier } from "./courier.ts";
import { openLink } from "./hub.ts";
import { begin, enter, enterGap, enterReset, ledger, type Ledger } from "./ledger.ts";
import type { Entry, Facts, Link, Listener, State } from "./link.ts";
import { keep, recall, renameUser, userName } from "./memory.ts";
import { Reporter, type Report } from "./report.ts";
import { byId, say } from "./surface.ts";
import { Tide } from "./tide.ts";

interface Config {
  token_url: string;
  route: RoutePoint[];
  series: SeriesInfo[];
  sources?: { text: string; licence: string }[];
}

/** Outages the rulers can still show. */
const OUTAGES_MAX = 8;
/** A crash between two of these would only cost the page its own count, never a cursor. */
const KEEP_EVERY_MS = 5_000;
/** Enough past for every series to have a course; the node's own limit is 256 a page. */
const PAST_PAGE = 256;
const PAST_PAGES = 4;
/** Channels read as the newest publication per key. */
const LATEST = new Set<string>(["dash:demo", "$presence:chat:lobby"]);
/** A view of keyed state shows no removals; one that ends the log is entered as this. */
const REMOVAL = { key: undefined, event: undefined, id: undefined, by: undefined, data: null, deleted: true };

class Page implements Listener {
  readonly books: Record<string, Ledger>;
  state: State = "connecting";
  link!: Link;
  resumes = 0;
  session = "";
  private readonly memory;
  private readonly tides = new Map<string, Tide>();
  private readonly outages: Outage[] = [];
  private readonly reporter: Reporter;
  private readonly courier: Courier;
  private readonly board: Board;
  private readonly chat: Chat;
  private readonly order = new Map<string, Entry>();
  private readonly catching = new Set<string>();
  private readonly staleSince = new Map<string, number>();
  private readonly lastArrival = new Map<string, number>();
  private readonly refusals = new Map<string, string>();
  private keptAt = 0;
  private paged = false;
  private filled = false;
  /** The page is being left: what ends now is no outage. */
  private leaving = false;
  private dropUntil = 0;

  constructor(config: Config, private readonly user: string) {
    this.memory = recall(user);
    this.books = Object.fromEntries(CHANNELS.map((channel) => [channel, this.memory?.books[channel] ?? ledger()]));
    this.reporter = new Reporter(this.books);
    this.courier = new Courier(config.route);
    this.board = new Board(config.series);
    this.chat = new Chat(user, () => this.link);
    for (const host of document.querySelectorAll<HTMLElement>("[data-tide]")) {
      const channel = host.dataset["tide"] as string;
      this.tides.set(channel, new Tide(host, this.books[channel] as Ledger));
    }
    this.restore();
    this.controls();
  }

  /** Opens the link and starts drawing. */
  start(config: Config): void {
    // Before the client's own listener, which ends the connection.
    addEventListener("pagehide", () => {
      this.save();
      this.leaving = true;
    });
    addEventListener("pageshow", () => (this.leaving = false));
    this.link = openLink({ user: this.user, tokenUrl: config.token_url, hz: chosen("hz"), keys: config.series.map(({ key }) => key) }, this);
    const frame = () => {
      this.draw(Date.now());
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  /** The last outage, as the report shows it. */
  get report(): Report | undefined {
    return this.reporter.report;
  }

  // The link's side.

  /** The connection changed. */
  tell(state: State, why: string): void {
    this.state = state;
    const pill = byId("status");
    pill.dataset["state"] = state;
    say(pill.lastElementChild as HTMLElement, state === "blocked" ? `blocked: ${why}` : state);
    pill.title = why;
    this.courier.reachable(state === "online");
    if (state !== "online" && this.session !== "" && !this.leaving) this.away(Date.now(), this.dropUntil > Date.now() ? "drop" : "network");
  }

  /** A connection was welcomed. */
  welcome(facts: Facts): void {
    const now = Date.now();
    this.facts(facts);
    const again = this.session !== "";
    this.session = facts.session;
    if (again && facts.resumed) this.resumes += 1;
    say(byId("resumes"), String(this.resumes));
    const outage = this.outages.at(-1);
    if (outage !== undefined && outage.until === undefined) outage.until = now;
    for (const channel of CHANNELS) this.catching.add(channel);
    this.reporter.back(now, facts.resumed);
  }

  /** What is known of the other end changed. */
  facts(facts: Facts): void {
    say(byId("node"), facts.node || "–");
    say(byId("session"), facts.session.slice(0, 8) || "–");
    byId("session").title = facts.session;
    say(byId("rtt"), facts.roundTrip === undefined ? "–" : `${facts.roundTrip.toFixed(facts.roundTrip < 10 ? 1 : 0)} ms`);
  }

  begin(channel: string, epoch: string, offset: number): void {
    if (channel === "orders:demo" && this.book(channel).epoch !== epoch) this.order.clear();
    begin(this.book(channel), epoch, offset, LATEST.has(channel) ? "latest" : "every");
    this.tides.get(channel)?.refresh();
  }

  arrival(a: Arrival): void {
    enter(this.book(a.channel), a);
    this.lastArrival.set(a.channel, a.arrived);
    this.reporter.take(a);
    const tide = this.tides.get(a.channel);
    tide?.add(a);
    tide?.refresh();
    this.show(a.channel, a, a.replayed, a.arrived);
  }

  newest(channel: string, epoch: string, items: readonly Entry[], to: number, replayed: boolean): void {
    const book = this.book(channel);
    const arrived = Date.now();
    for (const item of items) {
      if (item.offset <= book.offset) this.show(channel, item, replayed, arrived);
      else this.arrival({ ...item, epoch, channel, replayed, arrived, conflated: item.offset - book.offset - 1 });
    }
    if (to > book.offset) this.arrival({ ...REMOVAL, epoch, channel, offset: to, published: arrived, replayed, arrived, conflated: to - book.offset - 1 });
  }

  snapshot(channel: string, items: readonly Entry[]): void {
    for (const item of items) {
      if (item.offset > (this.order.get(item.key ?? "")?.offset ?? 0)) this.show(channel, item, false, Date.now());
    }
  }

  gap(channel: string, from: number, to: number): void {
    enterGap(this.book(channel), from, to);
    this.tides.get(channel)?.refresh();
  }

  reset(channel: string, epoch: string, offset: number): void {
    if (channel === "orders:demo") this.order.clear();
    enterReset(this.book(channel), epoch, offset);
    this.tides.get(channel)?.refresh();
  }

  renamed(channel: string, epoch: string): void {
    this.book(channel).epoch = epoch;
  }

  live(channel: string, at: number): void {
    this.catching.delete(channel);
    this.reporter.live(channel, at);
    if (channel === "chat:lobby" && !this.paged) {
      this.paged = true;
      void this.chat.page();
    }
    if (channel === "dash:demo" && !this.filled) {
      this.filled = true;
      void this.fill();
    }
  }

  refused(channel: string, name: string): void {
    this.refusals.set(channel, name);
  }

  stale(channel: string | undefined, since: number): void {
    for (const name of channel === undefined ? CHANNELS : [channel]) {
      if (since === 0) this.staleSince.delete(name);
      else this.staleSince.set(name, since);
    }
  }

  members(users: readonly string[]): void {
    this.chat.members(users);
  }

  // The page's side.

  private book(channel: string): Ledger {
    return (this.books[channel] ??= ledger());
  }

  private show(channel: string, entry: Entry, replayed: boolean, arrived: number): void {
    const item = { ...entry, channel, replayed, arrived, conflated: 0 };
    if (channel === "orders:demo") {
      if (entry.key !== undefined) this.order.set(entry.key, entry);
      this.courier.take(item);
    } else if (channel === "dash:demo") this.board.take(item);
    else if (channel === "chat:lobby") this.chat.take(item);
  }

  /** The dashboard begins with a past, where the channel kept one. */
  private async fill(): Promise<void> {
    let before: number | undefined;
    for (let page = 0; page < PAST_PAGES; page += 1) {
      const { items, more } = await this.link.older("dash:demo", before, PAST_PAGE).catch(() => ({ items: [], more: false }));
      this.board.prepend(items);
      before = items[0]?.offset;
      if (!more || before === undefined) return;
    }
  }

  private away(from: number, why: Outage["why"]): void {
    if (this.outages.at(-1) !== undefined && this.outages.at(-1)?.until === undefined) return;
    this.outages.push({ from, until: undefined, why });
    if (this.outages.length > OUTAGES_MAX) this.outages.shift();
    this.reporter.away(from, why);
  }

  private restore(): void {
    const kept = this.memory;
    if (kept === undefined) return;
    this.filled = true;
    this.resumes = kept.resumes;
    this.session = kept.session;
    this.outages.push(...kept.outages);
    for (const entry of kept.order) {
      if (entry.key === "courier") this.order.set("courier", entry);
      else this.show("orders:demo", entry, false, entry.published);
    }
    this.courier.restore(kept.trail);
    for (const [channel, strokes] of Object.entries(kept.strokes)) this.tides.get(channel)?.restore(strokes);
    this.board.restore(kept.board);
    this.chat.restore(kept.chat);
    this.reporter.restore(kept.report, kept.strokes);
    this.away(kept.at, "reload");
  }

  private save(): void {
    const { user, resumes, session, books, outages } = this;
    keep({
      user,
      at: Date.now(),
      resumes,
      session,
      books,
      report: this.reporter.report,
      outages,
      strokes: Object.fromEntries([...this.tides].map(([channel, tide]) => [channel, tide.save()])),
      order: [...this.order.values()],
      trail: this.courier.save(),
      board: this.board.save(),
      chat: this.chat.save(),
    });
  }

  private controls(): void {
    const name = byId<HTMLInputElement>("chat-name");
    name.value = this.user;
    name.addEventListener("change", () => {
      const wanted = name.value.trim();
      if (wanted === "" || wanted === this.user) return;
      renameUser(wanted);
      this.session = "";
      this.link.leave();
      location.reload();
    });
    byId("hz").addEventListener("change", () => this.link.rate(chosen("hz")));
    byId<HTMLButtonElement>("drop").addEventListener("click", () => {
      const ms = chosen("hold") * 1000;
      this.dropUntil = Date.now() + ms;
      this.link.drop(ms);
    });
  }

  private draw(now: number): void {
    for (const tide of this.tides.values()) tide.draw(now, this.outages);
    this.courier.draw(now);
    this.board.draw();
    this.board.count(this.book("dash:demo").conflated);
    this.reporter.draw(now);
    this.freshness(now);
    this.dropButton(now);
    if (now - this.keptAt > KEEP_EVERY_MS && this.session !== "" && !this.leaving) {
      this.keptAt = now;
      this.save();
    }
  }

  private dropButton(now: number): void {
    const button = byId<HTMLButtonElement>("drop");
    const left = Math.ceil((this.dropUntil - now) / 1000);
    button.disabled = left > 0;
    say(button.firstElementChild as HTMLElement, left > 0 ? `No network for ${left} s` : "Drop the network");
  }

  private freshness(now: number): void {
    for (const host of document.querySelectorAll<HTMLElement>("[data-fresh]")) {
      const channel = host.dataset["fresh"] as string;
      const last = this.lastArrival.get(channel);
      const age = last === undefined ? "" : `, ${Math.max(0, Math.round((now - last) / 1000))} s old`;
      const stale = this.staleSince.has(channel);
      const refused = this.refusals.get(channel);
      const [kind, text] = refused !== undefined ? ["lost", refused] : this.state !== "online" ? ["offline", `offline${age}`] : stale ? ["stale", `stale${age}`] : this.catching.has(channel) ? ["catching", "catching up"] : ["live", "live"];
      if (host.dataset["kind"] !== kind) host.dataset["kind"] = kind;
      say(host, text as string);
    }
  }
}

function chosen(name: string): number {
  return Number(document.querySelector<HTMLInputElement>(`input[name=${name}]:checked`)?.value ?? 0);
}

const config = (await (await fetch("/demo/config.json")).json()) as Config;
const page = new Page(config, userName());
if (config.sources !== undefined) {
  say(byId("sources"), `Recorded data, played back by the node. ${config.sources.map(({ text, licence }) => `${text} (${licence}).`).join(" ")}`);
}
page.start(config);

Object.defineProperty(window, "__tidewire", {
  value: {
    get status() {
      return page.state;
    },
    get channels() {
      return page.books;
    },
    get session() {
      return page.session;
    },
    get resumes() {
      return page.resumes;
    },
    get report() {
      return page.report;
    },
    get hub() {
      return page.link.hub;
    },
  },
});
