// Measure this device as the library measures others: all voices open and warm, visited in mirrored blocks, so that a
// device that gets warm or busy touches all of them alike. The result is a record that `ttsopt measure --import` reads.

import { describeDevice, mostThreads } from "./device.js";
import { Voices } from "./voices.js";

// A browser compiles WebAssembly a second time, better, beside the first runs: voices are warm when a pass over all
// sentences is not surely faster than the one before.
const MOST_PASSES = 5, FASTER = 0.9;
const FIRST_SHARE = 4; // the first number of threads is what targets refer to: it gets so many times a later one's time

/** The measurement was ended by the reader. */
export class Stopped extends Error {}

/** A time of zero is no sample, and one that is not zero there says little. */
class CoarseClock extends Error {
  constructor() {
    super("this browser's clock is too coarse: measure in another browser, or switch off what protects from fingerprinting.");
  }
}

/** Whether the tab is seen; a hidden one is slowed down by the browser, and what it times is worth nothing. */
class Visibility {
  constructor() {
    this.pauses = 0;
    this.hidden = document.hidden;
    this.hiddenSeconds = 0;
    this.listen = () => {
      if (document.hidden) this.hidden = true;
    };
    document.addEventListener("visibilitychange", this.listen);
  }

  /** Whether it was hidden since the last call of `seen`. */
  get wasHidden() {
    return this.hidden || document.hidden;
  }

  async seen(onPause) {
    const began = performance.now();
    if (document.hidden) {
      onPause();
      await new Promise((resolve) => {
        const look = () => {
          if (document.hidden) return;
          document.removeEventListener("visibilitychange", look);
          resolve();
        };
        document.addEventListener("visibilitychange", look);
      });
    }
    if (this.hidden) this.pauses++;
    this.hidden = false;
    this.hiddenSeconds += (performance.now() - began) / 1000;
  }

  end() {
    document.removeEventListener("visibilitychange", this.listen);
  }
}

export class Measurement {
  /**
   * @param {object} about `web.json`
   * @param {{progress: (progress: object) => void, pause: (isPaused: boolean) => void}} hooks
   */
  constructor(about, hooks) {
    this.about = about;
    this.hooks = hooks;
    this.sentences = about.sentences.filter(({ use }) => use === "timing");
    this.voices = null;
    this.isStopped = false;
  }

  stop() {
    this.isStopped = true;
    this.voices?.end();
  }

  /**
   * @param {{seconds?: number, threads?: number | number[], variants?: string[], minBlocks?: number,
   *   maxBlocks?: number}} asked `minBlocks` are taken even where the seconds are over; no record has more blocks than
   *   `web.json` allows
   * @returns {Promise<object>} the record
   */
  async run({ seconds = 60, threads = 1, variants, minBlocks = 2, maxBlocks = Infinity }) {
    const mostBlocks = Math.min(maxBlocks, this.about.most_blocks);
    const most = mostThreads(), asked = [threads].flat();
    const wanted = [...new Set(asked.map((count) => Math.min(count, most)))];
    const names = variants ?? this.about.variants.map(({ name }) => name);
    this.visibility = new Visibility();
    this.began = performance.now();
    this.warnings = [];
    this.sittings = [];
    const created = now(), rows = [], reasons = [];
    let browser;
    try {
      browser = await describeDevice();
      if (this.isStopped) throw new Stopped();
      this.sit();
      const shares = wanted.map((_, number) => (number ? 1 : FIRST_SHARE));
      const whole = shares.reduce((sum, share) => sum + share, 0);
      let share = 0;
      for (const [number, count] of wanted.entries()) {
        share += shares[number];
        this.voices = new Voices(this.about, count, ({ doing }) => this.say(doing));
        const opened = await this.open(names, count);
        await this.warmUp(opened, (share / whole) * seconds);
        reasons.push(await this.blocks(opened, (share / whole) * seconds, minBlocks, mostBlocks));
        rows.push(...opened);
        this.voices.end();
      }
    } catch (error) {
      throw this.isStopped ? new Stopped("The measurement was stopped, and nothing of it is kept.") : error;
    } finally {
      this.voices?.end();
      this.visibility.end();
    }
    this.sittings.at(-1).ended = now();
    if (this.visibility.pauses) this.warnings.push("the tab was hidden meanwhile: those blocks were taken again");
    if (Math.max(...asked) > most) this.warnings.push(`fewer threads than asked for: this page may have ${most}`);
    const scales = this.sentences[0]?.inputs.scales?.values ?? [];
    return {
      format: "ttsopt browser record",
      schema_version: 1,
      study: this.about.study,
      created,
      commit: this.about.commit,
      onnxruntime_web: this.about.onnxruntime_web,
      provider: "wasm",
      threads: wanted,
      browser,
      scales,
      sentences: this.sentences.map(({ length_class, text, phonemes }) => ({ length_class, text, phonemes })),
      rows,
      stopped_by: reasons.includes("budget") ? "budget" : "max_blocks",
      elapsed_seconds: this.elapsed,
      sittings: this.sittings.filter(({ blocks }) => blocks),
      pauses: this.visibility.pauses,
      warnings: this.warnings,
    };
  }

