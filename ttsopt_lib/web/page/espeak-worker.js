// espeak-ng in WebAssembly (Piper's phonemizer): texts in, phonemes out. A classic worker, because the program is a
// classic script. The program is made for one run from a command line and keeps what it allocates, so each request gets
// a fresh one of the same compiled module.
"use strict";

importScripts("espeak.js");

const DATA = "/espeak-ng-data";
let loaded = null;

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

async function phonemes(voice, texts) {
  loaded ??= load();
  let module, files;
  try {
    ({ module, files } = await loaded);
  } catch (error) {
    loaded = null; // the next request tries again
    throw error;
  }
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
  const input = JSON.stringify(texts.map((text) => ({ text })));
  program.callMain(["-l", voice, "--input", input, "--espeak_data", DATA]);
  return lines.map((line) => JSON.parse(line).phonemes);
}

self.onmessage = async ({ data: { id, voice, texts } }) => {
  try {
    self.postMessage({ id, result: await phonemes(voice, texts) });
  } catch (error) {
    self.postMessage({ id, error: String(error?.message ?? error) });
  }
};
