// The voices of the page, opened in a worker when they are first needed.

import { WorkerClient, WorkerError } from "./worker-client.js";

// A module with one function that uses a vector of 128 bits; a browser without SIMD refuses it.
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];

export const NO_SIMD = "This browser cannot run the voices: its WebAssembly has no SIMD. A newer browser has it.";

/** Whether this browser's WebAssembly has SIMD, without which ONNX Runtime does not start. */
export const hasSimd = () => typeof WebAssembly === "object" && WebAssembly.validate(new Uint8Array(SIMD));

export class Voices {
  /**
   * @param {object} about `web.json`
   * @param {number} threads
   * @param {(progress: object) => void} onProgress
   */
  constructor(about, threads, onProgress) {
    this.about = about;
    this.threads = threads;
    this.onProgress = onProgress;
    this.client = null;
    this.opened = new Map(); // name -> promise
  }

  /**
   * Open a variant, once.
   * @param {object} [warmUp] inputs that it speaks first, because a first run takes longer
   * @param {boolean} [inPieces] its halves, in place of the whole voice
   * @returns {Promise<{seconds: number}>}
   */
  open(name, warmUp = null, inPieces = false) {
    const variant = this.about.variants.find((one) => one.name === name);
    if (!variant) return Promise.reject(new WorkerError(`The page has no voice ${name}.`));
    if (!hasSimd()) return Promise.reject(new WorkerError(NO_SIMD));
    const key = inPieces ? `${name} in pieces` : name;
    if (!this.opened.has(key)) {
      const opening = this.ask({
        task: "open", variant, warmUp, inPieces, output: this.about.voice.output,
        threads: this.threads, runtimeBytes: this.about.runtime_bytes,
      });
      opening.catch(() => { // the next call tries again, in a new worker where nothing else is open
        this.opened.delete(key);
        if (!this.opened.size) this.end();
      });
      this.opened.set(key, opening);
    }
    return this.opened.get(key);
  }

  /** @returns {Promise<{samples: Float32Array, seconds: number}>} */
  async run(name, inputs) {
    await this.open(name);
    return this.ask({ task: "run", name, inputs, output: this.about.voice.output });
  }

  /** Whether a variant speaks piece by piece. */
  hasPieces(name) {
    return Boolean(this.about.variants.find((one) => one.name === name)?.pieces);
  }

  /**
   * Speak piece by piece. Its halves are opened beside the whole voice, which other calls run.
   * @param {(samples: Float32Array) => void} onPiece
   * @returns {Promise<{seconds: number, firstSeconds: number}>} until the last and until the first samples were there
   */
  async runPieces(name, inputs, onPiece) {
    if (!this.hasPieces(name)) throw new WorkerError(`${name} cannot speak piece by piece.`);
    await this.open(name, null, true);
    return this.ask({ task: "runPieces", name, inputs }, onPiece);
  }

  async ask(question, onPiece = null) {
    this.client ??= new WorkerClient(
      new Worker(new URL("./voices-worker.js", import.meta.url), { type: "module" }), this.onProgress);
    const client = this.client;
    try {
      return await client.ask(question, onPiece);
    } catch (error) {
      if (!client.worker && this.client === client) this.end(); // it died: the next call begins anew
      throw error;
    }
  }

  end() {
    this.client?.end();
    this.client = null;
    this.opened.clear();
  }
}
