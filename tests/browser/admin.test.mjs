/**
 * The operators' page in real Chromium: against a development node, and against a hub of three nodes on a real Redis of
 * which one is killed and one drained, and whose Redis hangs for a while. Reads what the page shows; waits for
 * conditions, never for time.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, WITHIN_MS } from "./chromium.mjs";
import { Balancer, DevNode, Redis, ServeNode, tail, token } from "./node.mjs";

const SECRET = "a secret of tests that is long enough for HS256";
const KEY = "a-key-that-may-manage-0123456789";
const PUBLISHER = "a-key-that-may-publish-0123456789";
/** A lease ends 15 s after its last renewal. */
const GONE_WITHIN_MS = 60_000;

let browser;

before(async () => {
  browser = await launch();
});

after(async () => {
  await browser?.close();
});

/** Opens the page; whatever it throws fails the test. */
async function open(t, url) {
  const context = await browser.newContext({ viewport: { width: 1400, height: 1000 } });
  t.after(() => context.close());
  context.setDefaultTimeout(WITHIN_MS);
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  t.after(() => assert.deepEqual(errors, [], "the page threw nothing"));
  await page.goto(`${url}/admin`);
  return page;
}

/** Waits until the page is live and shows this many nodes that are not gone. */
function shows(page, nodes) {
  return page.waitForFunction((nodes) => {
    const living = document.querySelectorAll("#nodes tr[id^=node-]:not([data-standing=vanished]):not([data-standing=left])");
    return document.querySelector("#pill").dataset.state === "online" && living.length === nodes;
  }, nodes);
}

/** Waits until a node's cell reads as this expression says. */
function cell(page, node, title, is) {
  return page.waitForFunction(
    ([node, title, is]) => new RegExp(is).test(document.querySelector(`#node-${node} td[data-title="${title}"]`)?.textContent ?? ""),
    [node, title, is],
  );
}

async function confirm(page, verb) {
  const yes = page.locator("#confirm-yes", { hasText: verb });
  await yes.waitFor();
  assert.equal(await page.evaluate(() => document.activeElement?.textContent), "Cancel", "the harmless answer has the focus");
  await yes.click();
}

test("a development node opens without a key; a session is found, looked at and disconnected", async (t) => {
  const node = await DevNode.start();
  t.after(() => node.remove());
  const page = await open(t, node.url);
  await shows(page, 1);
  const name = (await page.locator("#nodes tr[id^=node-]").first().getAttribute("id")).slice("node-".length);
  await cell(page, name, "Connections", "^1");
  const client = tail(node.url, "dash:demo", ["--data-dir", node.folder]);
  t.after(() => client.stop());
  await cell(page, name, "Connections", "^2");
  await cell(page, name, "Deliv/s", "[1-9]");
  await page.locator("#plot-deliveries path.line").first().waitFor({ state: "attached" });

  await page.keyboard.press("/");
  await page.keyboard.type("cli");
  await page.locator("#results a", { hasText: "on n-" }).first().click();
  await page.locator("#subject", { hasText: "Cursors against heads" }).waitFor();
  assert.match(await page.locator("#subject tbody tr").first().innerText(), /dash:demo/);
  assert.match(await page.locator("#subject .life").innerText(), /began on n-/);
  await page.locator("#subject a", { hasText: "dash:demo" }).click();
  await page.locator("#subject", { hasText: "1 subscriber" }).waitFor();
  await page.goBack();
  await page.locator("#subject", { hasText: "Cursors against heads" }).waitFor();

  await page.locator("#subject button", { hasText: "Disconnect session" }).click();
  await confirm(page, "Disconnect");
  await page.locator("#done-list li[data-state=done]", { hasText: "ended" }).waitFor();
  await client.gone;
  await cell(page, name, "Connections", "^1");
  await page.locator("#subject", { hasText: "unknown or has expired" }).waitFor();
  assert.doesNotMatch(page.url(), /key|token/i);

  await page.reload();
  await shows(page, 1);
  await page.waitForFunction(() => (document.querySelector("#plot-connections path.line")?.getAttribute("d")?.length ?? 0) > 20);
});

