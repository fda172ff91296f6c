// The worker in which models are opened and run, one at a time, with ONNX Runtime in WebAssembly.

import * as ort from "./onnxruntime.js";

// Of a voice that is to be heard: a browser compiles WebAssembly better beside the first runs, which take longer.
const WARM_RUNS = 4, WARM_SECONDS = 0.5;

const sessions = new Map(); // variant -> session
const halves = new Map(); // variant -> {encoder, decoder, pieces}: to speak piece by piece
let runtime = null;

const tell = (doing, done = null, of = null) => self.postMessage({ progress: { doing, done, of } });

/** A message for people. */
class Refusal extends Error {}

/** The bytes of a file beside the page; `what` is what people call it. */
async function download(file, bytes, what) {
  const address = new URL(file.split("/").map(encodeURIComponent).join("/"), import.meta.url);
  const again = `Check the connection and try again.`;
  let answer;
  try {
    answer = await fetch(address);
  } catch {
    throw new Refusal(`The connection failed before ${what} was loaded. ${again}`);
  }
  if (answer.status === 404) throw new Refusal(`${file} is missing on the server: write the page again with “ttsopt web”.`);
  if (!answer.ok) throw new Refusal(`The server does not give ${file} (it says ${answer.status}). ${again}`);
  const content = new Uint8Array(bytes);
  let got = 0;
  try {
    for (const reader = answer.body.getReader(); ;) {
      const { done, value } = await reader.read();
      if (done) break;
      if (got + value.length > bytes) throw new Refusal(`${file} is another file than the page knows: load the page again.`);
      content.set(value, got);
      got += value.length;
      tell(`loading ${what}`, got, bytes);
    }
  } catch (error) {
    if (error instanceof Refusal) throw error;
    throw new Refusal(`The connection was cut while ${what} was loading. ${again}`);
  }
  if (got < bytes) throw new Refusal(`The connection was cut while ${what} was loading. ${again}`);
  return content;
}

function start({ threads, runtimeBytes }) {
  runtime ??= (async () => {
    ort.env.wasm.numThreads = threads;
    ort.env.wasm.wasmBinary = await download("onnxruntime.wasm", runtimeBytes, "the runtime");
    ort.env.logLevel = "error";
  })().catch((error) => {
    runtime = null;
    throw error;
  });
  return runtime;
}

/** Open a variant, whole or in its two halves; the seconds that took, without the download. */
async function open({ variant, threads, runtimeBytes, warmUp, output, inPieces }) {
  const { name, weights, pieces } = variant;
  if ((inPieces ? halves : sessions).has(name)) return { seconds: 0 };
  await start({ threads, runtimeBytes });
  const contents = [];
  for (const { file, bytes } of inPieces ? [pieces.encoder, pieces.decoder] : [variant, ...weights]) {
    contents.push(await download(file, bytes, name));
  }
  tell(`opening ${name}`);
  const began = performance.now();
  if (inPieces) {
    halves.set(name, { encoder: await session(contents[0]), decoder: await session(contents[1]), pieces });
  } else {
    const externalData = weights.map(({ path }, number) => ({ path, data: contents[number + 1] }));
    sessions.set(name, await session(contents[0], weights.length ? { externalData } : {}));
  }
  const seconds = (performance.now() - began) / 1000;
  if (warmUp) await repeat(() => (inPieces ? runPieces : run)({ name, inputs: warmUp, output }));
  return { seconds };
}

const session = (model, options = {}) => ort.InferenceSession.create(model, {
  executionProviders: ["wasm"],
  graphOptimizationLevel: "all",
  logSeverityLevel: 3, // errors alone
  ...options,
});

async function repeat(speak) {
  for (let number = 0, spent = 0; number < WARM_RUNS && spent < WARM_SECONDS; number++) spent += (await speak()).seconds;
}

const ARRAYS = {
  float32: Float32Array, float64: Float64Array, int8: Int8Array, uint8: Uint8Array, int16: Int16Array,
  uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array, bool: Uint8Array,
};

function tensor({ dtype, shape, values }) {
  if (dtype === "int64") return new ort.Tensor("int64", BigInt64Array.from(values, BigInt), shape);
  if (dtype === "uint64") return new ort.Tensor("uint64", BigUint64Array.from(values, BigInt), shape);
  if (!(dtype in ARRAYS)) throw new Refusal(`The voice is fed ${dtype}, which this page cannot do.`);
  return new ort.Tensor(dtype, ARRAYS[dtype].from(values), shape);
}

/** An object with the same keys and other values; keys whose value is undefined are left out. */
const mapped = (object, change) => Object.fromEntries(
  Object.entries(object).map(([key, value], number) => [key, change(value, key, number)]).filter(([, value]) => value !== undefined));

