// Fails where an entry point, minified and gzipped, is larger than its limit.
import { gzipSync } from "node:zlib";
import { bundle } from "./bundle.mjs";

const LIMITS = { "src/core.ts": 10_000, "src/index.ts": 11_600, "src/msgpack.ts": 2_500 };

for (const [entry, limit] of Object.entries(LIMITS)) {
  const { outputFiles } = await bundle({ entryPoints: [entry], minify: true, write: false, outdir: "dist" });
  const code = outputFiles[0].contents;
  const gz = gzipSync(code, { level: 9 }).length;
  console.log(`${entry}: ${code.length} B minified, ${gz} B gzipped, limit ${limit} B`);
  if (gz > limit) process.exitCode = 1;
}
