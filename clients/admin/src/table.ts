/**
 * The nodes as a table: one row each, what is wrong in words, details on demand. Draws what cluster.ts holds; app.ts
 * owns one and is told when a node is to leave. Rows are kept and filled anew, so that focus and open details stay.
 */
import { isGone, total, type Cluster, type Node, type Row } from "./cluster.ts";
import { at, fill, h, type Child } from "./dom.ts";
import * as show from "./format.ts";
import { colour } from "./plots.ts";

interface Column {
  title: string;
  /** What it means, where the title does not say. */
  hint?: string;
  cell(node: Node, row: Row | undefined): Child;
}

const COLUMNS: readonly Column[] = [
  { title: "Connections", cell: ({ lease }, row) => filled(show.count(lease?.connections), lease?.connections, row?.connections_max) },
  { title: "Sessions", cell: ({ lease }) => show.count(lease?.sessions) },
  { title: "Deliv/s", hint: "Deliveries a second", cell: (_, row) => show.rate(row?.deliveries) },
  { title: "Pub/s", hint: "Publications accepted a second", cell: (_, row) => show.rate(row?.publications) },
  { title: "Delivery", hint: "99 % of deliveries of the last minute took at most this", cell: (_, row) => show.bound(row?.delivery_p99) },
  { title: "Lag", hint: "99 % of sessions are at most this many publications behind", cell: (_, row) => show.lag(row?.lag_p99) },
  { title: "Stalled", hint: "Connections that take no bytes at present", cell: (_, row) => show.count(row?.stalled) },
  { title: "CPU", hint: "Cores in use", cell: (_, row) => show.cores(row?.cpu) },
  { title: "Memory", cell: (_, row) => filled(show.bytes(row?.memory), row?.memory, row?.memory_mark) },
  { title: "Broker", hint: "Round trip to the broker", cell: (_, row) => health(row?.broker) },
  { title: "Store", hint: "Round trip to the store of sessions", cell: (_, row) => health(row?.store) },
  { title: "Gaps", hint: "Holes clients were told of since the node started", cell: (_, row) => counted(row && total(row.gaps) + row.rewinds) },
];

interface Shown {
  line: HTMLTableRowElement;
  cells: HTMLTableCellElement[];
  details: HTMLTableRowElement;
  name: HTMLButtonElement;
  drain: HTMLButtonElement;
}

export class Table {
  private readonly shown = new Map<string, Shown>();
  private readonly body = h("tbody");

  constructor(
    private readonly cluster: Cluster,
    private readonly drain: (node: Node) => void,
  ) {
    const heads = COLUMNS.map(({ title, hint }) => h("th", { scope: "col", title: hint }, title));
    const head = h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Node"), ...heads, h("th", { scope: "col" }, h("span", { class: "sr" }, "Actions"))));
    fill(at("nodes"), h("table", {}, h("caption", { class: "sr" }, "Nodes of the hub"), head, this.body));
  }

  /** `own`: the node this page talks to. */
  draw(own: string, stale: boolean): void {
    const nodes = this.cluster.nodes();
    const names = new Set(nodes.map(({ name }) => name));
    for (const [name, { line, details }] of this.shown) {
      if (names.has(name)) continue;
      line.remove();
      details.remove();
      this.shown.delete(name);
    }
    let last: Element | undefined;
    for (const node of nodes) {
      const shown = this.shown.get(node.name) ?? this.make(node.name);
      this.fill(shown, node, own, stale);
      const expected = last === undefined ? this.body.firstElementChild : last.nextElementSibling;
      if (expected !== shown.line) {
        if (last === undefined) this.body.prepend(shown.line, shown.details);
        else last.after(shown.line, shown.details);
      }
      last = shown.details;
    }
  }

  private make(name: string): Shown {
    const details = h("tr", { class: "details", hidden: true, id: `details-${name}` }, h("td", { colspan: COLUMNS.length + 2 }));
    const toggle = h("button", { type: "button", class: "name", "aria-expanded": "false", "aria-controls": details.id, onclick: () => {
      details.hidden = !details.hidden;
      toggle.setAttribute("aria-expanded", String(!details.hidden));
    } });
    const drain = h("button", { type: "button", class: "quiet", onclick: () => {
      const node = this.cluster.get(name);
      if (node !== undefined) this.drain(node);
    } }, "Drain…");
    const cells = COLUMNS.map(({ title }) => h("td", { "data-title": title }));
    const line = h("tr", { id: `node-${name}` }, h("th", { scope: "row" }, toggle), ...cells, h("td", { class: "act" }, drain));
    const shown = { line, cells, details, name: toggle, drain };
    this.shown.set(name, shown);
    return shown;
  }

