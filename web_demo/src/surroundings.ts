import type { Machine } from "vlmp-web";
import type { Surroundings } from "./protocol.js";

/** What only some browsers tell. */
interface Told extends Navigator {
  /** GiB, rounded; at most 8. */
  readonly deviceMemory?: number;
  readonly userAgentData?: {
    readonly platform: string;
    readonly brands: readonly { brand: string; version: string }[];
  };
}

const GIB = 2 ** 30;
const MOST_THREADS = 4; // more of them wait for each other, and for a phone's slow cores
const MOST_BYTES = 3 * GIB; // a wasm module addresses 4 GiB at most
const BYTES_WHERE_UNKNOWN = GIB; // phones end tabs that take much more

/** What this browser lets the page do. WebGPU is used with `?webgpu` in the address only: docs/web.md says why. */
export function surroundings(): Surroundings {
  const { deviceMemory, hardwareConcurrency } = navigator as Told;
  return {
    mostBytes: deviceMemory === undefined ? BYTES_WHERE_UNKNOWN : Math.min(MOST_BYTES, (deviceMemory * GIB) / 2),
    threads: crossOriginIsolated ? Math.min(MOST_THREADS, Math.max(1, hardwareConcurrency)) : 1,
    webgpu: new URLSearchParams(location.search).has("webgpu"),
  };
}

/** The same for people. */
export function inWords({ threads, webgpu }: Surroundings): string {
  const count = threads === 1 ? "1 thread" : `${threads} threads`;
  const isolated = crossOriginIsolated ? "" : " (this host's headers allow no more)";
  return `${webgpu ? "WebGPU" : "CPU"}, ${count}${isolated}`;
}

/** The same for a profile. */
export function machine({ threads, webgpu }: Surroundings): Machine {
  const { deviceMemory, userAgentData, userAgent, hardwareConcurrency } = navigator as Told;
  const brand = userAgentData?.brands.find((each) => !/not.?a.?brand/i.test(each.brand));
  return {
    name: brand === undefined ? "browser" : `${brand.brand} ${brand.version}`,
    os: userAgentData?.platform || "unknown",
    cpu: "unknown",
    cores: hardwareConcurrency,
    memoryMib: (deviceMemory ?? 0) * 1024,
    facts: {
      threads: String(threads),
      "cross-origin isolated": crossOriginIsolated ? "yes" : "no",
      "runs on": webgpu ? "webgpu" : "wasm",
      "user agent": userAgent,
    },
  };
}
