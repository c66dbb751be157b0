// The lease of the image that is shown: confirmed, held while somebody is there, and given back.

import { Refused, send, uuid } from "./api.js";

export class Holder {
  // place(): the image that is worked on, or null; active(): whether somebody is there;
  // onLost(error): somebody else has it now
  constructor({ person, place, active, onLost }) {
    Object.assign(this, { person, place, active, onLost });
    this.tab = uuid();
  }
  begin(seconds) {
    setInterval(() => { if (this.active() && this.place()) this.hold(this.place()); }, Math.max(250, 1000 * seconds / 3));
  }
  // Whether an image that was loaded in advance is still as it was, and nobody has taken it over.
  async confirm(image) {
    try {
      const now = await send("POST", "/api/lease", this.about(image));
      return now.wanted && now.events === image.events;
    } catch (error) { return !(error instanceof Refused); }
  }
  async hold(place) {
    try { await send("POST", "/api/lease", this.about(place)); }
    catch (error) { if (error instanceof Refused && error.status === 409 && place === this.place()) this.onLost(error); }
  }
  // Also while the page closes.
  release(places) {
    const sent = places.filter(Boolean).map((place) =>
      send("POST", "/api/lease", { ...this.about(place), release: true }, { keepalive: true }).catch(() => {}));
    return Promise.all(sent);
  }
  about(place) { return { key: place.key, round: place.round, person: this.person(), tab: this.tab }; }
}
