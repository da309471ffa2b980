/* What the compiler must accept and refuse about typed channels. Checked by tsc, never run. */
import { createHub, defineChannels, type KeyedView, type LoadedView } from "../src/index.js";

type Order = { id: string; status: string; v: number };
type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const is = <T extends true>(): T | undefined => undefined;

const channels = defineChannels({
  "orders:{id}": { state: {} as Order, events: { updated: {} as Order, gone: null } },
  "chat:{room}": { events: { msg: {} as { text: string } }, presence: {} as { name: string } },
  "stats:{site}:{kind}": { state: {} as Record<string, number> },
  news: {},
});
export function typed(): void {
  const hub = createHub({ url: "wss://h", channels });

  hub.channel("news");
  const order = hub.channel("orders:{id}", { id: 42 });
  hub.channel("stats:{site}:{kind}", { site: "eu", kind: "cpu" });
  // @ts-expect-error the pattern has a parameter
  hub.channel("orders:{id}");
  // @ts-expect-error one of two parameters is missing
  hub.channel("stats:{site}:{kind}", { site: "eu" });
  // @ts-expect-error no such channel
  hub.channel("order:{id}", { id: 1 });
  // @ts-expect-error no parameter here
  hub.channel("news", { id: 1 });

  order.on("updated", (message) => {
    is<Equal<typeof message.data, Order>>();
    is<Equal<typeof message.event, "updated" | undefined>>();
  });
  order.on("*", (message) => {
    is<Equal<typeof message.data, Order | null>>();
  });
  // @ts-expect-error no such event
  order.on("update", () => {});
  order.publish("updated", { id: "42", status: "out", v: 2 }, { key: "status", ttl: "5m" });
  // @ts-expect-error not an order
  order.publish("updated", { id: "42" });
  // @ts-expect-error not a duration
  order.publish("gone", null, { ttl: "5 minutes" });

  const loaded = order.live({
    load: async () => ({ data: { id: "42", status: "new", v: 1 } as Order, cursor: { epoch: "e", offset: 1 } }),
    apply: (state, event) => (event.data && event.data.v > state.v ? event.data : state),
  });
  is<Equal<typeof loaded extends LoadedView<infer T, infer _M> ? T : never, Order>>();
  loaded.subscribe(({ data, freshness }) => {
    is<Equal<typeof data, Order | undefined>>();
    is<Equal<typeof freshness, "live" | "catching-up" | "stale">>();
  });
  const stats = hub.channel("stats:{site}:{kind}", { site: "eu", kind: "cpu" }).live({ mode: "latest", maxHz: 10 });
  is<Equal<typeof stats, KeyedView<number>>>();

  const chat = hub.channel("chat:{room}", { room: "7" });
  chat.presence.enter({ name: "Ana" });
  // @ts-expect-error a member has a name
  chat.presence.enter({ nick: "Ana" });
  is<Equal<ReturnType<typeof chat.presence.members.get>["data"], ReadonlyMap<string, { name: string }>>>();

  const loose = createHub({ url: "wss://h" });
  loose.channel("anything:at:all").on("whatever", ({ data }) => {
    is<Equal<typeof data, unknown>>();
  });
  hub.status.subscribe((status) => {
    if (status.state === "blocked") is<Equal<typeof status.code, number>>();
    // @ts-expect-error only an online status names the session
    status.session;
  });
}