/** What a graph is fed, of inputs that it may not have. */
const feedsOf = (inputs, wanted) => mapped(inputs, (value, name) => (wanted.includes(name) ? tensor(value) : undefined));

/** Speak once; the samples, and the seconds from the inputs to the samples. */
async function run({ name, inputs, output }) {
  const voice = sessions.get(name);
  const feeds = feedsOf(inputs, voice.inputNames);
  const wanted = output ?? voice.outputNames[0];
  const began = performance.now();
  const found = (await voice.run(feeds, [wanted]))[wanted];
  if (!found.type.startsWith("float") || found.type === "float16") {
    throw new Refusal(`The samples of ${name} are ${found.type}, which this page cannot play.`);
  }
  const samples = Float32Array.from(found.data);
  const seconds = (performance.now() - began) / 1000;
  found.dispose();
  let loudest = 0;
  for (const sample of samples) {
    if (!Number.isFinite(sample)) throw new Refusal(`${name} does not speak on this device: its samples are no numbers.`);
    loudest = Math.max(loudest, Math.abs(sample));
  }
  if (!loudest) throw new Refusal(`${name} does not speak on this device: its audio is silence.`);
  return { samples, seconds };
}

/**
 * Speak piece by piece, as `ttsopt_lib/voices/pieces.py` does: the first half once, the second for each piece with the
 * states that the piece before left.
 */
async function runPieces({ name, inputs }, give = () => {}) {
  const { encoder, decoder, pieces } = halves.get(name);
  const { layout } = pieces, frame = layout.hop / layout.sample_rate;
  const feeds = feedsOf(inputs, encoder.inputNames);
  const began = performance.now(), since = () => (performance.now() - began) / 1000;
  const found = await encoder.run(feeds);
  const handed = mapped(layout.tensors, (axis, _, number) => ({ axis, value: found[encoder.outputNames[number]] }));
  const { axis, value } = Object.values(handed).find((one) => one.axis !== null);
  const frames = value.dims[axis];
  let states = mapped(layout.states, ({ shape, type, fill }) =>
    tensor({ dtype: type, shape, values: Array(shape.reduce((all, one) => all * one, 1)).fill(fill) }));
  let firstSeconds = null, length = pieces.first_seconds;
  for (let done = 0; done < frames;) {
    const own = Math.max(1, Math.round(length / frame));
    const end = Math.min(frames, Math.max(layout.shortest, done + own + (done ? 0 : layout.wait)));
    length = Math.min(Math.max(pieces.growth * length, layout.free * frame), pieces.longest_seconds);
    const made = await decoder.run({
      ...mapped(handed, (one) => between(one.value, one.axis, done, end)),
      ...states,
      streaming_first: flag(done === 0),
      streaming_last: flag(end === frames),
    });
    const [audio, ...kept] = decoder.outputNames;
    states = mapped(states, (_, __, number) => made[kept[number]]);
    done = end;
    const samples = Float32Array.from(made[audio].data);
    firstSeconds ??= since();
    give(samples);
  }
  return { seconds: since(), firstSeconds };
}

const flag = (isSet) => tensor({ dtype: "int64", shape: [1], values: [Number(isSet)] });

/** A part of a tensor along an axis; all of it without an axis. */
function between(value, axis, start, end) {
  if (axis === null) return value;
  const outer = value.dims.slice(0, axis).reduce((all, one) => all * one, 1);
  const inner = value.dims.slice(axis + 1).reduce((all, one) => all * one, 1);
  const row = value.dims[axis] * inner, size = (end - start) * inner;
  const part = new value.data.constructor(outer * size);
  for (let at = 0; at < outer; at++) {
    part.set(value.data.subarray(at * row + start * inner, at * row + end * inner), at * size);
  }
  return new ort.Tensor(value.type, part, [...value.dims.slice(0, axis), end - start, ...value.dims.slice(axis + 1)]);
}

const TASKS = { open, run, runPieces };

/** One sentence for people, whatever went wrong. */
function sentence(error, what) {
  if (error instanceof Refusal) return error.message;
  const said = String(error?.message ?? error);
  if (error instanceof RangeError || /memory|alloc|Array buffer|abort/i.test(said)) {
    return `This device has too little memory for ${what}: close other tabs, or try a smaller voice.`;
  }
  return `${what} does not work in this browser: ${said.split("\n")[0].slice(0, 300)}`;
}

self.onmessage = async ({ data: { id, task, ...question } }) => {
  try {
    const give = (samples) => self.postMessage({ id, piece: samples }, [samples.buffer]);
    const result = await TASKS[task](question, give);
    self.postMessage({ id, result }, result?.samples ? [result.samples.buffer] : []);
  } catch (error) {
    self.postMessage({ id, error: sentence(error, question.variant?.name ?? question.name ?? "the runtime") });
  }
};
