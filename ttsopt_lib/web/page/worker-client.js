// Ask a worker and wait for its answer. A worker that dies answers every open question with a sentence for people.

/** What a worker could not do; its message is for people. */
export class WorkerError extends Error {}

const TOO_LITTLE = "This device has too little memory for that, or the browser stopped the work: close other tabs and try again.";

export class WorkerClient {
  /**
   * @param {Worker} worker
   * @param {(progress: object) => void} onProgress gets what the worker says meanwhile
   */
  constructor(worker, onProgress = () => {}) {
    this.worker = worker;
    this.waiting = new Map();
    this.asked = 0;
    worker.onmessage = ({ data }) => {
      if ("progress" in data) {
        onProgress(data.progress);
        return;
      }
      const { resolve, reject, onPiece } = this.waiting.get(data.id) ?? {};
      if ("piece" in data) {
        onPiece?.(data.piece);
        return;
      }
      this.waiting.delete(data.id);
      if ("error" in data) reject?.(new WorkerError(data.error));
      else resolve?.(data.result);
    };
    worker.onerror = (event) => {
      event.preventDefault?.();
      this.end(event.message && !/memory/i.test(event.message) ? `The page's worker failed: ${event.message}` : TOO_LITTLE);
    };
  }

  /** @param {(piece: any) => void} [onPiece] gets what the worker has so far */
  ask(question, onPiece = null) {
    if (!this.worker) return Promise.reject(new WorkerError(TOO_LITTLE));
    const id = ++this.asked;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, onPiece });
      this.worker.postMessage({ id, ...question });
    });
  }

  /** End the worker; open questions are answered with the reason. */
  end(reason = "This was ended.") {
    this.worker?.terminate();
    this.worker = null;
    for (const { reject } of this.waiting.values()) reject(new WorkerError(reason));
    this.waiting.clear();
  }
}
