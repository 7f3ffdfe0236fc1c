// Figures beside what was promised.

import { why } from "../api.js";
import { h, pill, section, table } from "../dom.js";
import { count, DASH, ms, words } from "../format.js";
import { poll } from "../live.js";

const MEANING = {
  l1_hits: "Reads that memory answers",
  l2_hits: "Of the rest, those that the shared tier answers",
  propagation: "From an event to its being applied here, 99th percentile",
  response: "A read, 99th percentile",
  invalidation: "From asking to invalidated, 99th percentile",
};

export function mount(root, { signal }) {
  const part = section("Promised and found", { note: "on this node, since it started", wide: true });
  const figure = (target, value) => (value === null || value === undefined ? DASH : target.unit === "ms" ? ms(value) : `${value.toFixed(1)} ${target.unit}`);
  const list = table("Targets", [
    { label: "Target", of: (target) => h("span", {}, h("b", {}, words(target.name)), h("span", { class: "note block" }, MEANING[target.name] ?? "")) },
    { label: "Wanted", number: true, of: (target) => `${target.direction} ${figure(target, target.target)}` },
    { label: "Found", number: true, of: (target) => figure(target, target.found) },
    { label: "Samples", number: true, of: (target) => count(target.samples) },
    { label: "", of: (target) => (target.met === null ? pill("quiet", "no samples") : pill(target.met ? "good" : "bad", target.met ? "met" : "missed")) },
  ], (target) => target.name);
  const verdict = h("p", { class: "verdict" });
  part.content.append(verdict, list.node);
  root.append(part.node);
  poll("/node/slo", 3_000, signal, (report, error) => {
    if (error) return part.show(why(error));
    part.show(null);
    const missed = report.targets.filter((target) => target.met === false).length;
    const unknown = report.targets.filter((target) => target.met === null).length;
    const text = missed ? `${missed} of ${report.targets.length} targets missed.` : unknown === report.targets.length ? "Nothing was measured yet." : `Every target with samples is met${unknown ? `; ${unknown} without samples` : ""}.`;
    if (verdict.textContent !== text) verdict.textContent = text;
    list.show(report.targets);
  });
}
