// Asking the node. The token is kept for this tab and travels in a header, never in an address.

const KEPT = "edgecache.token";
let token = null;
try { token = sessionStorage.getItem(KEPT); } catch { /* forbidden storage: the token lasts until the page is left */ }

export const hasToken = () => token !== null;

export function useToken(text) {
  token = text;
  try { sessionStorage.setItem(KEPT, text); } catch { /* as above */ }
}

export function forgetToken() {
  token = null;
  try { sessionStorage.removeItem(KEPT); } catch { /* as above */ }
}

/** An answer that is not a success, in the node's words. */
export class Refused extends Error {
  constructor(status, body) {
    super(body?.detail ?? body?.title ?? body?.error ?? `the node answered ${status}`);
    this.status = status;
    this.field = body?.field ?? null;
    this.cure = body?.cure ?? null;
  }

  /** The node has no such route: an older one, or one with that part switched off. */
  get notOffered() { return this.status === 404 && /^nothing is at/.test(this.message); }
}

/** No answer at all. */
export class Silent extends Error {
  constructor() { super("the node does not answer"); }
}

const PATIENCE_MS = 8_000;
const listeners = new Set();
/** Told of each 401, whoever asked. */
export const onRefusedToken = (listener) => { listeners.add(listener); };

const headers = (more = {}) => (token === null ? more : { ...more, authorization: `Bearer ${token}` });

async function refusal(response) {
  let body = null;
  try { body = await response.json(); } catch { /* a proxy in between may answer with something else */ }
  const error = new Refused(response.status, body);
  if (response.status === 401) listeners.forEach((listener) => listener(error));
  return error;
}

/** Asks, and gives what the body says; throws `Refused`, `Silent`, or an abort. */
export async function ask(method, path, { body, signal } = {}) {
  const patience = AbortSignal.timeout(PATIENCE_MS);
  const stop = signal ? AbortSignal.any([signal, patience]) : patience;
  let response;
  try {
    const more = body === undefined ? {} : { "content-type": "application/json" };
    response = await fetch(path, { method, headers: headers(more), body: body === undefined ? undefined : JSON.stringify(body), signal: stop, cache: "no-store", redirect: "error" });
    if (!response.ok) throw await refusal(response);
    const text = await response.text();
    return { status: response.status, value: text ? JSON.parse(text) : null, headers: response.headers };
  } catch (error) {
    if (error instanceof Refused || signal?.aborted) throw error;
    throw new Silent();
  }
}

export const get = async (path, signal) => (await ask("GET", path, { signal })).value;

/** Opens a stream of server-sent events; EventSource cannot carry the token. */
export async function open(path, signal, more) {
  let response;
  try {
    response = await fetch(path, { headers: headers({ accept: "text/event-stream", ...more }), signal, cache: "no-store", redirect: "error" });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new Silent();
  }
  if (!response.ok) throw await refusal(response);
  return response.body;
}

/** `a=1&b=2` of what is not empty. */
export function query(parameters) {
  const pairs = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return pairs.length ? `?${new URLSearchParams(pairs)}` : "";
}

/** Why something cannot be shown, in a sentence. */
export function why(error) {
  if (error instanceof Refused) {
    if (error.notOffered) return "Not offered by this node.";
    if (error.status === 403) return `The token may not do this: ${error.message}.${error.cure ? ` ${capital(error.cure)}.` : ""}`;
    return `${capital(error.message)}.${error.cure ? ` ${capital(error.cure)}.` : ""}`;
  }
  return `${capital(error.message)}.`;
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1).replace(/\.$/, "");
