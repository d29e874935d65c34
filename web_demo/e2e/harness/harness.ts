// vlmp-web in a browser, for the conformance files that need one: pictures that the browser decodes, and logits with
// threads or on WebGPU. package.test.ts calls it.
import mjs from "onnxruntime-web/ort-wasm-simd-threaded.mjs?url";
import wasm from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";
import gpuMjs from "onnxruntime-web/ort-wasm-simd-threaded.asyncify.mjs?url";
import gpuWasm from "onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url";
import { BadPicture, type BundleFolder, decodePicture, fit, openOnnx, readManifest, Session, toPixels } from "vlmp-web";

type Json = any; // of the conformance files

/** Values that are farther off than they may be, by the name of their case; and files that were not refused. */
async function pictures(): Promise<string[]> {
  const { cases, refused }: Json = await (await fetch("files/picture/cases.json")).json();
  const bad: string[] = [];
  for (const each of cases) {
    const { height, width, fit: way, pad_rgb: padRgb, resample } = each;
    const spec = { height, width, fit: way, padRgb, resample, visualTokens: 1, segments: [] };
    const { rgb } = fit(await decodePicture(await blob(`files/picture/${each.file}`)), spec);
    const wanted = new Uint8Array(await (await blob(`files/picture/${each.fitted}`)).arrayBuffer());
    const off = wanted.reduce((most, value, place) => Math.max(most, Math.abs(value - rgb[place])), 0);
    if (rgb.length !== wanted.length || off > each.most) bad.push(`${each.name}: off by ${off}`);
  }
  for (const each of refused) {
    const said = await decodePicture(await blob(`files/picture/${each.file}`)).catch((error: unknown) => error);
    if (!(said instanceof BadPicture && said.kind === each.refused)) bad.push(`${each.file}: ${String(said)}`);
  }
  return bad;
}

interface Forced {
  readonly stages: readonly number[][];
  readonly logits: readonly (readonly number[])[];
}

/** The steps that the conformance files force upon a bundle; without `later` those up to the first logits. */
async function forced(name: string, expected: Json, { provider, threads, later }: Json): Promise<Forced> {
  const ort = provider === "wasm" ? await import("onnxruntime-web/wasm") : await import("onnxruntime-web/webgpu");
  const paths = provider === "wasm" ? { mjs, wasm } : { mjs: gpuMjs, wasm: gpuWasm };
  ort.env.wasm.wasmPaths = { mjs: absolute(paths.mjs), wasm: absolute(paths.wasm) };
  ort.env.wasm.numThreads = threads;
  const folder: BundleFolder = { name, file: (path) => blob(`bundles/${name}/${path}`) };
  const manifest = await readManifest(folder);
  const session = new Session(manifest, await openOnnx(ort, folder, manifest, { executionProviders: [provider] }));
  const photo = await decodePicture(await blob(`files/steps/${expected.photo}`));
  const first = await session.prefill(expected.ids, await session.vision(toPixels(photo, manifest.image)));
  const logits = [first.logits];
  if (later) {
    for (const token of expected.decode) logits.push(await session.decode(token));
    logits.push(await session.extend(expected.extend));
    if (expected.decode_after !== null) logits.push(await session.decode(expected.decode_after));
  }
  await session.close();
  return { stages: first.stages, logits: logits.map((row) => [...row]) };
}

async function blob(path: string): Promise<Blob> {
  return (await fetch(path)).blob();
}

function absolute(address: string): string {
  return new URL(address, location.href).href;
}

Object.assign(globalThis, { harness: { pictures, forced } });
