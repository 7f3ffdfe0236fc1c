// The latest bookings, as events tell them, and making and calling off one's own.

import { ask, get, why } from "../api.js";
import { attribute, h, keyed, say, section } from "../dom.js";
import { clock, day, dollars, words } from "../format.js";
import { streamState } from "./events.js";

const HOUR_MS = 3_600_000;
const SHOWN = 12;
/** Most bookings that are looked up at a time: a busy market makes more than anybody reads. */
const ASKED_AT_ONCE = 4;

export function bookingPanel({ signal, events, announce }) {
  const part = section("Latest bookings");
  const list = h("ol", { class: "bookings", "aria-label": "Bookings, newest first" });
  part.content.append(list);
  const details = new Map();
  let asking = 0;

  const row = (record) => {
    const id = record.data?.booking_id ?? record.resource_id;
    const [when, state, more] = [h("time"), h("span", { class: "pill quiet" }), h("p", { class: "note" })];
    const off = h("button", { type: "button", class: "small plain", "aria-label": `Cancel ${id}`, hidden: true, onclick: () => cancel(id, off) }, "Cancel");
    return {
      node: h("li", { class: "booking" }, when, state, h("b", {}, id), off, more),
      update(latest) {
        const booking = details.get(id)?.value;
        attribute(when, "datetime", latest.timestamp);
        say(when, clock(latest.timestamp));
        const cancelled = latest.event_type === "booking_cancelled" || booking?.status === "cancelled";
        state.className = `pill ${cancelled ? "warn" : "good"}`;
        say(state, cancelled ? "cancelled" : booking ? words(booking.status) : "booked");
        const gpu = booking?.gpu_id ?? latest.data?.gpu_ids?.[0] ?? "";
        say(more, booking ? `${gpu}, ${booking.user_id}, ${day(booking.start_time)} to ${day(booking.end_time)}, ${dollars(booking.total_cost)}` : `${gpu}, told by ${latest.source_node}`);
        off.hidden = cancelled || booking?.status === "completed";
      },
    };
  };

  const show = () => {
    const latest = new Map();
    for (const record of events.bookings) {
      const id = record.data?.booking_id ?? record.resource_id;
      if (!latest.has(id)) latest.set(id, record);
    }
    const shown = [...latest.values()].slice(0, SHOWN);
    if (shown.length === 0) return part.show(events.state === "absent" || events.state === "refused" ? streamState(events)[1] : "No booking yet. Each one, on any node, appears here at once.");
    part.show(null);
    // A booking that is cancelled stays the same row.
    keyed(list, shown, (record) => record.data?.booking_id ?? record.resource_id, row);
    for (const record of shown) look(record);
  };

  /** Asks what a booking is; again if something happened to it. */
  async function look(record) {
    const id = record.data?.booking_id ?? record.resource_id;
    if (details.get(id)?.of === record.event_id || asking >= ASKED_AT_ONCE) return;
    details.set(id, { of: record.event_id, value: details.get(id)?.value });
    asking += 1;
    try {
      details.get(id).value = await get(`/market/bookings/${encodeURIComponent(id)}`, signal);
    } catch { /* the event says what is known; the line stays as it is */ }
    asking -= 1;
    if (details.size > 200) details.delete(details.keys().next().value);
    if (!signal.aborted) show();
  }

  async function cancel(id, button) {
    button.disabled = true;
    try {
      await ask("DELETE", `/market/bookings/${encodeURIComponent(id)}`);
      announce(`Booking ${id} is called off.`);
    } catch (error) {
      announce(`Booking ${id} was not called off. ${why(error)}`, "bad");
    }
    button.disabled = false;
  }

  events.listen(signal, show);
  return part;
}

export function bookForm({ announce }) {
  const part = section("Book a GPU");
  const gpu = h("input", { id: "book-gpu", required: true, autocomplete: "off", spellcheck: "false" });
  const user = h("input", { id: "book-user", required: true, autocomplete: "off", spellcheck: "false" });
  const hours = h("input", { id: "book-hours", type: "number", min: "1", max: "8784", step: "1", value: "1", required: true });
  const wrong = h("p", { class: "bad-text", role: "alert" });
  const go = h("button", { type: "submit" }, "Book from now");
  // The same id is sent until the node has answered: asking twice is asking once.
  let id = null;
  const fresh = () => { id = null; };
  [gpu, user, hours].forEach((field) => field.addEventListener("input", fresh));
  const form = h("form", { class: "book", onsubmit: async (event) => {
    event.preventDefault();
    wrong.textContent = "";
    go.disabled = true;
    id ??= { booking_id: `ui-${Array.from(crypto.getRandomValues(new Uint8Array(6)), (byte) => byte.toString(16).padStart(2, "0")).join("")}`, start_time: Date.now() };
    try {
      const body = { ...id, gpu_id: gpu.value.trim(), user_id: user.value.trim(), end_time: id.start_time + Number(hours.value) * HOUR_MS };
      const { status } = await ask("POST", "/market/bookings", { body });
      announce(`Booking ${id.booking_id} is made${status === 202 ? "; other nodes are yet to be told" : ""}.`);
      id = null;
    } catch (error) {
      if (error.status) id = null;
      wrong.textContent = why(error);
    }
    go.disabled = false;
  } },
    h("div", { class: "field" }, h("label", { for: "book-gpu" }, "GPU"), gpu),
    h("div", { class: "field" }, h("label", { for: "book-user" }, "For whom"), user),
    h("div", { class: "field" }, h("label", { for: "book-hours" }, "Hours"), hours), wrong, go);
  part.show(null);
  part.content.append(form);
  return { node: part.node, fill(gpuId) {
    gpu.value = gpuId;
    fresh();
    part.node.scrollIntoView({ block: "center" });
    (user.value ? go : user).focus();
  } };
}
