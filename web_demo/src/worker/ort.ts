import mjs from "onnxruntime-web/ort-wasm-simd-threaded.mjs?url";
import wasm from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";
import type { OrtModule } from "vlmp-web";
import type { Surroundings } from "../protocol.js";

/** ONNX Runtime with the page's own copy of its binary. WebGPU has another one, which is fetched when it is asked for. */
export async function openOrt({ threads, webgpu }: Surroundings): Promise<OrtModule> {
  if (webgpu) return (await import("./ort-webgpu.js")).openOrtWebgpu(threads);
  const ort = await import("onnxruntime-web/wasm");
  ort.env.wasm.wasmPaths = { mjs: absolute(mjs), wasm: absolute(wasm) };
  ort.env.wasm.numThreads = threads;
  return ort;
}

/** The runtime imports its parts from elsewhere, where a relative address means another place. */
export function absolute(address: string): string {
  return new URL(address, self.location.href).href;
}
