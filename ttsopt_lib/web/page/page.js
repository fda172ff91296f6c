// The page: reads `web.json`, shows what it is about, and carries out what the reader asks for.
// Names and texts of a study are only ever set as text.

import { mostThreads } from "./device.js";
import { Measurement, Stopped } from "./measure.js";
import { Phonemizer } from "./phonemes.js";
import { Player } from "./player.js";
import { NothingToSpeak, sentenceIds } from "./text.js";
import { hasSimd, NO_SIMD, Voices } from "./voices.js";

const ORIGINAL = "original";
const byId = (id) => document.getElementById(id);

const state = {
  about: null,
  phonemizer: null,
  voices: null, // those that are heard
  player: new Player(),
  job: 0, // number of the latest thing to hear: an earlier one ends
  spoken: new Map(), // variant -> what it last said, and how long that took
  measurement: null,
  record: null,
};

// --- what other programs may call, and what the buttons call as well

const api = {
  progress: { doing: "", done: null, of: null },
  ready: null,
  ids: async (text, { phrases = false } = {}) => {
    await api.ready;
    return sentenceIds(state.about.voice, await state.phonemizer.sentences(text), phrases);
  },
  speak,
  measure,
};
window.ttsopt = api;

function note(progress) {
  api.progress = progress;
  showLoading(progress);
}

/**
 * Speak a sentence of `web.json` by its number, or a text; all of the audio, the seconds it took, and those to the first
 * of it. With `inPieces` each sentence is made piece by piece, which a voice with two halves can; with `phrases` each
 * phrase of a text is spoken by itself.
 */
async function speak(name, what, { scales, inPieces = false, phrases = false } = {}) {
  await api.ready;
  const parts = typeof what === "number"
    ? [storedInputs(state.about.sentences[what], scales)]
    : await inputsOf(what, { scales, phrases });
  const pieces = [];
  const { seconds, firstSeconds } = await speakParts(name, parts, inPieces, (samples) => pieces.push(samples));
  const samples = new Float32Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    samples.set(piece, at);
    at += piece.length;
  }
  return { samples, seconds, firstSeconds, sampleRate: state.about.voice.sample_rate };
}

/** Speak sentence after sentence until `isOver`; the seconds in all, and those to the first samples. */
async function speakParts(name, parts, inPieces, give, isOver = () => false) {
  let seconds = 0, firstSeconds = null;
  for (const inputs of parts) {
    const spoken = inPieces
      ? await state.voices.runPieces(name, inputs, give)
      : await state.voices.run(name, inputs);
    if (isOver()) break;
    firstSeconds ??= spoken.firstSeconds ?? spoken.seconds;
    seconds += spoken.seconds;
    if (!inPieces) give(spoken.samples);
  }
  return { seconds, firstSeconds };
}

/** Measure this device; resolves to the record. */
async function measure(asked = {}) {
  await api.ready;
  if (state.measurement) throw new Error("A measurement is running already: wait for its end, or stop it.");
  state.job++;
  state.player.stop();
  state.voices.end(); // nothing else computes meanwhile
  state.measurement = new Measurement(state.about, { progress: noteMeasuring, pause: showPause });
  showMeasuring(true);
  try {
    const record = await state.measurement.run(asked);
    state.record = record;
    return record;
  } finally {
    state.measurement = null;
    api.progress = { doing: "", done: null, of: null };
    showMeasuring(false);
  }
}

// --- what the voices are fed

function storedInputs({ inputs }, scales = null) {
  return scales && inputs.scales ? { ...inputs, scales: { ...inputs.scales, values: scales } } : inputs;
}

/** What a voice is fed for a text, sentence by sentence or phrase by phrase; a stored sentence as it is stored. */
async function inputsOf(text, { scales = null, phrases = false } = {}) {
  const { voice, sentences } = state.about;
  const said = text.trim();
  const stored = sentences.find((sentence) => sentence.text.trim() === said);
  if (stored && !phrases) return [storedInputs(stored, scales ?? voice.scales)];
  if (!said) throw new NothingToSpeak();
  if (!state.phonemizer.works) return servedInputs(said, scales);
  return sentenceIds(voice, await state.phonemizer.sentences(said), phrases).map((ids) => ({
    input: { dtype: "int64", shape: [1, ids.length], values: ids },
    input_lengths: { dtype: "int64", shape: [1], values: [ids.length] },
    scales: { dtype: "float32", shape: [3], values: scales ?? voice.scales },
    ...(voice.speaker === null ? {} : { sid: { dtype: "int64", shape: [1], values: [voice.speaker] } }),
  }));
}

