// Play audio while more of it is made: pieces are put one behind the other.

export class Player {
  constructor() {
    this.context = null;
    this.stopNow = null;
  }

  /**
   * Begin to play; what played before ends.
   * @returns {{add(samples: Float32Array): void, done(): Promise<void>}}
   */
  begin(sampleRate) {
    this.stop();
    this.context ??= new AudioContext();
    this.context.resume(); // a browser lets a page sound after a click alone
    const context = this.context, sources = new Set();
    let next = 0, isOver = false, ended = () => {};
    const playing = {
      add(samples) {
        if (isOver || !samples.length) return;
        const buffer = context.createBuffer(1, samples.length, sampleRate);
        buffer.copyToChannel(samples, 0);
        const source = context.createBufferSource();
        source.buffer = buffer;
        source.connect(context.destination);
        source.onended = () => {
          sources.delete(source);
          if (!sources.size) ended();
        };
        sources.add(source);
        next = Math.max(next, context.currentTime + 0.02);
        source.start(next);
        next += buffer.duration;
      },
      /** Resolves when all that was added has been heard. */
      done: () => new Promise((resolve) => {
        ended = resolve;
        if (!sources.size) resolve();
      }),
    };
    this.stopNow = () => {
      isOver = true;
      for (const source of sources) source.stop();
      sources.clear();
      ended();
    };
    return playing;
  }

  stop() {
    this.stopNow?.();
    this.stopNow = null;
  }
}
