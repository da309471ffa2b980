/**
 * The demo page in real Chromium against a real node: the node killed under the open page, the page reloaded, the
 * network dropped. Each time the page must come back whole: same session, same epochs, every offset once.
 * Reads the page's own book (`window.__tidewire`); waits for conditions, never for time.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, WITHIN_MS } from "./chromium.mjs";
import { DevNode } from "./node.mjs";

const EVERY = ["orders:demo", "chat:lobby"];
const ALL = [...EVERY, "dash:demo"];

let node;
let browser;

before(async () => {
  node = await DevNode.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await node?.remove();
});

/** Opens the page as a person of its own and waits until the order and the dashboard flow. */
async function open(t) {
  const context = await browser.newContext({ viewport: { width: 1400, height: 1000 } });
  t.after(() => context.close());
  context.setDefaultTimeout(WITHIN_MS);
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  t.after(() => assert.deepEqual(errors, [], "the page threw nothing"));
  await page.goto(node.url);
  await flowing(page, 5);
  return page;
}

/** Waits until this many more publications of the order and the dashboard came. */
async function flowing(page, more) {
  await page.waitForFunction(() => globalThis.__tidewire?.status === "online");
  const from = await books(page);
  await page.waitForFunction(
    ([from, more]) => ["orders:demo", "dash:demo"].every((name) => globalThis.__tidewire.channels[name].received >= from[name].received + more),
    [from, more],
  );
}

function books(page) {
  return page.evaluate(() => JSON.parse(JSON.stringify(globalThis.__tidewire.channels)));
}

function facts(page) {
  return page.evaluate(() => ({ session: globalThis.__tidewire.session, resumes: globalThis.__tidewire.resumes }));
}

/** Waits until the report of the last outage is complete, and returns it. */
async function report(page) {
  await page.waitForFunction(() => {
    const report = globalThis.__tidewire.report;
    return report?.outage.until !== undefined && Object.values(report.shares).every((share) => share.whole !== undefined);
  });
  return page.evaluate(() => JSON.parse(JSON.stringify(globalThis.__tidewire.report)));
}

async function write(page, text) {
  await page.fill("#chat-text", text);
  await page.press("#chat-text", "Enter");
}

/** How often the room shows this text as delivered. */
function shown(page, text) {
  return page.locator("#messages li[data-state=said] .said", { hasText: text }).count();
}

/** Every book is whole and goes on where it was before the outage. */
function assertWhole(now, earlier) {
  for (const name of ALL) {
    const book = now[name];
    assert.equal(book.epoch, earlier[name].epoch, `${name} kept its epoch`);
    assert.equal(book.first, earlier[name].first || book.first, `${name} kept its book`);
    assert.ok(book.offset >= earlier[name].offset, `${name} went forward`);
    const { lost, repeated, resets, gaps } = book;
    assert.deepEqual({ lost, repeated, resets, gaps }, { lost: 0, repeated: 0, resets: 0, gaps: 0 }, name);
  }
  for (const name of EVERY) {
    const { first, offset, received } = now[name];
    if (first > 0) assert.equal(received, offset - first + 1, `${name} has every offset from ${first} to ${offset}`);
  }
  const { first, offset, received, conflated } = now["dash:demo"];
  assert.equal(received + conflated, offset - first + 1, "dash:demo accounts for every offset");
}

test("a node killed under the open page comes back and nothing is lost or repeated", async (t) => {
  const page = await open(t);
  await write(page, "before the crash");
  await page.waitForFunction(() => document.querySelector("#messages li[data-state=said]") !== null);
  const earlier = await books(page);
  const { session, resumes } = await facts(page);

  await node.crash();
  await page.waitForFunction(() => globalThis.__tidewire.status !== "online");
  await write(page, "while it was away");
  await page.locator("#messages li[data-state=waiting]", { hasText: "while it was away" }).waitFor();
  await node.restart();

  await flowing(page, 5);
  await report(page);
  await page.locator("#messages li[data-state=said]", { hasText: "while it was away" }).waitFor();
  const now = await facts(page);
  assert.equal(now.session, session, "the session was resumed");
  assert.ok(now.resumes > resumes, "the page counted the resume");
  assertWhole(await books(page), earlier);
  assert.equal(await shown(page, "before the crash"), 1);
  assert.equal(await shown(page, "while it was away"), 1);

  const other = await open(t);
  await other.locator("#messages li", { hasText: "while it was away" }).first().waitFor();
  assert.equal(await shown(other, "before the crash"), 1, "the log holds what was acknowledged before the crash once");
  assert.equal(await shown(other, "while it was away"), 1, "the log holds what was written during the crash once");
});

test("a reloaded page keeps its session and cursors and misses nothing", async (t) => {
  const page = await open(t);
  await write(page, "before the reload");
  await page.locator("#messages li[data-state=said]", { hasText: "before the reload" }).waitFor();
  const earlier = await books(page);
  const { session, resumes } = await facts(page);

  await page.reload();
  await flowing(page, 3);
  const { outage } = await report(page);
  assert.equal(outage.why, "reload");
  const now = await facts(page);
  assert.equal(now.session, session, "the session was resumed");
  assert.equal(now.resumes, resumes + 1);
  assertWhole(await books(page), earlier);
  assert.equal(await shown(page, "before the reload"), 1);
});

test("the drop button loses the network and the report accounts for every publication missed", async (t) => {
  const page = await open(t);
  const earlier = await books(page);
  const { session } = await facts(page);

  await page.locator("label", { has: page.locator("input[name=hold][value='2']") }).click();
  await page.click("#drop");
  await page.waitForFunction(() => globalThis.__tidewire.status !== "online");
  await write(page, "without network");
  await flowing(page, 3);

  const { outage, shares } = await report(page);
  assert.equal(outage.why, "drop");
  assert.ok(outage.until - outage.from >= 2_000, "the network stayed away as long as was asked");
  for (const [name, share] of Object.entries(shares)) {
    assert.equal(share.after - share.before, share.replayed + share.conflated, `${name} accounts for what it missed`);
    assert.deepEqual([share.lost, share.repeated, share.gaps], [0, 0, 0], name);
  }
  assert.ok(shares["orders:demo"].replayed > 0, "the order went on meanwhile");
  assert.match(await page.locator("#verdict").innerText(), /^Network dropped for .* 0 lost, 0 repeated\. Session resumed/);
  await page.locator("#messages li[data-state=said]", { hasText: "without network" }).waitFor();
  assert.equal(await shown(page, "without network"), 1);
  assert.equal((await facts(page)).session, session);
  assertWhole(await books(page), earlier);
});