/** The same from the server, where the page cannot make phonemes. */
async function servedInputs(text, scales) {
  const { inputs } = state.about.served ?? {};
  if (!inputs) throw new Error("This voice's phonemes cannot be made in a page: choose a sentence of the study.");
  const answer = await post(inputs, { text });
  return answer.inputs.map((one) => storedInputs({ inputs: one }, scales));
}

/** Send something to the server; what it answers. */
async function post(place, content) {
  let said, answer;
  try {
    answer = await fetch(place, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content),
    });
    said = await answer.json();
  } catch {
    throw new Error("the server does not answer");
  }
  if (!answer.ok) throw new Error(said.error);
  return said;
}

/** Whether a text may be typed, and not only chosen. */
const takesTexts = () => state.phonemizer.works || Boolean(state.about.served?.inputs);

// --- type and hear

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const cards = new Map(); // variant -> its parts on the page

function showVoices() {
  const { variants, sentences, language } = state.about;
  byId("typing").hidden = !takesTexts();
  byId("phrasing").hidden = !state.phonemizer.works;
  const shown = Math.max(0, sentences.findIndex(({ use }) => use === "listening"));
  byId("text").value = sentences[shown]?.text ?? "";
  byId("text").lang = language;
  sentences.forEach(({ text }, number) => {
    const signs = [...text], shortened = signs.length > 90 ? `${signs.slice(0, 90).join("")}…` : text;
    byId("sentence").append(element("option", { value: number, textContent: shortened, lang: language, dir: "auto" }));
  });
  byId("sentence").value = shown;
  byId("sentence").addEventListener("change", ({ target }) => {
    byId("text").value = sentences[target.value].text;
  });
  byId("hear-note").textContent = [
    state.phonemizer.works
      ? "Phonemes and speech are made in this browser, with one thread."
      : takesTexts()
        ? "This voice's phonemes are made by the server, and its speech in this browser, with one thread."
        : "This voice's phonemes cannot be made in a page, so it speaks the sentences of the study.",
    "A voice is loaded when you first play it.",
  ].join(" ");
  variants.forEach((variant, number) => {
    const bytes = variant.bytes + variant.weights.reduce((sum, one) => sum + one.bytes, 0);
    const said = element("p", { className: "said", role: "status" });
    const bar = element("progress", { max: 1, value: 0, hidden: true });
    bar.setAttribute("aria-label", `Loading ${variant.name}`);
    const button = element("button", { type: "button", textContent: "Play" });
    button.setAttribute("aria-label", `Play ${variant.name}`);
    button.addEventListener("click", () => (cards.get(variant.name).busy ? hush() : hear(variant.name)));
    const title = element("h3", { id: `voice-${number}`, textContent: variant.name });
    const size = element("p", { className: "quiet", textContent: `${(bytes / 1e6).toFixed(1)} MB` });
    byId("voices").append(element("li", {}, title, size, button, bar, said));
    cards.set(variant.name, { said, bar, button, busy: false });
  });
}

const shortest = () => state.about.sentences.reduce((best, one) => (one.phonemes < best.phonemes ? one : best));

function setButton(name, text, busy) {
  const card = cards.get(name);
  card.busy = busy;
  card.button.textContent = text;
  card.button.setAttribute("aria-label", `${text} ${name}`);
}

function say(name, text, wrong = false) {
  const { said } = cards.get(name);
  said.textContent = text;
  said.classList.toggle("wrong", wrong);
}

function hush() {
  state.job++;
  state.player.stop();
  loading = null;
  for (const [name, card] of cards) {
    if (!card.busy) continue;
    setButton(name, "Play", false);
    card.bar.hidden = true;
    if (card.said.textContent.endsWith("…")) say(name, "Stopped.");
  }
}

let loading = null; // the variant whose bar moves

function showLoading({ doing, done, of }) {
  const bar = cards.get(loading)?.bar;
  if (!bar) return;
  bar.hidden = false;
  if (of) bar.value = done / of;
  else bar.removeAttribute("value");
  bar.title = doing;
}