  private fill(shown: Shown, node: Node, own: string, stale: boolean): void {
    const { name, lease, standing } = node;
    const row = isGone(node) ? undefined : lease?.row;
    shown.line.dataset["standing"] = stale && !isGone(node) ? "stale" : standing;
    const facts = [lease?.address, name === own ? "this page" : ""].filter(Boolean).join(" · ");
    fill(shown.name, h("i", { class: colour(node) }), h("span", {}, h("b", {}, name), h("small", {}, facts)), h("em", {}, words(node, this.cluster.now(), stale)));
    COLUMNS.forEach(({ cell }, index) => {
      const at = shown.cells[index];
      if (at !== undefined) fill(at, isGone(node) ? show.NOTHING : cell(node, row));
    });
    shown.drain.disabled = isGone(node) || standing === "draining" || stale;
    shown.drain.setAttribute("aria-label", `Drain ${name}`);
    if (!shown.details.hidden) fill(shown.details.cells[0] as HTMLTableCellElement, ...details(node, this.cluster.now()));
  }
}

/** How a node stands, in words; none where all is well. */
export function words(node: Node, now: number, stale: boolean): string {
  const { standing, lease, heard } = node;
  if (standing === "left") return `left, drained ${show.span(now - heard)} ago`;
  if (standing === "vanished") return `gone: its lease ended; last heard ${show.span(now - heard)} ago`;
  if (stale) return `last heard ${show.span(now - heard)} ago`;
  if (standing === "draining") {
    const left = lease?.connections ?? 0;
    return `draining: ${show.count(left)} of ${show.count(Math.max(left, node.drainedFrom ?? 0))} left`;
  }
  const row = lease?.row;
  if (row === undefined) return "";
  if (!row.broker.up) return "cannot reach the broker";
  if (!row.store.up) return "cannot reach the store";
  if (row.stale_since !== null) return "catching up with the broker";
  if (row.violations > 0) return "found a defect in itself: see its log";
  if (row.memory_mark !== null && row.memory > row.memory_mark) return "over its memory mark: admits nobody";
  if ((lease?.connections ?? 0) >= row.connections_max) return "full: admits nobody";
  return "";
}

function filled(text: string, value: number | undefined, most: number | null | undefined): Child {
  if (value === undefined || most === undefined || most === null) return text;
  const share = Math.min(1, value / most);
  const meter = h("span", { class: share > 0.9 ? "meter high" : "meter", title: `${Math.round(share * 100)} %` }, h("span", { style: `width:${(share * 100).toFixed(1)}%` }));
  return h("span", { class: "filled" }, text, meter);
}

function health(of: { up: boolean; ms: number | null } | undefined): Child {
  if (of === undefined) return show.NOTHING;
  return of.up ? show.millis(of.ms) : h("span", { class: "bad" }, "away");
}

function counted(value: number | undefined): Child {
  if (value === undefined) return show.NOTHING;
  return value > 0 ? h("span", { class: "bad" }, show.count(value)) : "0";
}

function details({ lease }: Node, now: number): Child[] {
  const row = lease?.row;
  if (lease === undefined || row === undefined) return [h("p", {}, "Nothing more is known of it.")];
  const facts: [string, string][] = [
    ["Version", row.version],
    ["Up", show.span(now - lease.started)],
    ["Generation", row.generation === "" ? "one for ever" : row.generation],
    ["Subscriptions", show.count(row.subscriptions)],
    ["Channels", show.count(row.channels)],
    ["Bytes a second", show.bytes(row.delivered_bytes)],
    ["Hellos waiting", show.count(row.waiting)],
    ["To drain it", show.span(row.drain_seconds * 1000)],
    ["Orders known", row.control_ms_ago === null ? show.NOTHING : `${show.span(row.control_ms_ago)} ago`],
    ["Rewinds", show.count(row.rewinds)],
  ];
  return [
    h("dl", { class: "facts" }, ...facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    h("div", { class: "counts" }, counts("Closed", row.closes, CLOSES), counts("Resumes", row.resumes, {}), counts("Gaps", row.gaps, {}), counts("Refused", row.rejected, {})),
    row.findings.length > 0 && h("ul", { class: "findings" }, ...row.findings.map((finding) => h("li", {}, finding))),
  ];
}

/** Close codes in words. */
export const CLOSES: Record<string, string> = {
  "1000": "left", "4400": "bad request", "4401": "unauthenticated", "4403": "forbidden or disconnected", "4406": "version", "4408": "no hello in time",
  "4409": "taken over", "4413": "too large", "4429": "too fast", "4500": "internal", "4503": "overloaded", "4507": "took no bytes", "4512": "drained",
  client: "closed by the client", lost: "connection lost",
};

function counts(title: string, of: Record<string, number>, names: Record<string, string>): Child {
  const entries = Object.entries(of).sort(([, one], [, next]) => next - one);
  if (entries.length === 0) return false;
  return h("section", {}, h("h3", {}, title), h("ul", {}, ...entries.map(([name, count]) => h("li", {}, h("b", {}, show.count(count)), ` ${names[name] ?? name.replaceAll("_", " ")}`))));
}
