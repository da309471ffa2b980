// Bundles the two entry points into dist/; the declarations come from tsc.
import { rm } from "node:fs/promises";
import { bundle, ENTRIES } from "./bundle.mjs";

await rm("dist", { recursive: true, force: true });
await bundle({ entryPoints: ENTRIES, outdir: "dist", sourcemap: true });
