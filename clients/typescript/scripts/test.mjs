// Bundles every test and hands them to node's own test runner. What a test imports from index and msgpack is the package
// as it ships; pure modules it imports directly are the sources.
import { spawnSync } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { bundle, ENTRIES, plain } from "./bundle.mjs";

rmSync(".build", { recursive: true, force: true });
const tests = readdirSync("test").filter((name) => name.endsWith(".test.ts"));
const shipped = {
  name: "shipped",
  setup: (build) => build.onResolve({ filter: /^\.\.\/src\/(index|msgpack)\.js$/ }, ({ path }) => ({ path: path.replace("../src", "./shipped"), external: true })),
};
await bundle({ entryPoints: ENTRIES, outdir: ".build/shipped", sourcemap: true });
await plain({
  entryPoints: tests.map((name) => `test/${name}`),
  outdir: ".build",
  platform: "node",
  packages: "external",
  plugins: [shipped],
  sourcemap: "inline",
});
for (const name of ["index", "msgpack"])
  await bundle({ entryPoints: [`src/${name}.ts`], outfile: `.build/bare-${name}.js`, format: "iife", globalName: "bare", minify: true });
const only = process.argv.slice(2);
const files = tests.map((name) => `.build/${name.replace(/\.ts$/, ".js")}`).filter((f) => only.length === 0 || only.some((o) => f.includes(o)));
const { status } = spawnSync(process.execPath, ["--enable-source-maps", "--test", ...files], { stdio: "inherit" });
process.exit(status ?? 1);
