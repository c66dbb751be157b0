// Talking to the server: every answer is sent at once, in order, and again until it has arrived.

export class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

export async function call(path, options = {}) {
  const reply = await fetch(path, { credentials: "same-origin", ...options });
  if (reply.ok) return reply;
  let message = `the server answers ${reply.status}`;
  try { message = (await reply.json()).error || message; } catch { /* no JSON */ }
  throw new Refused(reply.status, message);
}

export const get = async (path) => (await call(path)).json();
export const send = async (method, path, data) => (await call(path, {
  method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(data),
})).json();
export const query = (values) => new URLSearchParams(values).toString();

export const uuid = () => crypto.randomUUID ? crypto.randomUUID()
  : [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");

// Sends one request after another. A lost connection is tried again, with the same token, so that an
// answer that did arrive is not counted twice; what the server refuses is told and dropped.
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
    let pause = 500;
    while (this.waiting.length) {
      const job = this.waiting[0];
      try {
        const reply = await job.send();
        this.waiting.shift(); pause = 500;
        this.onOffline(0);
        this.onReply(job, reply);
      } catch (error) {
        if (error instanceof Refused && error.status < 500 && error.status !== 401) {
          this.waiting.shift();
          this.onRefused(job, error);
        } else {
          this.onOffline(this.waiting.length, error.status === 401);
          await new Promise((done) => setTimeout(done, pause));
          pause = Math.min(pause * 2, 8000);
        }
      }
    }
    this.busy = false;
    for (const done of this.idle.splice(0)) done();
  }
}
