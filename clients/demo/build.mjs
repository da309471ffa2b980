/**
 * Builds the pages in the binary, the demo and the operators', into src/demo/assets and src/admin/assets, where the
 * node embeds them. Run by `npm run build`, and by CI as `npm run check`, which fails when a fresh build differs from
 * the committed files. Never reads the network.
 */
import { build } from "esbuild";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import path from "node:path";

const here = path.dirname(fileURLToPath(import.meta.url));
/** Each page's folder, and where its files go. */
const pages = [
  { from: here, to: path.resolve(here, "../../src/demo/assets") },
  { from: path.resolve(here, "../admin"), to: path.resolve(here, "../../src/admin/assets") },
];

async function bundle(from, entry) {
  const result = await build({
    absWorkingDir: from,
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

async function page(from) {
  const html = await readFile(path.join(from, "index.html"), "utf8");
  return `${html
    .replace(/<!--[^]*?-->/g, "")
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean)
    .join("\n")}\n`;
}

const stale = [];
for (const { from, to } of pages) {
  const files = {
    "index.html": await page(from),
    "app.js": await bundle(from, "src/app.ts"),
    "style.css": await bundle(from, "style.css"),
  };
  await mkdir(to, { recursive: true });
  for (const [name, text] of Object.entries(files)) {
    const file = path.join(to, name);
    if (!process.argv.includes("--check")) await writeFile(file, text);
    else if ((await readFile(file, "utf8").catch(() => "")) !== text) stale.push(path.relative(process.cwd(), file));
  }
}
if (stale.length > 0) {
  console.error(`stale: ${stale.join(", ")}. Run npm run build in clients/demo and commit.`);
  process.exit(1);
}
