/**
 * One session, channel or user looked at closely. Pure drawing: find.ts reads what is shown and does what is asked.
 */
import { fill, h, type Child } from "./dom.ts";
import * as show from "./format.ts";
import { CLOSES } from "./table.ts";

export type Kind = "session" | "channel" | "user";

interface Head {
  epoch: string;
  offset: number;
}

interface Subscription {
  channel: string;
  mode: "every" | "latest";
  phase?: "snapshot" | "replay" | "live";
  epoch?: string;
  cursor?: number;
  floor: number;
  head: Head;
}

/** Something in a session's life. */
interface Event {
  at: number;
  node: string;
  what: "began" | "resumed" | "closed";
  /** Of a close: its code; none: the connection was lost. */
  code?: number;
  /** Of a resume: subscriptions that went on whole, started over, or were new. */
  full?: number;
  reset?: number;
  fresh?: number;
}

export interface Session {
  session: string;
  live: boolean;
  node?: string;
  user?: string;
  attempt: number;
  gaps?: number;
  rewinds?: number;
  /** Oldest first. */
  events: Event[];
  subscriptions: Subscription[];
}

export interface Found {
  sessions: { session: string; user?: string; node: string; since: number; subscriptions: number; lag: number }[];
  more: boolean;
  /** Nodes that did not answer. */
  silent: string[];
}

export interface Channel {
  channel: string;
  epoch: string;
  offset: number;
  first: number;
  keys?: number;
  more_keys?: boolean;
  generations: { generation: string; start: number }[];
  nodes: { node: string; subscribers: number; tail_bytes: number; gaps: number; rewinds: number }[];
  silent: string[];
}

export type Subject = { kind: "session"; of: Session } | { kind: "channel"; of: Channel } | { kind: "user"; name: string; of: Found };

export interface Deed {
  disconnect(kind: "session" | "user", name: string): void;
}

export function draw(into: Element, subject: Subject, now: number, deed: Deed): void {
  switch (subject.kind) {
    case "session":
      return fill(into, ...session(subject.of, now, deed));
    case "channel":
      return fill(into, ...channel(subject.of));
    case "user":
      return fill(into, ...user(subject.name, subject.of, now, deed));
  }
}

function session(of: Session, now: number, deed: Deed): Child[] {
  const where = of.live ? `connected to ${of.node ?? show.NOTHING}` : of.node === undefined ? "without a connection; it can be resumed" : `held by ${of.node}, which did not answer; as the store has it`;
  return [
    head("session", of.session, where, button("Disconnect session…", () => deed.disconnect("session", of.session))),
    facts([
      ["User", of.user === undefined ? (of.live ? "anonymous" : show.NOTHING) : link("user", of.user)],
      ["Attempt", String(of.attempt)],
      ["Gaps told", of.gaps === undefined ? show.NOTHING : String(of.gaps)],
      ["Rewinds told", of.rewinds === undefined ? show.NOTHING : String(of.rewinds)],
    ]),
    h("h3", {}, "Cursors against heads"),
    of.subscriptions.length === 0 ? h("p", { class: "none" }, "no subscriptions") : cursors(of),
    h("h3", {}, "Its life"),
    of.events.length === 0 ? h("p", { class: "none" }, "nothing was written down") : h("ol", { class: "life" }, ...life(of.events, now)),
  ];
}

function cursors(of: Session): Child {
  const rows = of.subscriptions.map((sub) => {
    const at = sub.cursor ?? sub.floor;
    const behind = Math.max(0, sub.head.offset - at);
    const elsewhere = sub.epoch !== undefined && sub.epoch !== sub.head.epoch;
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, link("channel", sub.channel)),
      h("td", { "data-title": "Doing" }, `${sub.mode}${sub.phase === undefined ? "" : `, ${sub.phase}`}`),
      h("td", { "data-title": "Handled" }, String(sub.floor)),
      h("td", { "data-title": "Cursor" }, sub.cursor === undefined ? show.NOTHING : String(sub.cursor)),
      h("td", { "data-title": "Head" }, String(sub.head.offset)),
      h("td", { "data-title": "Behind" }, sub.epoch === undefined ? h("span", { class: "bad" }, "starts over") : elsewhere ? h("span", { class: "warn" }, "another epoch") : behind === 0 ? "0" : h("span", { class: "warn" }, show.count(behind))),
    );
  });
  const heads = ["Channel", "Doing", "Handled", "Cursor", "Head", "Behind"].map((title) => h("th", { scope: "col" }, title));
  return h("div", { class: "scroll" }, h("table", {}, h("caption", { class: "sr" }, "Subscriptions"), h("thead", {}, h("tr", {}, ...heads)), h("tbody", {}, ...rows)));
}

/** Newest first. A resume without a close before it tells that the node or the network went away without a word. */
function life(events: readonly Event[], now: number): Child[] {
  const lines = events.map((event, index) => {
    const before = events[index - 1];
    const silent = event.what === "resumed" && before !== undefined && before.what !== "closed";
    return h("li", { "data-what": event.what }, h("time", { title: new Date(event.at).toISOString() }, show.clock(event.at)), h("span", {}, told(event, silent, before)), h("small", {}, `${show.span(now - event.at)} ago`));
  });
  return lines.reverse();
}