const config = (redis) => `
cluster_secret = "${SECRET}"
[auth]
hmac_secret = "${SECRET}"
[[api_keys]]
key = "${KEY}"
scopes = ["manage"]
[[api_keys]]
key = "${PUBLISHER}"
scopes = ["publish"]
[redis]
url = "redis://127.0.0.1:${redis.port}"
[namespaces.orders]
history_size = 100
state = true
`;

test("a hub of three nodes: the key, a node killed, a node drained, and a Redis that hangs", async (t) => {
  const redis = await Redis.start();
  t.after(() => redis.stop());
  const [one, two, three] = await Promise.all([1, 2, 3].map(() => ServeNode.start(config(redis))));
  for (const node of [one, two, three]) t.after(() => node.remove());
  const door = await Balancer.start(two.url);
  t.after(() => door.stop());
  const clients = ["ann", "bob", "eve"].map((user) => tail(door.url, "orders:1", ["--token", token(SECRET, user)]));
  for (const client of clients) t.after(() => client.stop());

  const page = await open(t, one.url);
  for (const [key, said] of [["nobody's", "knows no such key"], [PUBLISHER, "lacks the scope"]]) {
    await page.fill("#key", key);
    await page.press("#key", "Enter");
    await page.locator("#key-error", { hasText: said }).waitFor();
  }
  await page.fill("#key", KEY);
  await page.press("#key", "Enter");
  await shows(page, 3);
  assert.doesNotMatch(page.url(), /key|token/i);
  assert.equal(await page.evaluate(() => Object.values(localStorage).join()), "", "nothing is kept beyond the tab");

  // Who is where: the clients are on the second node, the page on the first.
  const own = await page.locator("#nodes tr", { hasText: "this page" }).locator("b").innerText();
  const busy = page.locator('#nodes tr[id^=node-]:has(td[data-title="Sessions"]:text-is("3"))');
  await busy.waitFor();
  const drained = (await busy.getAttribute("id")).slice("node-".length);
  const names = await page.locator("#nodes tr[id^=node-] th b").allInnerTexts();
  const killed = names.find((name) => name !== own && name !== drained);

  await page.fill("#query", "ann");
  await page.locator("#results a", { hasText: `on ${drained}` }).first().click();
  await page.locator("#subject .title", { hasText: `connected to ${drained}` }).waitFor();
  await page.locator("#subject tbody", { hasText: "orders:1" }).waitFor();

  await three.crash();
  await page.locator(`#node-${killed}[data-standing=vanished]`).waitFor({ timeout: GONE_WITHIN_MS });
  assert.match(await page.locator(`#node-${killed}`).innerText(), /gone: its lease ended/);

  door.to = one.url;
  await page.locator(`#node-${drained} button`, { hasText: "Drain" }).click();
  await confirm(page, "Drain");
  await page.locator("#done-list li[data-state=done]", { hasText: "told to leave" }).waitFor();
  assert.equal(await two.ended(), 0, "the drained node ended by itself");
  await page.locator(`#node-${drained}[data-standing=left]`).waitFor({ timeout: GONE_WITHIN_MS });
  await cell(page, own, "Sessions", "^4$");
  await page.locator("#subject .title", { hasText: `connected to ${own}` }).waitFor();
  assert.match(await page.locator("#subject .life").innerText(), new RegExp(`resumed on ${own}.*1 whole`));

  redis.signal("SIGSTOP");
  await page.locator("#banner[data-state=stale]", { hasText: "cannot reach the broker" }).waitFor();
  assert.equal(await page.locator("#pill").getAttribute("data-state"), "stale");
  assert.equal(await page.locator(`#node-${own}`).getAttribute("data-standing"), "stale", "nobody is declared gone");
  redis.signal("SIGCONT");
  await page.waitForFunction(() => document.querySelector("#banner").hidden && document.querySelector("#pill").dataset.state === "online");
  await shows(page, 1);

  await one.crash();
  await page.locator("#banner[data-state=offline]", { hasText: "goes on by itself" }).waitFor();
  await one.restart();
  await page.locator("#nodes tr[data-standing=living]", { hasText: "this page" }).waitFor();
  await page.waitForFunction(() => document.querySelector("#banner").hidden);
});
