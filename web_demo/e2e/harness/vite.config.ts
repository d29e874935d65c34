import { defineConfig } from "vite";

export default defineConfig({
  root: import.meta.dirname,
  base: "./",
  publicDir: false,
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm", "module", "browser"] },
  build: { target: "es2023", assetsInlineLimit: 0, outDir: "../../build/harness", emptyOutDir: true },
});