async function hear(name) {
  hush();
  const job = ++state.job, isOld = () => job !== state.job;
  const { about, voices } = state, rate = about.voice.sample_rate;
  const text = takesTexts() ? byId("text").value : about.sentences[byId("sentence").value].text;
  const playing = state.player.begin(rate);
  setButton(name, "Stop", true);
  try {
    const parts = await inputsOf(text, { phrases: byId("phrases").checked });
    if (isOld()) return;
    say(name, "Loading …");
    loading = name;
    const inPieces = voices.hasPieces(name);
    await voices.open(name, shortest().inputs, inPieces);
    loading = null;
    cards.get(name).bar.hidden = true;
    if (isOld()) return;
    say(name, "Speaking …");
    let samples = 0;
    const give = (piece) => {
      if (isOld()) return;
      samples += piece.length;
      playing.add(piece);
    };
    const { seconds, firstSeconds } = await speakParts(name, parts, inPieces, give, isOld);
    if (isOld()) return;
    const audio = samples / rate;
    const speed = `${inSeconds(seconds)} for ${audio.toFixed(1)} s of audio: ${(audio / seconds).toFixed(1)} times real time`;
    say(name, `${speed}; first sound after ${inSeconds(firstSeconds)}`);
    state.spoken.set(name, { text, rate: seconds / audio });
    compare(text, name);
    await playing.done();
    if (!isOld()) setButton(name, "Play", false);
  } catch (error) {
    if (isOld()) return;
    loading = null;
    cards.get(name).bar.hidden = true;
    say(name, error.message, true);
    setButton(name, error instanceof NothingToSpeak ? "Play" : "Try again", false);
  }
}

/** One sentence about the voice that was just heard and the original, where both have said the same. */
function compare(text, latest) {
  const original = state.spoken.get(ORIGINAL);
  const others = [...state.spoken].filter(([name, { text: said }]) => name !== ORIGINAL && said === text);
  const [name, other] = others.find(([name]) => name === latest) ?? others.at(-1) ?? [];
  const share = other && other.rate / original?.rate;
  byId("compared").textContent = original?.text === text && other
    ? `Here ${name} took ${percent(share)} of the original's time: ${times(1 / share)} as fast. One run each says little; measure this device below.`
    : "";
}

const inSeconds = (seconds) => `${seconds.toFixed(seconds < 10 ? 3 : 1)} s`;
const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
const times = (ratio) => `${ratio.toFixed(ratio < 10 ? 2 : 1)} times`;

// --- measure

function showMeasure() {
  const { about } = state;
  byId("sentence-count").textContent = about.sentences.filter(({ use }) => use === "timing").length;
  const most = mostThreads();
  const choices = [[1], ...(most > 1 ? [[1, most], [most]] : [])];
  for (const choice of choices) {
    byId("threads").append(element("option", { value: choice.join(","), textContent: choice.join(" and then ") }));
  }
  for (const { name } of about.variants) {
    const isOriginal = name === ORIGINAL; // without which the library takes no record
    const box = element("input", { type: "checkbox", value: name, checked: true, disabled: isOriginal });
    const label = isOriginal ? `${name}, with which the others are compared` : name;
    byId("measured-voices").append(element("label", {}, box, label));
  }
  byId("measured-voices").hidden = about.variants.length < 2;
  byId("measure-form").addEventListener("submit", (event) => {
    event.preventDefault();
    startMeasuring();
  });
  byId("stop").addEventListener("click", () => state.measurement?.stop());
  byId("save").addEventListener("click", save);
  byId("send").addEventListener("click", send);
  byId("send").hidden = !about.served;
}

async function startMeasuring() {
  const variants = [...byId("measured-voices").querySelectorAll("input:checked")].map(({ value }) => value);
  if (!variants.length) {
    byId("measure-state").textContent = "Choose a voice to measure.";
    return;
  }
  byId("record").hidden = true;
  byId("results").hidden = true;
  byId("measure-state").textContent = "Measuring …";
  try {
    const threads = byId("threads").value.split(",").map(Number);
    const record = await measure({ seconds: byId("seconds").valueAsNumber || 60, threads, variants });
    const blocks = record.sittings.reduce((sum, sitting) => sum + sitting.blocks, 0);
    const done = `Done: ${blocks} blocks in ${record.elapsed_seconds.toFixed(0)} s.`;
    const notes = record.warnings.map((text) => `${text.replace(/\.$/, "")}.`);
    if (!isCompared(record)) notes.push(`There is no record to save: the report compares voices with the ${ORIGINAL}, which was not measured.`);
    byId("measure-state").textContent = [done, ...notes].join(" ");
    showRecord(record);
  } catch (error) {
    byId("measure-state").textContent = error instanceof Stopped ? error.message : `Not measured: ${error.message}`;
  }
}

function showMeasuring(isRunning) {
  byId("start").hidden = isRunning;
  byId("stop").hidden = !isRunning;
  byId("progress-box").hidden = !isRunning;
  for (const { button } of cards.values()) button.disabled = isRunning;
  if (isRunning) {
    hush();
    byId("progress").value = 0;
    if (document.activeElement === document.body) byId("stop").focus();
  } else if (document.activeElement === document.body) {
    byId("start").focus();
  }
}

