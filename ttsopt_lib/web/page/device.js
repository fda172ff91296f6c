// What the browser tells of the device.

import { hasSimd } from "./voices.js";

const PATIENCE_MS = 3000;

/** The `browser` part of a record. Languages, addresses and the like are not asked for. */
export async function describeDevice() {
  const data = navigator.userAgentData;
  const brands = data?.brands.filter(({ brand }) => !/not.?a.?brand/i.test(brand)) ?? [];
  return {
    user_agent: navigator.userAgent,
    brands: brands.map(({ brand, version }) => `${brand} ${version}`).join(", ") || null,
    platform: data?.platform || navigator.platform || null,
    mobile: data?.mobile ?? /Mobi|Android/i.test(navigator.userAgent),
    logical_cores: navigator.hardwareConcurrency ?? 1,
    memory_gb: navigator.deviceMemory ?? null,
    cross_origin_isolated: self.crossOriginIsolated === true,
    simd: hasSimd(),
    webgpu: await gpu(),
  };
}

/** How many threads WebAssembly may have here. */
export function mostThreads() {
  return self.crossOriginIsolated ? Math.max(1, navigator.hardwareConcurrency ?? 1) : 1;
}

async function gpu() {
  try {
    const waited = new Promise((resolve) => { setTimeout(resolve, PATIENCE_MS, null); });
    const adapter = await Promise.race([navigator.gpu?.requestAdapter(), waited]);
    const { vendor, architecture } = adapter?.info ?? {};
    return adapter ? `${vendor ?? ""} ${architecture ?? ""}`.trim() || "yes" : null;
  } catch {
    return null;
  }
}
