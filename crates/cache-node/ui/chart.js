// Lines over time, drawn as SVG: a few series, one scale, gaps where nothing was measured.

import { attribute, h, say, svg } from "./dom.js";
import { clock, minutes } from "./format.js";

const HEIGHT = 150;
const PAD = { left: 58, right: 10, top: 8, bottom: 20 };

/** The next round figure above. */
export function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

/** Runs of points without a gap between them: `longest` milliseconds is still the same line. */
export function runs(points, longest) {
  const found = [];
  for (const point of points) {
    const run = found.at(-1);
    if (run && point[0] - run.at(-1)[0] <= longest) run.push(point);
    else found.push([point]);
  }
  return found;
}

/** The point nearest in time, if it is near enough. */
function nearest(points, at, within) {
  let best = null;
  for (const point of points) if (Math.abs(point[0] - at) <= within && (!best || Math.abs(point[0] - at) < Math.abs(best[0] - at))) best = point;
  return best;
}

/**
 * A chart: `series` is a list of `{ name, label }`, `unit` writes a figure, `top` fixes the upper end of the scale.
 * Its legend carries the latest figures, so that nobody needs to see the lines.
 */
export function chart({ title, note, series, unit, top }) {
  const legend = h("ul", { class: "legend" });
  const figures = series.map(({ label }, at) => {
    const figure = h("b");
    legend.append(h("li", {}, svg("svg", { viewBox: "0 0 16 4", class: `key s${at + 1}`, "aria-hidden": "true" }, svg("path", { d: "M0 2H16" })), ` ${label} `, figure));
    return figure;
  });
  const drawing = svg("svg", { class: "plot", height: HEIGHT, role: "img", "aria-label": title });
  const tip = h("div", { class: "tip", hidden: true });
  const empty = h("p", { class: "empty", hidden: true });
  const frame = h("div", { class: "frame" }, drawing, tip, empty);
  const node = h("figure", { class: "panel chart" }, h("figcaption", {}, h("h3", {}, title), note ? h("span", { class: "note" }, note) : null), legend, frame);
  let now = null;
  let pointer = null;

  const draw = () => {
    const width = Math.max(frame.clientWidth, 120);
    const { lines, from, to } = now;
    const [plotWidth, plotHeight] = [width - PAD.left - PAD.right, HEIGHT - PAD.top - PAD.bottom];
    const highest = top ?? ceiling(Math.max(0, ...lines.flatMap((points) => points.map((point) => point[1]))));
    const x = (at) => PAD.left + ((at - from) / (to - from)) * plotWidth;
    const y = (value) => PAD.top + (1 - Math.min(Math.max(value / highest, 0), 1)) * plotHeight;
    drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    drawing.setAttribute("width", width);
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const at = y(share * highest);
      parts.push(svg("line", { class: "grid", x1: PAD.left, x2: width - PAD.right, y1: at, y2: at }));
      parts.push(svg("text", { class: "axis", x: PAD.left - 8, y: at + 4, "text-anchor": "end" }, share ? unit(share * highest) : "0"));
    }
    const ticks = width < 420 ? 2 : 4;
    for (let tick = 0; tick <= ticks; tick += 1) {
      const at = from + ((to - from) * tick) / ticks;
      const anchor = tick === 0 ? "start" : tick === ticks ? "end" : "middle";
      parts.push(svg("text", { class: "axis", x: x(at), y: HEIGHT - 4, "text-anchor": anchor }, to - from < 600_000 ? clock(at) : minutes(at)));
    }
    const longest = Math.max(5_000, ((to - from) / 300) * 4);
    lines.forEach((points, at) => {
      for (const run of runs(points, longest)) {
        if (run.length === 1) parts.push(svg("circle", { class: `dot s${at + 1}`, cx: x(run[0][0]), cy: y(run[0][1]), r: 2 }));
        else parts.push(svg("path", { class: `line s${at + 1}`, d: run.map(([t, v], i) => `${i ? "L" : "M"}${x(t).toFixed(1)} ${y(v).toFixed(1)}`).join("") }));
      }
    });
    tip.hidden = true;
    if (pointer !== null) {
      const at = from + ((pointer - PAD.left) / plotWidth) * (to - from);
      const hits = lines.map((points) => nearest(points, at, longest));
      const hit = hits.find(Boolean);
      if (hit) {
        parts.push(svg("line", { class: "cursor", x1: x(hit[0]), x2: x(hit[0]), y1: PAD.top, y2: PAD.top + plotHeight }));
        hits.forEach((point, i) => point && parts.push(svg("circle", { class: `dot s${i + 1}`, cx: x(point[0]), cy: y(point[1]), r: 3.5 })));
        tip.hidden = false;
        tip.replaceChildren(h("span", {}, clock(hit[0])), ...hits.flatMap((point, i) => (point ? [h("span", {}, `${series[i].label} `, h("b", {}, unit(point[1])))] : [])));
        tip.classList.toggle("left", x(hit[0]) > width / 2);
      }
    }
    drawing.replaceChildren(...parts);
  };

  frame.addEventListener("pointermove", (event) => { pointer = event.clientX - frame.getBoundingClientRect().left; if (now) draw(); });
  frame.addEventListener("pointerleave", () => { pointer = null; if (now) draw(); });
  const resized = new ResizeObserver(() => { if (now) draw(); });
  resized.observe(frame);

  return {
    node, names: series.map(({ name }) => name),
    /** Draws what `history` (points by name) says of the time between. */
    show(history, from, to) {
      const lines = series.map(({ name }) => (history[name] ?? []).filter(([at, value]) => at >= from && Number.isFinite(value)));
      now = { lines, from, to };
      const latest = lines.map((points) => points.at(-1)?.[1]);
      latest.forEach((value, at) => say(figures[at], unit(value)));
      attribute(drawing, "aria-label", `${title}: ${series.map(({ label }, at) => `${label} ${unit(latest[at])}`).join(", ")}`);
      const nothing = lines.every((points) => points.length === 0);
      empty.hidden = !nothing;
      if (nothing) say(empty, "No samples in this time.");
      attribute(drawing, "aria-hidden", nothing ? "true" : null);
      draw();
    },
    /** Says why there is nothing to draw. */
    fail(text) {
      empty.hidden = false;
      say(empty, text);
    },
    stop: () => resized.disconnect(),
  };
}
