// The market: figures, what is on offer, one type in one region, bookings.

import { get, query, Refused, why } from "../api.js";
import { chart } from "../chart.js";
import { h, pill, say, section, table } from "../dom.js";
import { count, day, DASH, dollars, percent, short, words } from "../format.js";
import { poll } from "../live.js";
import { bookForm, bookingPanel } from "./bookings.js";

const STATES = { available: "good", busy: "quiet", offline: "bad", maintenance: "warn" };
const HOUR_MS = 3_600_000;

export function mount(root, context) {
  const { signal, parameters, events } = context;
  const where = { gpu_type: parameters.get("gpu_type") ?? "", region: parameters.get("region") ?? "" };
  const changed = [];
  const choose = (more) => {
    Object.assign(where, more);
    history.replaceState(null, "", `#/market${query(where)}`);
    changed.forEach((told) => told());
  };
  const chosen = filters(where, choose);
  const figures = figureRow();
  const one = onePanel(signal);
  const book = bookForm(context);
  const offers = offerPanel({ where, choose, book: book.fill, signal });
  const bookings = bookingPanel(context);
  root.append(chosen.node, figures.node, one.node, h("div", { class: "pair" }, bookings.node, book.node), offers.node);

  const asked = { stop: null };
  const again = () => {
    asked.stop?.abort();
    asked.stop = new AbortController();
    const until = AbortSignal.any([signal, asked.stop.signal]);
    chosen.show();
    poll(`/market/stats${query(where)}`, 3_000, until, figures.show);
    one.follow(where, until);
    offers.follow(until);
  };
  changed.push(again);
  again();
  // What is on offer names the types and regions that one can choose.
  get("/market/search?limit=100", signal).then((page) => chosen.offer(page.gpus), () => {});
  events.listen(signal, () => chosen.offer(events.recent.flatMap((record) => record.data?.markets ?? [])));
}

function filters(where, choose) {
  const type = h("select", { id: "market-type" }, h("option", { value: "" }, "all"));
  const region = h("select", { id: "market-region" }, h("option", { value: "" }, "all"));
  type.addEventListener("change", () => choose({ gpu_type: type.value }));
  region.addEventListener("change", () => choose({ region: region.value }));
  const offer = (select, name) => {
    if (!name || [...select.options].some((option) => option.value === name)) return;
    const after = [...select.options].find((option) => option.value && option.value.localeCompare(name) > 0);
    select.insertBefore(h("option", { value: name }, name), after ?? null);
  };
  return {
    node: h("form", { class: "filters panel", onsubmit: (event) => event.preventDefault() }, h("label", {}, "GPU ", type), h("label", {}, "Region ", region)),
    offer: (markets) => markets.forEach((market) => { offer(type, market.gpu_type); offer(region, market.region); }),
    show() {
      offer(type, where.gpu_type);
      offer(region, where.region);
      type.value = where.gpu_type;
      region.value = where.region;
    },
  };
}

function figureRow() {
  const names = ["GPUs", "Free", "In use", "Mean price", "Booked in 24 h"];
  const tiles = names.map((name) => {
    const [figure, note] = [h("p", { class: "figure" }, DASH), h("p", { class: "note" })];
    return { node: h("div", { class: "tile panel" }, h("h2", {}, name), figure, note), figure, note };
  });
  const set = (at, text, note = "") => { say(tiles[at].figure, text); say(tiles[at].note, note); };
  return { node: h("div", { class: "tiles" }, tiles.map(({ node }) => node)), show(stats, error) {
    if (error) return tiles.forEach((_, at) => set(at, DASH, at === 0 ? why(error) : ""));
    set(0, count(stats.total_gpus));
    set(1, count(stats.available_gpus));
    set(2, percent(stats.utilization_rate), `${count(stats.busy_gpus)} rented now`);
    set(3, dollars(stats.average_price_per_hour), "an hour");
    set(4, count(stats.total_bookings_24h), dollars(stats.total_volume_24h));
  } };
}

