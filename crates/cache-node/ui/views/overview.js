// How the nodes are: health, figures, alerts, charts, the servers of Redis.

import { query, why } from "../api.js";
import { chart } from "../chart.js";
import { attribute, h, keyed, pill, say, section, table } from "../dom.js";
import { bytes, clock, count, day, DASH, ms, percent, perSecond, short, span, us, words } from "../format.js";
import { poll } from "../live.js";

const KINDS = { healthy: "good", degraded: "warn", unhealthy: "bad" };
const WINDOWS = [["5 min", 5], ["15 min", 15], ["1 h", 60], ["6 h", 360], ["24 h", 1440]];

export function mount(root, { signal }) {
  const tiles = tileRow();
  const alerts = alertPanel();
  const charts = chartGrid(signal);
  const nodes = nodePanel();
  const types = typePanel();
  const redis = redisPanel();
  root.append(tiles.node, alerts.node, charts.node, nodes.node, types.node, redis.node);
  poll("/health", 2_000, signal, (health) => { if (health) { tiles.health(health); redis.show(health); } });
  poll("/cache/stats", 2_000, signal, (stats, error) => {
    if (stats) { tiles.stats(stats); redis.stats(stats); }
    types.show(stats, error);
  });
  poll("/node/alerts", 3_000, signal, alerts.show);
  poll("/nodes", 2_000, signal, nodes.show);
}

function tile(label) {
  const [figure, note] = [h("p", { class: "figure" }, DASH), h("p", { class: "note" })];
  return { node: h("div", { class: "tile panel" }, h("h2", {}, label), figure, note), show(text, said = "", kind = "") {
    say(figure, text);
    say(note, said);
    attribute(figure, "class", `figure ${kind}`);
  } };
}

function tileRow() {
  const t = { status: tile("Node"), bus: tile("Bus"), hits: tile("Hit ratio"), reads: tile("Reads"), latency: tile("Read"), spread: tile("Propagation"), memory: tile("Entries in L1"), coherent: tile("Coherence") };
  t.reads.node.id = "tile-reads";
  t.hits.node.id = "tile-hits";
  let before = null;
  return {
    node: h("div", { class: "tiles" }, Object.values(t).map(({ node }) => node)),
    health(health) {
      t.status.show(health.status, health.error ?? `${health.datacenter}, ${health.region}`, KINDS[health.status]);
      const queue = health.event_queue_size ? `${count(health.event_queue_size)} waiting` : "nothing waits";
      const last = health.last_event_age === null ? "no event yet" : `last event ${span(health.last_event_age * 1000)} ago`;
      t.bus.show(health.pubsub_active ? "live" : "silent", `${health.transport}, ${queue}, ${last}`, health.pubsub_active ? "good" : "bad");
    },
    stats(stats) {
      const sum = (of) => Object.values(stats.namespaces).reduce((all, space) => all + of(space), 0);
      const [reads, l1] = [sum((space) => space.reads), sum((space) => space.l1_hits)];
      const [l2, l2Missed] = [sum((space) => space.l2_hits), sum((space) => space.l2_misses)];
      t.hits.show(percent(stats.cache_hit_ratio ?? NaN), `L1 ${percent(reads ? l1 / reads : NaN)}, L2 ${percent(l2 + l2Missed ? l2 / (l2 + l2Missed) : NaN)} of the rest`);
      const at = performance.now();
      // A node that was started anew counts from zero.
      const rate = before && reads >= before.reads ? ((reads - before.reads) * 1000) / (at - before.at) : NaN;
      if (before || reads === 0) t.reads.show(perSecond(before ? rate : 0), `${count(reads)} since it started`);
      else t.reads.show(DASH, `${count(reads)} since it started`);
      before = { reads, at };
      const [all, first] = [stats.response_time ?? {}, stats.tiers?.l1?.latency ?? {}];
      t.latency.show(ms((all.p50_us ?? NaN) / 1000), all.samples ? `median of all; p99 ${us(all.p99_us)}, L1 alone ${us(first.p50_us ?? NaN)}` : "no read was timed yet");
      t.spread.show(ms(stats.event_propagation_latency_ms ?? NaN), `median; ${count(stats.events_processed)} events applied`);
      t.memory.show(short(stats.l1_cache_size), `of ${short(stats.l1_cache_max_size)}; ${percent(stats.memory_utilization ?? NaN)} of the bytes`);
      const audit = stats.audit;
      if (!audit) t.coherent.show(DASH, "the auditor is off");
      else t.coherent.show(audit.violations ? `${count(audit.violations)} stale` : audit.judged ? "no violation" : "not judged yet",
        `${count(audit.judged)} reads judged, ${count(audit.keys)} keys watched`, audit.violations ? "bad" : audit.judged ? "good" : "");
    },
  };
}

