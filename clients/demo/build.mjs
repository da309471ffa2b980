/**
 * Builds the demo page into src/demo/assets, where the node embeds it. Run by `npm run build`, and by CI as
 * `npm run check`, which fails when a fresh build differs from the committed files. Never reads the network.
 */
import { build } from "esbuild";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import path from "node:path";

const here = path.dirname(fileURLToPath(import.meta.url));
const assets = path.resolve(here, "../../src/demo/assets");

async function bundle(entry) {
  const result = await build({
    absWorkingDir: here,
    entryPoints: [entry],
    bundle: true,
    minify: true,
    format: "esm",
    target: ["es2022"],
    charset: "utf8",
    legalComments: "none",
    write: false,
  });
  return result.outputFiles[0].text;
}

async function page() {
  const html = await readFile(path.join(here, "index.html"), "utf8");
  return `${html
    .replace(/<!--[^]*?-->/g, "")
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean)
    .join("\n")}\n`;
}

const files = {
  "index.html": await page(),
  "app.js": await bundle("src/app.ts"),
  "style.css": await bundle("style.css"),
};

if (process.argv.includes("--check")) {
  const stale = [];
  for (const [name, text] of Object.entries(files)) {
    const committed = await readFile(path.join(assets, name), "utf8").catch(() => "");
    if (committed !== text) stale.push(name);
  }
  if (stale.length > 0) {
    console.error(`src/demo/assets is stale: ${stale.join(", ")}. Run npm run build in clients/demo and commit.`);
    process.exit(1);
  }
} else {
  await mkdir(assets, { recursive: true });
  for (const [name, text] of Object.entries(files)) await writeFile(path.join(assets, name), text);
}