/** Price, availability, order book and past of one type in one region. */
function onePanel(signal) {
  const part = section("One type in one region", { wide: true });
  const title = part.node.querySelector("h2");
  const [price, free] = [h("p", { class: "headline" }), h("p")];
  const levels = table("Order book: free GPUs by price", [
    { label: "Price an hour", of: (level) => dollars(level.price_per_hour) },
    { label: "Free", number: true, of: (level) => count(level.count) },
    { label: "Of them", of: (level) => level.gpu_ids.slice(0, 3).join(", ") + (level.count > 3 ? " …" : "") },
  ], (level) => level.price_per_hour);
  const none = h("p", { class: "empty", hidden: true }, "No GPU is free.");
  const prices = chart({ title: "Price", note: "an hour, the last day", series: [{ name: "price", label: "current" }], unit: dollars });
  const stock = chart({ title: "Availability", series: [{ name: "available", label: "free" }, { name: "total", label: "all" }], unit: (value) => (Number.isInteger(value ?? 0.5) ? short(value) : value === undefined ? DASH : "") });
  signal.addEventListener("abort", () => { prices.stop(); stock.stop(); }, { once: true });
  part.content.append(price, free, h("h3", {}, "Order book"), levels.node, none, h("div", { class: "charts" }, prices.node, stock.node));
  // Of a market that never was, each route says so; that is no error.
  const orNothing = (error) => { if (error instanceof Refused && error.status === 404) return null; throw error; };
  return { node: part.node, follow({ gpu_type, region }, until) {
    say(title, gpu_type && region ? `${gpu_type} in ${region}` : "One type in one region");
    if (!gpu_type || !region) return part.show("Choose a GPU and a region above to see price, order book and past.");
    part.show("Waiting for the node.");
    const tail = query({ region });
    const name = encodeURIComponent(gpu_type);
    poll(`/market/order-book/${name}${tail}`, 3_000, until, async (book, error) => {
      try {
        if (error) orNothing(error);
        const [cost, stockNow, past] = await Promise.all([
          get(`/market/pricing/${name}${tail}`, until).catch(orNothing),
          get(`/market/availability${query({ gpu_type, region })}`, until).catch(orNothing),
          get(`/market/history/${name}${tail}`, until).catch(orNothing)]);
        if (!cost && !stockNow) return part.show(`No ${gpu_type} was ever offered in ${region}.`);
        part.show(null);
        say(price, cost ? `${dollars(cost.current_price_per_hour)} an hour now, base price ${dollars(cost.base_price_per_hour)}` : "Nothing is on offer.");
        if (stockNow) say(free, `${count(stockNow.available)} of ${count(stockNow.total)} free, ${count(stockNow.busy)} rented, ${count(stockNow.offline)} offline, ${count(stockNow.maintenance)} in maintenance`);
        const rows = (book?.levels ?? []).slice(0, 12);
        levels.node.hidden = rows.length === 0;
        none.hidden = rows.length > 0;
        levels.show(rows);
        showPast(past?.points ?? []);
      } catch (problem) {
        if (!until.aborted) part.show(why(problem));
      }
    });
    function showPast(points) {
      const to = Date.now();
      const from = Math.max(to - 24 * HOUR_MS, Math.min(points[0]?.timestamp ?? to, to - HOUR_MS / 6));
      // A price holds until the next point: it is a step, and goes on until now.
      const steps = (of) => points.flatMap((point, at) => {
        const value = of(point);
        if (value === null) return [];
        const end = points[at + 1]?.timestamp ?? to;
        const every = (to - from) / 300;
        const line = [];
        for (let when = Math.max(point.timestamp, from); when < end; when += every) line.push([when, value]);
        return [...line, [end, value]];
      });
      prices.show({ price: steps((point) => point.current_price_per_hour) }, from, to);
      stock.show({ available: steps((point) => point.available), total: steps((point) => point.total) }, from, to);
    }
  } };
}

/** What can be rented, page by page. */
function offerPanel({ where, choose, book, signal }) {
  const status = h("select", { id: "offer-status" }, ["available", "busy", "offline", "maintenance", ""].map((name) => h("option", { value: name }, name || "any")));
  const sort = h("select", { id: "offer-sort" }, h("option", { value: "price" }, "price"), h("option", { value: "performance" }, "performance"));
  const tools = h("div", { class: "tools" }, h("label", {}, "State ", status), h("label", {}, "By ", sort));
  const part = section("Offers", { tools, wide: true });
  const link = (name, more) => h("button", { type: "button", class: "link", onclick: () => choose(more) }, name);
  const list = table("Offers", [
    { label: "GPU", of: (gpu) => gpu.gpu_id },
    { label: "Type", once: true, of: (gpu) => link(gpu.gpu_type, { gpu_type: gpu.gpu_type, region: gpu.region }) },
    { label: "Region", of: (gpu) => gpu.region },
    { label: "Provider", of: (gpu) => gpu.provider_id },
    { label: "Memory", number: true, of: (gpu) => (gpu.memory_gb ? `${count(gpu.memory_gb)} GB` : DASH) },
    { label: "Price an hour", number: true, of: (gpu) => dollars(gpu.current_price_per_hour) },
    { label: "State", of: (gpu) => pill(STATES[gpu.availability_status] ?? "quiet", words(gpu.availability_status)) },
    { label: "Changed", of: (gpu) => day(gpu.last_updated) },
    { label: "", once: true, of: (gpu) => h("button", { type: "button", class: "small", "aria-label": `Book ${gpu.gpu_id}`, onclick: () => book(gpu.gpu_id) }, "Book") },
  ], (gpu) => gpu.gpu_id);
  const more = h("button", { type: "button", hidden: true }, "More");
  part.content.append(list.node, h("div", { class: "inline" }, more));
  let pages = 1;
  let until = signal;
  let asked = null;
  const load = async () => {
    // Each page anew, so that what is shown belongs together.
    const gpus = [];
    let cursor = "";
    for (let page = 0; page < pages; page += 1) {
      const { gpus: some, next_cursor } = await get(`/market/search${query({ ...where, status: status.value, sort: sort.value, limit: 20, cursor })}`, until);
      gpus.push(...some);
      cursor = next_cursor;
      if (!cursor) break;
    }
    more.hidden = !cursor;
    if (gpus.length === 0) return part.show("Nothing fits. A GPU is put up with PUT /market/gpus/{gpu_id}.");
    part.show(null);
    list.show(gpus);
  };
  const begin = () => {
    asked?.abort();
    asked = new AbortController();
    const stop = AbortSignal.any([until, asked.signal]);
    const go = async () => {
      try { await load(); } catch (error) { if (!stop.aborted) part.show(why(error)); }
      if (!stop.aborted) setTimeout(() => { if (!stop.aborted) go(); }, 3_000);
    };
    go();
  };
  const anew = () => { pages = 1; begin(); };
  status.addEventListener("change", anew);
  sort.addEventListener("change", anew);
  more.addEventListener("click", () => { pages += 1; begin(); });
  return { node: part.node, follow(stop) { until = stop; anew(); } };
}

