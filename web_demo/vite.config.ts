import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig, type Plugin } from "vite";

const PAGE = import.meta.dirname;
const DIST = join(PAGE, "dist");

/** Nothing leaves the page's own address: photos and questions have nowhere to go. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "style-src 'self'",
  "img-src 'self' blob:",
  "connect-src 'self'",
  "worker-src 'self'",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");

/** The last two isolate the page, which is what threads need. */
const HEADERS = {
  "Content-Security-Policy": POLICY,
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

/** Puts the policy into the page, and what there is to keep into the service worker. */
function offline(): Plugin {
  return {
    name: "offline",
    apply: "build",
    transformIndexHtml: () => [
      { tag: "meta", attrs: { "http-equiv": "Content-Security-Policy", content: POLICY }, injectTo: "head-prepend" },
    ],
    closeBundle() {
      const paths = readdirSync(DIST, { recursive: true, encoding: "utf8" })
        .filter((path) => statSync(join(DIST, path)).isFile() && path !== "sw.js" && !/webgpu|asyncify/.test(path))
        .sort();
      const files = paths.map((path) => [path, statSync(join(DIST, path)).size]);
      const digest = createHash("sha256");
      for (const path of [...paths, "sw.js"]) digest.update(path).update(readFileSync(join(DIST, path)));
      const kept = { version: digest.digest("hex").slice(0, 16), files, headers: HEADERS };
      const script = join(DIST, "sw.js");
      writeFileSync(script, `self.KEPT = ${JSON.stringify(kept)};\n${readFileSync(script, "utf8")}`);
      // Netlify, Cloudflare Pages and our own server read it.
      const lines = Object.entries(HEADERS).map(([name, value]) => `  ${name}: ${value}\n`);
      writeFileSync(join(DIST, "_headers"), `/*\n${lines.join("")}`);
    },
  };
}

export default defineConfig({
  base: "./", // it may stand in any folder of a host
  plugins: [offline()],
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm", "module", "browser"] },
  worker: { format: "es" },
  build: {
    target: "es2023",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1000,
    rollupOptions: {
      input: { index: join(PAGE, "index.html"), sw: join(PAGE, "src/sw/sw.ts") },
      output: { entryFileNames: (chunk) => (chunk.name === "sw" ? "sw.js" : "assets/[name]-[hash].js") },
    },
  },
});
