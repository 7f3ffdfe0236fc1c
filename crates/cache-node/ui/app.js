// The frame around the views: which one is shown, whether the node still answers, theme and token.

import { forgetToken, get, hasToken, onRefusedToken, Refused } from "./api.js";
import { h, say } from "./dom.js";
import { span } from "./format.js";
import { EventHub, poll } from "./live.js";
import { askForToken } from "./token.js";

const VIEWS = {
  overview: ["Overview", () => import("./views/overview.js")],
  events: ["Events", () => import("./views/events.js")],
  keys: ["Keys", () => import("./views/keys.js")],
  market: ["Market", () => import("./views/market.js")],
  targets: ["Targets", () => import("./views/targets.js")],
};
const HEALTH_EVERY_MS = 2_000;
/** One answer may be late; two in a row are worth a word. */
const LATE_MS = 5_000;

const $ = (id) => document.getElementById(id);
const main = $("main");
let view = null;
let session = null;
let asking = false;

/** What happened, for eyes and screen readers; gone after a while. */
let fading;
function announce(text, kind = "good") {
  const said = $("said");
  said.className = `said ${kind}`;
  said.textContent = text;
  clearTimeout(fading);
  fading = setTimeout(() => { said.textContent = ""; }, 8_000);
}

function route() {
  const [path, parameters] = location.hash.replace(/^#\/?/, "").split("?");
  return { name: VIEWS[path] ? path : "overview", parameters: new URLSearchParams(parameters ?? "") };
}

async function show(byHand) {
  if (asking || !session) return;
  const { name, parameters } = route();
  view?.abort();
  view = new AbortController();
  const { signal } = view;
  const [title, load] = VIEWS[name];
  document.title = `${title} · edgecache`;
  for (const link of $("views").children) {
    if (link.getAttribute("href") === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const module = await load();
  if (signal.aborted) return;
  const heading = h("h1", { tabindex: "-1" }, title);
  const root = h("div", { class: `view ${name}` }, heading);
  main.replaceChildren(root);
  module.mount(root, { signal, parameters, events: session.events, announce });
  if (byHand) heading.focus({ preventScroll: true });
}

/** Everything that is alive while the node lets us look. */
function begin() {
  asking = false;
  session?.stop.abort();
  const stop = new AbortController();
  session = { stop, events: new EventHub() };
  session.events.run(stop.signal);
  // For eyes that look at the document: whether changes arrive.
  session.events.listen(stop.signal, () => { document.body.dataset.stream = session?.events.state ?? ""; });
  $("forget").hidden = !hasToken();
  show(false);
}

function end(refusal) {
  if (asking) return;
  asking = true;
  session?.stop.abort();
  view?.abort();
  session = null;
  $("forget").hidden = true;
  document.title = "Token · edgecache";
  askForToken(main, refusal, begin);
}

/** Whether the node answers, and how it says it is: asked whatever is shown, and without a token. */
function watchNode() {
  let answered = performance.now();
  let told = null;
  const banner = $("banner");
  const late = () => {
    const age = performance.now() - answered;
    const gone = age > LATE_MS;
    document.body.classList.toggle("stale", gone);
    if (gone && told !== null) {
      const status = $("status");
      status.className = "pill bad";
      say(status, "no answer");
    }
    // A screen reader hears that the node is gone and that it is back; the age is for eyes.
    if (gone !== !banner.hidden) {
      banner.hidden = !gone;
      banner.replaceChildren("This node does not answer. ", h("span", { id: "stale-age", "aria-hidden": "true" }));
    }
    if (gone) say($("stale-age"), `What you see is ${span(age)} old.`);
  };
  setInterval(late, 1000);
  poll("/health", HEALTH_EVERY_MS, new AbortController().signal, (health, error) => {
    if (!health && !(error instanceof Refused)) return;
    answered = performance.now();
    told = health ?? { status: "unhealthy" };
    late();
    const status = $("status");
    const kind = { healthy: "good", degraded: "warn" }[told.status] ?? "bad";
    status.className = `pill ${kind}`;
    say(status, told.status);
    status.title = told.error ?? "";
    if (told.node_id) say($("node"), `${told.node_id} · ${told.region}`);
  });
}

function theme() {
  const select = $("theme");
  select.value = document.documentElement.dataset.theme ?? "auto";
  select.addEventListener("change", () => {
    if (select.value === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = select.value;
    try { localStorage.setItem("edgecache.theme", select.value); } catch { /* then it lasts until the page is left */ }
  });
}

// A page that was left may be kept for the way back, with its connections; it begins anew when it is shown again.
addEventListener("pagehide", () => { session?.stop.abort(); view?.abort(); });
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
theme();
watchNode();
onRefusedToken(end);
addEventListener("hashchange", () => show(true));
$("skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
$("forget").addEventListener("click", () => { forgetToken(); view?.abort(); location.reload(); });
// The first question tells whether a token is needed, before anything is promised.
get("/cache/stats").then(begin, (error) => { if (!(error instanceof Refused) || error.status !== 401) begin(); });