function alertPanel() {
  const part = section("Alerts");
  const [list, past] = [h("ul", { class: "alerts" }), h("ul", { class: "alerts past" })];
  const older = h("details", { hidden: true }, h("summary", {}, "Passed"), past);
  const calm = h("p", { class: "calm" }, "No alert stands.");
  part.content.append(calm, list, older);
  const figure = (alert, value) => (alert.unit === "%" || alert.unit === "ms" ? `${short(value)} ${alert.unit}` : `${short(value)} ${alert.unit}`);
  const row = (alert) => h("li", {}, pill(alert.severity === "critical" ? "bad" : "warn", alert.severity), h("div", {},
    h("b", {}, words(alert.name)), ` ${figure(alert, alert.value)}, limit ${figure(alert, alert.threshold)}, `,
    alert.until ? `${day(alert.since)} to ${clock(alert.until)}` : `since ${clock(alert.since)}`,
    h("p", { class: "note" }, `${alert.message} ${alert.until ? "" : alert.cure}`)));
  const keyOf = (alert) => `${alert.name} ${alert.severity} ${alert.since} ${short(alert.value)}`;
  return { node: part.node, show(value, error) {
    if (error) return part.show(why(error));
    part.show(null);
    calm.hidden = value.active.length > 0;
    older.hidden = value.past.length === 0;
    keyed(list, value.active, keyOf, row);
    keyed(past, value.past, keyOf, row);
  } };
}

function chartGrid(signal) {
  const all = [
    chart({ title: "Hit ratio", series: [{ name: "l1_hit_ratio", label: "L1" }, { name: "l2_hit_ratio", label: "L2" }, { name: "hit_ratio", label: "both" }], unit: percent, top: 1 }),
    chart({ title: "Reads and writes", series: [{ name: "reads_per_s", label: "reads" }, { name: "writes_per_s", label: "writes" }], unit: perSecond }),
    chart({ title: "Read latency", series: [{ name: "read_p50_ms", label: "median" }, { name: "read_p99_ms", label: "p99" }], unit: ms }),
    chart({ title: "Propagation", note: "event made to applied here", series: [{ name: "propagation_p50_ms", label: "median" }, { name: "propagation_p99_ms", label: "p99" }], unit: ms }),
    chart({ title: "Events", series: [{ name: "events_per_s", label: "applied" }, { name: "invalidations_per_s", label: "invalidations" }, { name: "evictions_per_s", label: "evictions" }], unit: perSecond }),
    chart({ title: "Memory", series: [{ name: "memory_bytes", label: "process" }, { name: "l1_bytes", label: "L1" }], unit: bytes }),
  ];
  let span_min = 5;
  let history = {};
  let newest = 0;
  const select = h("select", { id: "window" }, WINDOWS.map(([label, min]) => h("option", { value: min, selected: min === span_min }, label)));
  select.addEventListener("change", () => { span_min = Number(select.value); history = {}; newest = 0; ask(); });
  const names = [...new Set(all.flatMap((one) => one.names))];
  const path = () => {
    const to = Date.now();
    const wide = span_min > 60;
    // A long time is asked for as a whole, since coarser points move; a short one goes on from the last point.
    const from = newest && !wide ? newest + 1 : to - span_min * 60_000;
    return `/node/history${query({ series: names.join(","), from, to: to + 5_000, points: newest && !wide ? 120 : 300 })}`;
  };
  const show = (value, error) => {
    if (error) return all.forEach((one) => one.fail(why(error)));
    const to = Date.now();
    const from = to - span_min * 60_000;
    for (const [name, points] of Object.entries(value.series)) {
      const old = span_min > 60 ? [] : (history[name] ?? []).filter(([at]) => at >= from);
      history[name] = [...old, ...points.filter(([at]) => !old.length || at > old.at(-1)[0])];
      newest = Math.max(newest, history[name].at(-1)?.[0] ?? 0);
    }
    all.forEach((one) => one.show(history, from, to));
  };
  let asked = null;
  const ask = () => {
    asked?.abort();
    asked = new AbortController();
    poll(path, span_min > 60 ? 20_000 : 2_000, AbortSignal.any([signal, asked.signal]), show);
  };
  ask();
  signal.addEventListener("abort", () => all.forEach((one) => one.stop()), { once: true });
  const tools = h("label", { class: "tools" }, "Time ", select);
  return { node: h("section", { "aria-labelledby": "part-figures" }, h("div", { class: "head" }, h("h2", { id: "part-figures" }, "Figures over time"), tools),
    h("div", { class: "charts" }, all.map(({ node }) => node))) };
}

