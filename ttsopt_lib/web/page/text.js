// Phonemes to ids, as `ttsopt_lib/voices/text.py` makes them: the same symbols, the same splits, the same ids.

const BEGIN = "^", END = "$", PAD = "_";
const PAUSES = ",;:\u2014", LEAST_PHONEMES = 20; // a phrase may end behind one of these; it has so many phonemes

/** A text that gives no phonemes; its message is for people. */
export class NothingToSpeak extends Error {
  constructor() {
    super("There is nothing to speak in this text: write words in the voice's language.");
  }
}

/**
 * Ids of each sentence.
 * @param {object} voice what `web.json` says of it
 * @param {string[][]} sentences phonemes, sentence by sentence: code points in Unicode's decomposed form
 * @param {boolean} phrases whether each phrase of a sentence is spoken by itself
 * @returns {number[][]}
 */
export function sentenceIds(voice, sentences, phrases = false) {
  const spoken = sentences.filter((phonemes) => phonemes.length);
  const isSpeech = (symbol) => symbol in voice.phoneme_ids && /[\p{L}\p{N}]/u.test(symbol);
  if (!spoken.some((phonemes) => symbolsOf(voice, phonemes).some(isSpeech))) throw new NothingToSpeak();
  return (phrases ? spoken.flatMap(phrasesOf) : spoken).flatMap((phonemes) => split(phonemes, voice.most_phonemes))
    .map((phonemes) => idsOf(voice, symbolsOf(voice, phonemes)));
}

/** Phonemes as the voice's map spells them: a letter and its mark are one symbol where the map has them as one. */
export function symbolsOf(voice, phonemes) {
  const known = voice.phoneme_ids;
  const spellings = new Map();
  for (const symbol of Object.keys(known)) {
    const parts = [...symbol.normalize("NFD")];
    const meant = voice.from_tokenizer || !parts.every((part) => part in known);
    if (meant && [...symbol].length === 1 && parts.join("") !== symbol) spellings.set(parts.join(""), symbol);
  }
  const longest = Math.max(0, ...[...spellings.keys()].map((parts) => [...parts].length));
  const symbols = [];
  for (let at = 0; at < phonemes.length;) {
    let length = longest, symbol;
    for (; length > 0; length--) {
      symbol = spellings.get(phonemes.slice(at, at + length).join(""));
      if (symbol !== undefined && at + length <= phonemes.length) break;
    }
    if (length === 0) {
      length = 1;
      symbol = phonemes[at];
      const pair = phonemes.slice(at, at + 2), marked = pair.join("").normalize("NFC");
      if (voice.from_tokenizer && [...marked].length === 1 && !pair.slice(1).every((mark) => mark in known)) {
        length = pair.length; // a tokenizer drops the letter with its mark
        symbol = marked;
      }
    }
    symbols.push(symbol);
    at += length;
  }
  return symbols;
}

function idsOf(voice, symbols) {
  const ids = voice.phoneme_ids;
  let known = symbols.filter((symbol) => symbol in ids);
  if (voice.from_tokenizer) { // a tokenizer strips what remains of the text
    const spoken = known.map((symbol, at) => (symbol === " " ? -1 : at)).filter((at) => at >= 0);
    known = known.slice(spoken[0], spoken.at(-1) + 1);
  }
  return [...ids[BEGIN], ...ids[PAD], ...known.flatMap((symbol) => [...ids[symbol], ...ids[PAD]]), ...ids[END]];
}

/** Parts that end behind a pause; one of too few phonemes goes with its neighbour. */
function phrasesOf(phonemes) {
  const parts = [[]];
  phonemes.forEach((phoneme, number) => {
    const begins = number && PAUSES.includes(phonemes[number - 1]) && phoneme === " ";
    if (begins && Math.min(parts.at(-1).length, phonemes.length - number) >= LEAST_PHONEMES) parts.push([]);
    else parts.at(-1).push(phoneme);
  });
  return parts;
}

/** Parts of so many phonemes at most, cut at spaces; a word that is longer stays whole. */
function split(phonemes, most) {
  const parts = [];
  let word = [];
  for (const phoneme of [...phonemes, " "]) {
    if (phoneme !== " ") {
      word.push(phoneme);
    } else if (word.length) {
      const last = parts.at(-1);
      if (last && last.length + 1 + word.length <= most) last.push(" ", ...word);
      else parts.push(word);
      word = [];
    }
  }
  return parts;
}
