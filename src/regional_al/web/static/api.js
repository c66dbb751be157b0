// Talking to the server: every answer is sent at once, in order, and again until it has arrived.

export class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}
export class Unreachable extends Error {}

export async function call(path, options = {}) {
  let reply;
  try { reply = await fetch(path, { credentials: "same-origin", ...options }); }
  catch (error) { throw new Unreachable(error.message); }
  if (reply.ok) return reply;
  let message = `the server answers ${reply.status}`;
  try { message = (await reply.json()).error || message; } catch { /* no JSON */ }
  throw new Refused(reply.status, message);
}

export const get = async (path) => (await call(path)).json();
export const send = async (method, path, data, more = {}) => (await call(path, {
  method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(data), ...more,
})).json();
export const query = (values) => new URLSearchParams(values).toString();

export const uuid = () => crypto.randomUUID ? crypto.randomUUID()
  : [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");

// Whether the same request may work later: nobody answers, the server was started again and has
// another token, or it cannot write now.
const passing = (error) => error instanceof Unreachable
  || (error instanceof Refused && (error.status >= 500 || error.status === 401));

// Do something until the server can; what it refuses is thrown.
export async function patiently(work, onWait, onDone = () => {}) {
  for (let pause = 500; ; pause = Math.min(pause * 2, 8000)) {
    try {
      const result = await work();
      onDone();
      return result;
    } catch (error) {
      if (!passing(error)) throw error;
      onWait(error);
      await new Promise((done) => setTimeout(done, pause));
    }
  }
}

// Sends one request after another. What may work later is tried again, with the same token, so that
// an answer that did arrive is not counted twice; what the server refuses is told and dropped.
export class Outbox {
  constructor({ onReply, onRefused, onOffline }) {
    Object.assign(this, { onReply, onRefused, onOffline });
    this.waiting = []; this.busy = false; this.idle = [];
  }
  get size() { return this.waiting.length; }
  push(job) { this.waiting.push(job); this.run(); }
  settled() {
    return this.waiting.length ? new Promise((done) => this.idle.push(done)) : Promise.resolve();
  }
  async run() {
    if (this.busy) return;
    this.busy = true;
    while (this.waiting.length) {
      const job = this.waiting[0];
      try {
        const reply = await patiently(job.send, (error) => this.onOffline(error), () => this.onOffline(null));
        this.waiting.shift();
        this.onReply(job, reply);
      } catch (error) {
        this.waiting.shift();
        this.onRefused(job, error);
      }
    }
    this.busy = false;
    for (const done of this.idle.splice(0)) done();
  }
}
