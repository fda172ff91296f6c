// Text to phonemes, sentence by sentence, in code points of Unicode's decomposed form: as `piper` makes them.

import { WorkerClient } from "./worker-client.js";

const MOST_CHARACTERS = 2000; // of one run of espeak-ng

export class Phonemizer {
  /** @param {object} voice what `web.json` says of it */
  constructor(voice) {
    this.voice = voice;
    this.worker = null;
  }

  /** Whether this page can make phonemes for the voice. */
  get works() {
    return Boolean(this.voice.espeak_voice) || this.voice.spells;
  }

  /** @returns {Promise<string[][]>} */
  async sentences(text) {
    if (this.voice.spells) return [[...text.normalize("NFD")]];
    const sentences = [];
    let raw = false;
    // what stands in [[ ]] are phonemes already, and belong to the sentence around them
    const parts = text.split(/(\[\[.*?\]\])/);
    for (const [number, part] of parts.entries()) {
      if (part.startsWith("[[")) {
        if (!sentences.length) sentences.push([]);
        const sentence = sentences.at(-1);
        if (number > 0 && parts[number - 1].endsWith(" ")) sentence.push(" ");
        sentence.push(...part.slice(2, -2).trim());
        if (number < parts.length - 1 && parts[number + 1].startsWith(" ")) sentence.push(" ");
        raw = true;
        continue;
      }
      const made = await this.espeak(part);
      if (raw && made.length) sentences.at(-1).push(...made.shift());
      sentences.push(...made);
      raw = false;
    }
    return sentences.filter((sentence) => sentence.length);
  }

  async espeak(text) {
    const texts = paragraphs(text);
    if (!texts.length) return [];
    this.worker ??= new WorkerClient(new Worker(new URL("./espeak-worker.js", import.meta.url)));
    const found = [];
    for (const one of texts) { // one after the other: each run has its own memory
      const phonemes = await this.worker.ask({ voice: this.voice.espeak_voice, text: one });
      found.push(...bySentence(phonemes.join("").replace(/\([^)]+\)/g, "").normalize("NFD")));
    }
    return found;
  }
}

/** Parts that are spoken by themselves: an empty line ends a sentence; so does what is too long for one run. */
function paragraphs(text) {
  const parts = [];
  for (const paragraph of text.split(/\n\s*\n/)) {
    let rest = paragraph.trim();
    while (rest.length > MOST_CHARACTERS) {
      const head = rest.slice(0, MOST_CHARACTERS);
      const end = Math.max(...[". ", "! ", "? "].map((mark) => head.lastIndexOf(mark))) + 1 || head.lastIndexOf(" ") + 1;
      parts.push(rest.slice(0, end || MOST_CHARACTERS).trim());
      rest = rest.slice(end || MOST_CHARACTERS).trim();
    }
    if (rest) parts.push(rest);
  }
  return parts;
}

/** A sentence ends behind its mark, which is never a phoneme. */
function bySentence(phonemes) {
  return (phonemes.match(/[^.?!]*[.?!]|[^.?!]+$/gu) ?? []).map((sentence) => [...sentence]);
}