function noteMeasuring(progress) {
  api.progress = progress;
  const { doing, done, of } = progress;
  byId("doing").textContent = of && doing.startsWith("block") ? `${doing}: ${Math.round(done)} of ${Math.round(of)} s` : doing;
  if (of && doing.startsWith("block")) byId("progress").value = done / of;
}

function showPause(isPaused) {
  byId("measure-state").textContent = isPaused
    ? "Paused: this tab is hidden. It goes on when you come back to it."
    : "Measuring …";
  document.title = isPaused ? "Paused" : titleOf(state.about);
}

/** Whether each number of threads has the original, without which the library takes no record. */
const isCompared = ({ threads, rows }) => threads.every((count) =>
  rows.some((row) => row.variant === ORIGINAL && row.threads === count));

function showRecord(record) {
  const baseline = record.rows.filter(({ variant }) => variant === ORIGINAL);
  byId("rows").replaceChildren(...record.rows.map((row) => {
    const rate = rateOf(row), original = baseline.find(({ threads }) => threads === row.threads);
    const name = row.threads > 1 ? `${row.variant}, ${row.threads} threads` : row.variant;
    const cells = [
      `${(1000 * rate).toFixed(rate < 0.1 ? 1 : 0)} ms`, (1 / rate).toFixed(1),
      original && original !== row ? (rateOf(original) / rate).toFixed(2) : "–", `${row.load_seconds[0].toFixed(2)} s`,
    ];
    return element("tr", {}, element("th", { scope: "row", textContent: name }),
      ...cells.map((text) => element("td", { className: "number", textContent: text })));
  }));
  byId("results").hidden = false;
  byId("device").textContent = [
    record.browser.brands ?? record.browser.user_agent, record.browser.platform, `${record.browser.logical_cores} cores`,
  ].filter(Boolean).join(", ");
  byId("record-state").textContent = "";
  byId("command-box").hidden = true;
  byId("record").hidden = !isCompared(record);
}

/** Seconds of computing for one second of audio: the median over the blocks. */
function rateOf(row) {
  const sum = (numbers) => numbers.reduce((total, one) => total + one, 0);
  const rates = row.seconds.map((seconds, block) => sum(seconds) / sum(row.audio_seconds[block])).sort((a, b) => a - b);
  const middle = rates.length / 2;
  return rates.length % 2 ? rates[Math.floor(middle)] : (rates[middle - 1] + rates[middle]) / 2;
}

// --- save or send

function save() {
  const { record } = state;
  const file = new Blob([JSON.stringify(record)], { type: "application/json" });
  const link = element("a", { href: URL.createObjectURL(file), download: `${record.study}-${record.created.replaceAll(":", "")}.json` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  byId("record-state").textContent = `Saved as ${link.download}. “ttsopt measure STUDY --import FILE” puts it into the report.`;
}

async function send() {
  byId("send").disabled = true;
  byId("record-state").textContent = "Sending …";
  try {
    const said = await post(state.about.served.records, state.record);
    byId("record-state").textContent = `The server has it: ${said.stored}.`;
    byId("command").textContent = said.command;
    byId("command-box").hidden = false;
  } catch (error) {
    byId("record-state").textContent = `It was not sent: ${error.message}. Try again, or save it as a file.`;
  } finally {
    byId("send").disabled = false;
  }
}

// --- begin

const titleOf = (about) => `${about.study}: hear and measure`;

async function begin() {
  let about;
  try {
    const answer = await fetch("web.json");
    if (!answer.ok) throw new Error();
    about = await answer.json();
  } catch {
    throw new Error("The page could not read web.json: check the connection and try again, or write the page again with “ttsopt web”.");
  }
  if (about.format !== "ttsopt web page" || about.schema_version !== 1) {
    throw new Error("web.json belongs to another version of this page: write the page again with “ttsopt web”.");
  }
  state.about = about;
  state.phonemizer = new Phonemizer(about.voice);
  state.voices = new Voices(about, 1, note);
  document.title = titleOf(about);
  byId("title").textContent = titleOf(about);
  byId("subtitle").textContent = about.title;
  showVoices();
  showMeasure();
  byId("hear").hidden = false;
  byId("measure").hidden = false;
  if (!hasSimd()) fail(NO_SIMD);
}

function fail(text) {
  byId("failure-text").textContent = text;
  byId("failure").hidden = false;
}

byId("reload").addEventListener("click", () => location.reload());
api.ready = begin();
api.ready.catch((error) => fail(error.message)).finally(() => { byId("opening").hidden = true; });
