// One key at a time: what a read of it would be given, and why.

import { get, query, why } from "../api.js";
import { h, keyed, pill, say, section, table } from "../dom.js";
import { bytes, count, DASH, ms, perSecond, span } from "../format.js";
import { poll } from "../live.js";
import { eventRow } from "./events.js";
import { invalidate } from "./invalidate.js";

/** `namespace/resource/a=b&c=d`, each part percent-encoded, as keys are written. */
export function parseKey(text) {
  const [, resource = "", parameters = ""] = text.split("/");
  const params = parameters.split("&").filter(Boolean).map((pair) => pair.split("=").map(decodeURIComponent));
  return { resource: decodeURIComponent(resource), parameters: params.map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value ?? "")}`).join("&") };
}

export function mount(root, { signal, parameters, announce }) {
  const type = h("select", { id: "key-type", required: true });
  const resource = h("input", { id: "key-resource", required: true, autocomplete: "off", spellcheck: "false", placeholder: "H100" });
  const params = h("input", { id: "key-params", autocomplete: "off", spellcheck: "false", placeholder: "region=europe&currency=usd" });
  const explain = h("button", { type: "submit" }, "Explain");
  const form = h("form", { class: "panel keyform" },
    h("div", { class: "field" }, h("label", { for: "key-type" }, "Cache type"), type),
    h("div", { class: "field grow" }, h("label", { for: "key-resource" }, "Resource"), resource),
    h("div", { class: "field grow" }, h("label", { for: "key-params" }, "Parameters"), params), explain);
  const answer = section("Why a read is answered as it is", { wide: true });
  answer.show("Name a key, or choose a hot one.");
  const hot = hotPanel(signal, (key) => fill(key));
  const many = scopePanel({ signal, announce });
  root.append(form, answer.node, hot.node, many);

  let wanted = parameters.get("type");
  get("/cache/stats", signal).then((stats) => {
    const types = Object.values(stats.namespaces).map((space) => space.cache_type).sort();
    type.replaceChildren(...types.map((name) => h("option", { value: name }, name)));
    many.offer(types);
    if (wanted) type.value = wanted;
    if (parameters.get("resource")) look();
  }, (error) => { if (!signal.aborted) answer.show(why(error)); });
  resource.value = parameters.get("resource") ?? "";
  params.value = parameters.get("params") ?? "";

  function fill({ cache_type, key }) {
    const parsed = parseKey(key);
    type.value = cache_type;
    resource.value = parsed.resource;
    params.value = parsed.parameters;
    look().then(() => answer.node.scrollIntoView({ block: "nearest" }));
  }

  form.addEventListener("submit", (event) => { event.preventDefault(); look(); });

  async function look() {
    const asked = { type: type.value, resource: resource.value.trim(), params: params.value.trim().replace(/^\?/, "") };
    if (!asked.resource) return resource.focus();
    // So that the view can be linked to and comes back on reload.
    history.replaceState(null, "", `#/keys${query(asked)}`);
    try {
      const path = `/node/explain/${encodeURIComponent(asked.type)}/${encodeURIComponent(asked.resource)}${asked.params ? `?${asked.params}` : ""}`;
      const explanation = await get(path, signal);
      answer.content.replaceChildren(...told(explanation, () => invalidate({ cache_type: asked.type, resource: asked.resource },
        `${asked.type} / ${asked.resource}, with all its parameters,`, { signal, announce, done: look })));
      answer.show(null);
    } catch (error) {
      if (!signal.aborted) answer.show(why(error));
    }
  }
}

function told(explanation, drop) {
  const found = explanation.tier !== null;
  const headline = found ? `A read now is answered by ${explanation.tier.toUpperCase()}.` : "Neither tier would answer: a read goes to the source, if the type has one.";
  const value = JSON.stringify(explanation.value, null, 2);
  return [
    h("p", { class: "headline", id: "verdict" }, headline),
    h("p", { class: "note lines" }, `${explanation.key}\npartition ${explanation.partition}, ${explanation.state}${explanation.lag_ms === null ? "" : `, proof of freshness ${ms(explanation.lag_ms)} old`}`),
    h("div", { class: "held" }, held("L1", explanation.l1), held("L2", explanation.l2)),
    h("h3", {}, "Steps"), h("ol", { class: "why" }, explanation.why.map((step) => h("li", {}, step))),
    found ? [h("h3", {}, "Value"), h("pre", { class: "value", tabindex: "0", role: "region", "aria-label": "Value" }, value)] : [],
    h("h3", {}, "Latest events that touch it"),
    explanation.events.length ? h("ol", { class: "events" }, explanation.events.map((record) => eventRow(record))) : h("p", { class: "empty" }, "None that this node remembers."),
    h("div", { class: "inline end" }, h("button", { type: "button", class: "danger", id: "invalidate", onclick: drop }, "Invalidate …")),
  ].flat();
}