  /** Seconds since the beginning without those in which the tab was hidden. */
  get elapsed() {
    return (performance.now() - this.began) / 1000 - this.visibility.hiddenSeconds;
  }

  say(doing, done = null, of = null) {
    this.hooks.progress({ doing, done, of });
  }

  sit() {
    if (this.sittings.length) this.sittings.at(-1).ended = now();
    this.sittings.push({ started: now(), ended: null, blocks: 0 });
  }

  /** What a voice speaks, and the seconds that it took. */
  async spoken(name, inputs) {
    const spoken = await this.voices.run(name, inputs);
    if (!spoken.seconds) throw new CoarseClock();
    return spoken;
  }

  /** Speak all sentences until a further pass is not faster, for half of the time at most. */
  async warmUp(rows, budget) {
    let before = rows.reduce((sum, row) => sum + row.first_seconds.reduce((all, one) => all + one, 0), 0);
    for (let pass = 1; pass < MOST_PASSES; pass++) {
      let now = 0;
      for (const { variant } of rows) {
        this.say(`warming up ${variant}`, pass, MOST_PASSES);
        for (const { inputs } of this.sentences) now += (await this.spoken(variant, inputs)).seconds;
      }
      if (now > FASTER * before || this.elapsed + now > budget / 2) return;
      before = now;
    }
  }

  /** Open every voice and let it speak a first time; one that does not open or speak is left out with a warning. */
  async open(names, threads) {
    const rows = [];
    for (const name of names) {
      try {
        const { seconds } = await this.voices.open(name);
        if (!seconds) throw new CoarseClock();
        const first = [];
        for (const [number, { inputs }] of this.sentences.entries()) {
          this.say(`warming up ${name}`, number, this.sentences.length);
          first.push((await this.spoken(name, inputs)).seconds);
        }
        const { sha256 } = this.about.variants.find((one) => one.name === name);
        rows.push({
          variant: name, threads, model_sha256: sha256, load_seconds: [seconds], first_seconds: first,
          seconds: [], audio_seconds: [],
        });
      } catch (error) {
        if (this.isStopped || error instanceof CoarseClock) throw error;
        this.warnings.push(`not measured: ${name}: ${error.message}`);
        if (names.length === 1) throw error;
      }
    }
    if (!rows.length) throw new Error(this.warnings.at(-1)?.replace("not measured: ", "") ?? "There is no voice to measure.");
    return rows;
  }

  /** Blocks until the time is over, at least so many, and always whole pairs of them; why they ended. */
  async blocks(rows, budget, minBlocks, maxBlocks) {
    let longest = 0, done = 0;
    for (;;) {
      const began = this.elapsed;
      const forward = this.sentences.flatMap((_, sentence) => shuffled(rows).map((row) => [row, sentence]));
      for (const visits of [forward, [...forward].reverse()]) {
        if (done >= maxBlocks) return "max_blocks";
        await this.block(rows, visits, budget, done);
        done++;
      }
      longest = Math.max(longest, this.elapsed - began);
      if (done >= maxBlocks) return "max_blocks";
      if (done >= minBlocks && this.elapsed + longest > budget) return "budget";
    }
  }

  /** One block; taken again while the tab was hidden in it. */
  async block(rows, visits, budget, done) {
    for (;;) {
      if (this.visibility.wasHidden) {
        await this.visibility.seen(() => this.hooks.pause(true));
        this.hooks.pause(false);
        this.sit();
      }
      const seconds = new Map(rows.map((row) => [row, []])), audio = new Map(rows.map((row) => [row, []]));
      for (const [row, sentence] of visits) {
        if (this.visibility.wasHidden) break;
        if (this.isStopped) throw new Stopped();
        this.say(`block ${done + 1}, ${row.variant}`, Math.min(this.elapsed, budget), budget);
        const spoken = await this.spoken(row.variant, this.sentences[sentence].inputs);
        seconds.get(row)[sentence] = spoken.seconds;
        audio.get(row)[sentence] = spoken.samples.length / this.about.voice.sample_rate;
      }
      if (this.visibility.wasHidden) continue;
      for (const row of rows) {
        row.seconds.push(seconds.get(row));
        row.audio_seconds.push(audio.get(row));
      }
      this.sittings.at(-1).blocks++;
      return;
    }
  }
}

function shuffled(list) {
  const order = [...list];
  for (let at = order.length - 1; at > 0; at--) {
    const other = Math.floor(Math.random() * (at + 1));
    [order[at], order[other]] = [order[other], order[at]];
  }
  return order;
}

/** The time in UTC, ISO 8601 to the second. */
const now = () => new Date().toISOString().replace(/\.\d+Z$/, "Z");