function nodePanel() {
  const part = section("Nodes");
  const apart = h("p", { class: "bad-text", hidden: true });
  const regions = h("div", { class: "regions" });
  part.content.append(apart, regions);
  const columns = [
    { label: "Node", once: true, of: (node) => h("span", {}, node.url && !node.me ? h("a", { href: `${node.url.replace(/\/$/, "")}/ui/`, rel: "noreferrer" }, node.node_id) : node.node_id, node.me ? h("span", { class: "note" }, " this one") : null) },
    { label: "State", of: (node) => { const state = pill(KINDS[node.status] ?? "quiet", node.status); if (node.error) state.title = node.error; return state; } },
    { label: "Tier", of: (node) => node.cache_tier ?? DASH },
    { label: "Hits", number: true, of: (node) => percent(node.figures.cache_hit_ratio ?? NaN) },
    { label: "Reads", number: true, of: (node) => perSecond(node.figures.reads_per_s) },
    { label: "L1", number: true, of: (node) => `${short(node.figures.l1_cache_size)} of ${short(node.figures.l1_cache_max_size)}` },
    { label: "Events", number: true, of: (node) => short(node.figures.events_processed) },
    { label: "Propagation", number: true, of: (node) => ms(node.figures.event_propagation_latency_ms ?? NaN) },
    { label: "Waiting", number: true, of: (node) => count(node.figures.event_queue_size) },
    { label: "Lag", number: true, of: (node) => ms(node.figures.lag_ms ?? NaN) },
    { label: "Heard of", number: true, of: (node) => `${span(node.seen_ms_ago)} ago` },
  ];
  return { node: part.node, show(value, error) {
    if (error) return part.show(why(error));
    if (value.nodes.length === 0) return part.show("No node described itself yet.");
    part.show(null);
    const prints = new Set(value.nodes.map((node) => node.fingerprint));
    apart.hidden = prints.size < 2;
    if (prints.size > 1) say(apart, "Nodes differ in settings that they must share: " + [...prints].map((print) => value.nodes.filter((node) => node.fingerprint === print).map((node) => node.node_id).join(", ")).join(" against ") + ".");
    const byRegion = Map.groupBy(value.nodes, (node) => node.region);
    keyed(regions, [...byRegion].map(([region, nodes]) => ({ region, nodes })), ({ region }) => region, ({ region }) => {
      const list = table(`Nodes in ${region}`, columns, (node) => node.node_id + (node.url ?? ""));
      const said = h("span", { class: "note" });
      return { node: h("div", {}, h("h3", {}, region, " ", said), list.node), update: ({ nodes }) => {
        const well = nodes.filter((node) => node.status === "healthy").length;
        say(said, `${well} of ${nodes.length} healthy`);
        list.show(nodes);
      } };
    });
  } };
}