function held(tier, one) {
  const state = !one.present ? pill("quiet", "nothing") : one.usable ? pill("good", "may be served") : pill("warn", "not usable");
  const row = (name, text) => [h("dt", {}, name), h("dd", {}, text)];
  return h("div", { class: "tile panel" }, h("h3", {}, tier, " ", state), one.note ? h("p", { class: "note" }, one.note) : null,
    one.present ? h("dl", { class: "pairs" }, row("Age", one.age_ms === null ? DASH : span(one.age_ms)), row("Expires in", one.expires_in_ms === null ? DASH : span(one.expires_in_ms)),
      row("Version", one.version === null ? DASH : count(one.version)), row("Position", one.position ?? DASH), row("Size", bytes(one.bytes ?? NaN))) : null);
}

function hotPanel(signal, choose) {
  const part = section("Hot keys", { note: "read most of late, on this node", wide: true });
  let shown = [];
  const list = table("Hot keys", [
    { label: "Key", once: true, of: (hot) => h("button", { type: "button", class: "link", onclick: () => choose(hot) }, hot.key) },
    { label: "Cache type", of: (hot) => hot.cache_type },
    { label: "Reads", number: true, of: (hot) => perSecond(hot.reads_per_s) },
  ], (hot) => hot.key);
  part.content.append(list.node);
  poll("/node/hot-keys?limit=20", 3_000, signal, (value, error) => {
    if (error) return part.show(why(error));
    // The order stands still while somebody aims at a row.
    if (list.node.matches(":hover, :focus-within")) {
      const rates = new Map(value.keys.map((hot) => [hot.key, hot]));
      value = { keys: shown.map((hot) => rates.get(hot.key) ?? { ...hot, reads_per_s: 0 }) };
    }
    shown = value.keys;
    if (shown.length === 0) return part.show("No key is read often enough to be seen.");
    part.show(null);
    list.show(shown);
  });
  return part;
}

/** Tags and patterns: what covers more than one resource. */
function scopePanel(context) {
  const kind = h("select", { id: "scope-kind" }, h("option", { value: "tag" }, "tag"), h("option", { value: "pattern" }, "pattern"));
  const text = h("input", { id: "scope-text", required: true, autocomplete: "off", spellcheck: "false", placeholder: "provider:runpod" });
  const type = h("select", { id: "scope-type" }, h("option", { value: "" }, "all"));
  const form = h("form", { class: "keyform", onsubmit: (event) => {
    event.preventDefault();
    const body = { [kind.value]: text.value.trim() };
    if (!body[kind.value]) return text.focus();
    if (kind.value === "pattern" && type.value) body.cache_type = type.value;
    const where = body.cache_type ? ` in ${body.cache_type}` : " in all cache types";
    invalidate(body, `Everything with the ${kind.value} ${text.value.trim()}${where}`, context);
  } },
    h("div", { class: "field" }, h("label", { for: "scope-kind" }, "By"), kind),
    h("div", { class: "field grow" }, h("label", { for: "scope-text" }, "Tag or pattern"), text),
    h("div", { class: "field" }, h("label", { for: "scope-type" }, "Cache type"), type),
    h("button", { type: "submit", class: "danger" }, "Invalidate …"));
  // A tag knows no bounds between cache types.
  const fit = () => { type.disabled = kind.value === "tag"; };
  kind.addEventListener("change", fit);
  fit();
  const part = section("Invalidate more than one resource", { wide: true });
  part.show(null);
  part.content.append(form);
  part.node.offer = (types) => type.append(...types.map((name) => h("option", { value: name }, name)));
  return part.node;
}
