// Time that a person has spent: while the page is visible, and not idle for more than a minute.

const IDLE = 60_000;

export class Clock {
  constructor() {
    this.sum = 0; this.last = performance.now(); this.seen = this.last;
    for (const name of ["pointermove", "pointerdown", "keydown", "wheel"]) {
      document.addEventListener(name, () => { this.tick(); this.seen = this.last; }, { passive: true, capture: true });
    }
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.tick();
      else this.last = performance.now(); // what passed while it was hidden does not count
    });
  }
  // Whether somebody is there.
  get active() { return !document.hidden && performance.now() - this.seen < IDLE; }
  tick() {
    const now = performance.now();
    this.sum += Math.min(now - this.last, IDLE);
    this.last = now;
  }
  start() { this.sum = 0; this.last = performance.now(); }
  take() { this.tick(); const spent = Math.round(this.sum); this.start(); return spent; }
}
