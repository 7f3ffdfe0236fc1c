// The changes of the cache as they come, from all nodes.

import { why } from "../api.js";
import { h, keyed, pill, say, section } from "../dom.js";
import { count, ms, precise, words } from "../format.js";

const SHOWN = 120;
const KINDS = { booking_created: "good", booking_cancelled: "warn", provider_status_changed: "warn", manual_invalidation: "bad" };

/** One event as a row that can be opened. */
export function eventRow(record) {
  const data = JSON.stringify(record.data, null, 2);
  return h("li", { class: "event" }, h("details", {}, h("summary", {},
    h("time", { datetime: record.timestamp }, precise(record.timestamp)),
    pill(KINDS[record.event_type] ?? "quiet", words(record.event_type)),
    h("span", { class: "what" }, record.resource_id),
    h("span", { class: "from" }, record.source_node),
    h("span", { class: "took" }, record.propagation_ms === null ? "made here" : ms(record.propagation_ms))),
  h("dl", { class: "pairs" },
    ...pair("Reason", record.reason), ...pair("Position", record.position), ...pair("Id", record.event_id),
    ...pair("Touches", record.scopes.join("\n")), ...pair("In", record.affected_namespaces.join(", ")),
    ...(data && data !== "null" ? [h("dt", {}, "Says"), h("dd", {}, h("pre", {}, data))] : []))));
}

/** One record for each event: what touches too much for one place in the log has several there, one behind the other. */
function together(records) {
  const events = new Map();
  const both = (one, other) => [...new Set([...one, ...other])];
  for (const part of records) {
    const known = events.get(part.event_id);
    events.set(part.event_id, !known ? part : {
      ...known, position: `${part.position}\n${known.position}`,
      scopes: both(part.scopes, known.scopes), affected_namespaces: both(part.affected_namespaces, known.affected_namespaces),
    });
  }
  return [...events.values()];
}

const pair = (name, text) => (text ? [h("dt", {}, name), h("dd", { class: "lines" }, text)] : []);

/** How the stream is, in words. */
export function streamState(hub) {
  switch (hub.state) {
    case "open": return ["good", "live"];
    case "connecting": return ["quiet", "connecting"];
    case "absent": return ["quiet", "Not offered by this node."];
    case "refused": return ["bad", why(hub.error)];
    default: return ["warn", "The stream broke off; trying again. What came meanwhile is made up for as far as the node remembers it."];
  }
}

export function mount(root, { signal, events: hub }) {
  const kind = h("select", { id: "event-kind" }, h("option", { value: "" }, "all"));
  const space = h("select", { id: "event-space" }, h("option", { value: "" }, "all"));
  const pause = h("button", { type: "button", "aria-pressed": "false" }, "Pause");
  const [state, missed] = [h("span", { class: "pill quiet" }), h("p", { class: "bad-text", hidden: true })];
  const said = h("p", { class: "note" });
  const list = h("ol", { class: "events", "aria-label": "Events, newest first" });
  const part = section("Latest changes", { wide: true });
  part.content.append(list);
  root.append(h("form", { class: "filters panel", onsubmit: (event) => event.preventDefault() },
    h("label", {}, "Kind ", kind), h("label", {}, "Cache type ", space), pause, state, said), missed, part.node);

  let held = null;
  const shown = () => {
    const all = together(held ?? hub.recent);
    return all.filter((record) => (!kind.value || record.event_type === kind.value) && (!space.value || record.affected_namespaces.includes(space.value)));
  };
  const offer = (select, names) => {
    const have = new Set([...select.options].map((option) => option.value));
    for (const name of names) if (!have.has(name)) { have.add(name); select.append(h("option", { value: name }, words(name))); }
  };
  const show = () => {
    offer(kind, hub.recent.map((record) => record.event_type));
    offer(space, hub.recent.flatMap((record) => record.affected_namespaces));
    const [mood, text] = streamState(hub);
    state.className = `pill ${mood}`;
    say(state, text);
    const waiting = held ? hub.heard - pausedAt : 0;
    say(said, held ? `${count(waiting)} more since the pause` : `${count(hub.heard)} since this page was opened`);
    missed.hidden = hub.missed === 0;
    say(missed, `${count(hub.missed)} events passed that the node no longer remembered.`);
    const records = shown().slice(0, SHOWN);
    if (records.length === 0) part.show(hub.state === "absent" || hub.state === "refused" ? text : hub.recent.length ? "No event fits." : "No event yet. Each change on any node appears here.");
    else part.show(null);
    keyed(list, records, (record) => record.position + record.event_id, eventRow);
  };
  let pausedAt = 0;
  pause.addEventListener("click", () => {
    held = held ? null : [...hub.recent];
    pausedAt = hub.heard;
    pause.setAttribute("aria-pressed", String(Boolean(held)));
    say(pause, held ? "Resume" : "Pause");
    show();
  });
  kind.addEventListener("change", show);
  space.addEventListener("change", show);
  hub.listen(signal, show);
}
