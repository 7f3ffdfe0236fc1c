// What goes on by itself: asking again and again, and the stream of events that all views share.

import { get, open, Refused } from "./api.js";

const wait = (ms, signal) => new Promise((done) => {
  const timer = setTimeout(done, ms);
  signal.addEventListener("abort", () => { clearTimeout(timer); done(); }, { once: true });
});

/** Resolves at once while the page can be seen, else when it is seen again: nobody looks at what is hidden. */
const seen = (signal) => new Promise((done) => {
  if (!document.hidden || signal.aborted) return done();
  const look = () => { if (!document.hidden) finish(); };
  const finish = () => { document.removeEventListener("visibilitychange", look); done(); };
  document.addEventListener("visibilitychange", look);
  signal.addEventListener("abort", finish, { once: true });
});

/** Asks for `path` (or what it gives) every so often until `signal`; `told(value, error)` hears each outcome. */
export async function poll(path, everyMs, signal, told) {
  while (!signal.aborted) {
    try {
      const value = await get(typeof path === "function" ? path() : path, signal);
      if (!signal.aborted) told(value, null);
    } catch (error) {
      if (signal.aborted) return;
      told(null, error);
      // What is not offered or not allowed is asked for rarely: it may come with a new token or a new version.
      if (error instanceof Refused && error.status >= 400 && error.status < 500) await wait(everyMs * 9, signal);
    }
    await wait(everyMs, signal);
    await seen(signal);
  }
}

/** Cuts a stream of bytes into the events of `text/event-stream`. */
export async function* events(bytes) {
  const reader = bytes.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", event = { type: "message", data: [], id: null };
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split(/\r\n|\n|\r/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (event.data.length) yield { ...event, data: event.data.join("\n") };
        event = { type: "message", data: [], id: null };
      } else if (line.startsWith(":")) {
        yield { type: "heartbeat" };
      } else {
        const at = line.indexOf(":");
        const [name, text] = at < 0 ? [line, ""] : [line.slice(0, at), line.slice(at + 1).replace(/^ /, "")];
        if (name === "event") event.type = text;
        else if (name === "data") event.data.push(text);
        else if (name === "id") event.id = text;
      }
    }
  }
}

const KEPT = 300;
const BOOKINGS_KEPT = 60;
/** The node says something at least every 15 s. */
const SILENCE_MS = 40_000;
/** A page that nobody sees gives its stream back after a while: a browser has six connections to a node, for all its tabs. */
const UNSEEN_MS = 20_000;
/** How long news waits for a frame at most, and how often a page that nobody sees is brought up to date. */
const FRAME_MAX_MS = 200;
const UNSEEN_EVERY_MS = 1_000;

/** The events of late, newest first, and how the stream of them is. One stream for all views. */
export class EventHub {
  recent = [];
  /** Bookings have a memory of their own, so that a busy market does not push them out. */
  bookings = [];
  missed = 0;
  heard = 0;
  state = "connecting";
  error = null;
  #listeners = new Set();
  #last = null;
  #ids = new Set();

  /** `listener()` is told, at most once a frame, that something changed; soon too where frames are slow to come. */
  listen(signal, listener) {
    this.#listeners.add(listener);
    signal.addEventListener("abort", () => this.#listeners.delete(listener), { once: true });
    listener();
  }

  #scheduled = false;
  #tell() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    // A browser that is busy, or whose window nobody draws, may be late with a frame or give none: news does not wait for it.
    let late;
    const tell = () => {
      cancelAnimationFrame(frame);
      clearTimeout(late);
      this.#scheduled = false;
      this.#listeners.forEach((listener) => listener());
    };
    const frame = requestAnimationFrame(tell);
    late = setTimeout(tell, document.hidden ? UNSEEN_EVERY_MS : FRAME_MAX_MS);
  }

  #turn(state, error = null) {
    this.state = state;
    this.error = error;
    this.#tell();
  }

  #take(record, fresh) {
    // The memory that was read first and the stream overlap.
    const name = record.position + record.event_id;
    if (this.#ids.has(name)) return;
    this.#ids.add(name);
    if (this.#ids.size > 2 * KEPT) this.#ids = new Set([...this.#ids].slice(-KEPT));
    // An event may come in several parts.
    if (fresh && !this.recent.some((one) => one.event_id === record.event_id)) this.heard += 1;
    this.recent.unshift(record);
    this.recent.length = Math.min(this.recent.length, KEPT);
    if (record.event_type.startsWith("booking_")) {
      this.bookings.unshift(record);
      this.bookings.length = Math.min(this.bookings.length, BOOKINGS_KEPT);
    }
  }

  async run(signal) {
    let pause = 500;
    let remembered = false;
    while (!signal.aborted) {
      await seen(signal);
      const attempt = new AbortController();
      const stop = AbortSignal.any([signal, attempt.signal]);
      let unseen;
      document.addEventListener("visibilitychange", () => {
        clearTimeout(unseen);
        if (document.hidden) unseen = setTimeout(() => attempt.abort(), UNSEEN_MS);
      }, { signal: stop });
      let silence;
      const stillThere = () => { clearTimeout(silence); silence = setTimeout(() => attempt.abort(), SILENCE_MS); };
      try {
        stillThere();
        const bytes = await open("/events", stop, this.#last ? { "last-event-id": this.#last } : {});
        if (!remembered) {
          // After the stream is open, so that nothing falls between the two.
          const memory = await get("/node/events?limit=100", signal).catch(() => ({ events: [] }));
          for (const record of [...memory.events].reverse()) this.#take(record, false);
          const bookings = await get("/node/events?limit=50&event_type=booking_created,booking_cancelled", signal).catch(() => ({ events: [] }));
          if (this.bookings.length === 0) this.bookings = bookings.events;
          remembered = true;
        }
        this.#turn("open");
        pause = 500;
        for await (const event of events(bytes)) {
          stillThere();
          if (event.id) this.#last = event.id;
          if (event.type === "change") this.#take(JSON.parse(event.data), true);
          else if (event.type === "missed") this.missed += JSON.parse(event.data).missed;
          else continue;
          this.#tell();
        }
        this.#turn("lost");
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Refused) {
          this.#turn(error.notOffered ? "absent" : "refused", error);
          pause = 10_000;
        } else this.#turn("lost", error);
      } finally {
        clearTimeout(silence);
        attempt.abort();
      }
      await wait(pause, signal);
      pause = Math.min(pause * 2, 10_000);
    }
  }
}
