// espeak-ng in WebAssembly (Piper's phonemizer): texts in, phonemes out. A classic worker, because the program is a
// classic script. The program is made for one run from a command line and keeps what it allocates, so each request gets
// a fresh one of the same compiled module.
"use strict";

importScripts("espeak.js");

const DATA = "/espeak-ng-data";
let loaded = null, prepared = null;

async function load() {
  const [program, data] = await Promise.all(["espeak.wasm", "espeak.data"].map(async (name) => {
    const answer = await fetch(name);
    if (!answer.ok) throw new Error(`${name} is missing on the server: write the page again with "ttsopt web".`);
    return answer.arrayBuffer();
  }));
  const end = new Uint8Array(data).indexOf(10);
  const files = [];
  let at = end + 1;
  for (const [name, size] of JSON.parse(new TextDecoder().decode(new Uint8Array(data, 0, end)))) {
    files.push([name, new Uint8Array(data, at, size)]);
    at += size;
  }
  return { module: await WebAssembly.compile(program), files };
}

/** A program that has not run yet, with its data. */
async function prepare() {
  const { module, files } = await (loaded ??= load());
  const lines = [];
  const program = await createPiperPhonemize({
    $ww: true, // leaves out the package's own data, which are of an older espeak-ng than the voice's
    print: (line) => lines.push(line),
    printErr: () => {},
    instantiateWasm: (imports, use) => {
      WebAssembly.instantiate(module, imports).then((instance) => use(instance, module));
      return {};
    },
  });
  program.FS.mkdir(DATA);
  for (const [name, content] of files) {
    let folder = DATA;
    for (const part of name.split("/").slice(0, -1)) {
      folder += `/${part}`;
      if (!program.FS.analyzePath(folder).exists) program.FS.mkdir(folder);
    }
    program.FS.writeFile(`${DATA}/${name}`, content);
  }
  return { program, lines };
}

async function phonemes(voice, text) {
  const ready = prepared ?? prepare();
  prepared = null;
  let program, lines;
  try {
    ({ program, lines } = await ready);
  } catch (error) {
    loaded = null; // the next request tries again
    throw error;
  }
  program.callMain(["-l", voice, "--input", JSON.stringify([{ text }]), "--espeak_data", DATA]);
  return JSON.parse(lines[0]).phonemes;
}

self.onmessage = async ({ data: { id, voice, text } }) => {
  try {
    self.postMessage({ id, result: await phonemes(voice, text) });
    prepared ??= prepare(); // while nobody waits
    prepared.catch(() => { prepared = null; });
  } catch (error) {
    self.postMessage({ id, error: String(error?.message ?? error) });
  }
};