function told({ what, node, code, full = 0, reset = 0, fresh = 0 }: Event, silent: boolean, before: Event | undefined): string {
  if (what === "began") return `began on ${node}`;
  if (what === "closed") return code === undefined ? `connection lost on ${node}` : `closed on ${node}: ${code} ${CLOSES[String(code)] ?? ""}`;
  const outcome = [full > 0 && `${full} whole`, reset > 0 && `${reset} started over`, fresh > 0 && `${fresh} new`].filter(Boolean).join(", ");
  const from = silent && before !== undefined && before.node !== node ? ` after ${before.node} went away or was taken over from` : "";
  return `resumed on ${node}${from}: ${outcome === "" ? "no subscriptions" : outcome}`;
}

function channel(of: Channel): Child[] {
  const kept = Math.max(0, of.offset - of.first + 1);
  const subscribers = of.nodes.reduce((sum, node) => sum + node.subscribers, 0);
  const rows = of.nodes.map(({ node, subscribers, tail_bytes, gaps, rewinds }) =>
    h("tr", {}, h("th", { scope: "row" }, node), cell("Subscribers", show.count(subscribers)), cell("Tail", show.bytes(tail_bytes)), cell("Gaps", gaps > 0 ? h("span", { class: "bad" }, show.count(gaps)) : "0"), cell("Rewinds", rewinds > 0 ? h("span", { class: "bad" }, show.count(rewinds)) : "0")),
  );
  const heads = ["Node", "Subscribers", "Tail", "Gaps", "Rewinds"].map((title) => h("th", { scope: "col" }, title));
  return [
    head("channel", of.channel, `${show.count(subscribers)} ${subscribers === 1 ? "subscriber" : "subscribers"}`),
    facts([
      ["Head", String(of.offset)],
      ["History", kept === 0 ? "none kept" : `${show.count(kept)} kept, ${of.first}–${of.offset}`],
      ["Keys of state", of.keys === undefined ? "no state" : `${show.count(of.keys)}${of.more_keys === true ? " or more" : ""}`],
      ["Epoch", h("code", {}, of.epoch)],
    ]),
    h("h3", {}, "On nodes"),
    of.nodes.length === 0 ? h("p", { class: "none" }, "no node follows it") : h("div", { class: "scroll" }, h("table", {}, h("caption", { class: "sr" }, "Nodes that follow the channel"), h("thead", {}, h("tr", {}, ...heads)), h("tbody", {}, ...rows))),
    of.silent.length > 0 && h("p", { class: "bad" }, `${of.silent.join(", ")} did not answer.`),
    of.generations.length > 1 && h("h3", {}, "Generations in its log"),
    of.generations.length > 1 && h("ol", { class: "life" }, ...of.generations.map(({ generation, start }) => h("li", {}, h("code", {}, generation), h("span", {}, `from ${start}`)))),
  ];
}

function user(name: string, of: Found, now: number, deed: Deed): Child[] {
  const rows = of.sessions.map(({ session, node, since, subscriptions, lag }) =>
    h("tr", {}, h("th", { scope: "row" }, link("session", session)), cell("Node", node), cell("Connected", `${show.span(now - since)}`), cell("Subscriptions", show.count(subscriptions)), cell("Behind", lag > 0 ? h("span", { class: "warn" }, show.count(lag)) : "0")),
  );
  const heads = ["Session", "Node", "Connected for", "Subscriptions", "Behind"].map((title) => h("th", { scope: "col" }, title));
  return [
    head("user", name, `${of.sessions.length}${of.more ? " or more" : ""} connected ${of.sessions.length === 1 ? "session" : "sessions"}`, of.sessions.length > 0 && button("Disconnect user…", () => deed.disconnect("user", name))),
    of.sessions.length === 0 ? h("p", { class: "none" }, "no session of this user has a connection") : h("div", { class: "scroll" }, h("table", {}, h("caption", { class: "sr" }, "Sessions"), h("thead", {}, h("tr", {}, ...heads)), h("tbody", {}, ...rows))),
    of.silent.length > 0 && h("p", { class: "bad" }, `${of.silent.join(", ")} did not answer: there may be more.`),
  ];
}

function head(kind: Kind, name: string, aside: string, act?: Child): Child {
  return h("header", { class: "title" }, h("h3", {}, h("span", {}, kind), " ", h("b", {}, name)), h("p", { class: "aside" }, aside), act);
}

function button(text: string, run: () => void): Child {
  return h("button", { type: "button", class: "danger", "data-focus": text, onclick: run }, text);
}

function cell(title: string, child: Child): Child {
  return h("td", { "data-title": title }, child);
}

function facts(of: readonly [string, Child][]): Child {
  return h("dl", { class: "facts" }, ...of.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function link(kind: Kind, name: string): Child {
  return h("a", { href: `#${kind}/${encodeURIComponent(name)}`, "data-focus": `${kind}/${name}` }, name);
}