function typePanel() {
  const part = section("Cache types", { note: "on this node, since it started" });
  const of = (hits, misses) => percent(hits + misses ? hits / (hits + misses) : NaN);
  const list = table("Cache types", [
    { label: "Type", of: (space) => space.cache_type },
    { label: "Reads", number: true, of: (space) => short(space.reads) },
    { label: "L1 hits", number: true, of: (space) => of(space.l1_hits, space.l1_misses) },
    { label: "L2 hits", number: true, of: (space) => of(space.l2_hits, space.l2_misses) },
    { label: "L1 median", number: true, of: (space) => us(space.l1_latency.p50_us ?? NaN) },
    { label: "L2 median", number: true, of: (space) => us(space.l2_latency.p50_us ?? NaN) },
    { label: "Entries", number: true, of: (space) => short(space.l1_entries) },
    { label: "Size", number: true, of: (space) => bytes(space.l1_bytes) },
    { label: "Writes", number: true, of: (space) => short(space.writes) },
    { label: "Invalidated", number: true, of: (space) => short(space.invalidations) },
    { label: "Evicted", number: true, of: (space) => short(space.evicted) },
  ], (space) => space.cache_type);
  const unused = h("p", { class: "note" });
  part.content.append(list.node, unused);
  return { node: part.node, show(stats, error) {
    if (error) return part.show(why(error));
    const spaces = Object.values(stats.namespaces);
    const used = spaces.filter((space) => space.reads || space.writes || space.l1_entries);
    if (used.length === 0) return part.show("Nothing was read or written yet.");
    part.show(null);
    list.show(used.sort((a, b) => a.cache_type.localeCompare(b.cache_type)));
    const rest = spaces.filter((space) => !used.includes(space)).map((space) => space.cache_type);
    say(unused, rest.length ? `Not used yet: ${rest.sort().join(", ")}.` : "");
  } };
}

function redisPanel() {
  const part = section("Redis");
  const said = h("p");
  const list = table("Masters of Redis", [
    { label: "Master", of: (master) => master.name },
    { label: "Address", of: (master) => master.address ?? DASH },
    { label: "State", of: (master) => pill(master.healthy ? "good" : "bad", master.healthy ? "answers" : "silent") },
    { label: "Replicas", number: true, of: (master) => `${master.healthy_replicas} of ${master.replicas} follow` },
    { label: "Partitions", number: true, of: (master) => count(master.partitions) },
    { label: "Keys", number: true, of: (master) => short(master.keyspace ?? NaN) },
    { label: "Slots", number: true, of: (master) => count(master.slots ?? NaN) },
    { label: "Alone", of: (master) => (master.guarded ? "refuses writes" : master.replicas ? "goes on: not guarded" : DASH) },
  ], (master) => master.name);
  const figures = h("p", { class: "note" });
  part.content.append(said, figures, list.node);
  return { node: part.node, stats(stats) {
    const of = (name, value) => (value === null || value === undefined ? [] : [`${name} ${value}`]);
    const mb = (value) => (value === null || value === undefined ? null : bytes(value * 1e6));
    const used = mb(stats.redis_memory_used_mb);
    say(figures, [...of("version", stats.redis_version), ...of("keys", stats.redis_keys && short(stats.redis_keys)),
      ...of("memory", used && (stats.redis_memory_max_mb ? `${used} of ${mb(stats.redis_memory_max_mb)}` : used)),
      ...of("clients", stats.redis_connected_clients), ...of("connections in use", stats.connection_pool_utilization === null || stats.connection_pool_utilization === undefined ? null : percent(stats.connection_pool_utilization)),
      ...of("failures in the last minute", stats.connection_failures_per_minute ? short(stats.connection_failures_per_minute) : null)].join(", "));
  }, show(health) {
    if (health.redis_connected === null) return part.show("This node stands alone, over a server in its own process: there is no Redis.");
    const topology = health.topology;
    if (!topology) return part.show(health.redis_connected ? "Redis answers; its servers could not be asked." : "Redis does not answer.");
    part.show(null);
    const cluster = topology.cluster ? `, cluster state ${topology.cluster.state}, ${count(topology.cluster.slots_ok)} of 16,384 slots served` : "";
    say(said, `${topology.topology}: ${topology.healthy_nodes} of ${topology.total_nodes} servers answer${cluster}.`);
    list.show(topology.masters);
  } };
}
