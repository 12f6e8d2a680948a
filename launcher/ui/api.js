// The way to the launcher: requests with the key in a header, and the stream of its events.
// The key lives in this module's memory and nowhere else: no storage, no cookie, no URL.

let key = "";
/** What this key may not ask for. */
const absent = new Set();
let onDenied = () => {};

export const hasKey = () => key !== "";
export const setKey = (value) => {
  key = value.trim();
  absent.clear();
};

/** What to do when a key is missing or wrong: `onDenied(error)`. */
export const whenDenied = (act) => { onDenied = act; };

/** An answer that wasn't good: `status`, `code`, `message`, `detail`, as the launcher says them. */
export class ApiError extends Error {
  constructor(status, error = {}) {
    super(error.message || `The launcher answered ${status}.`);
    this.status = status;
    this.code = error.code || "";
    this.detail = error.detail || "";
  }
}

function headers(more) {
  return key ? { Authorization: `Bearer ${key}`, ...more } : { ...more };
}

// Relative to the page, so that it works behind a path of another proxy's.
const at = (path) => new URL(path, document.baseURI);

/** fetch with the key. Raises ApiError for anything but success, and TypeError without a link. */
export async function ask(path, options = {}) {
  const sent = key;
  const answer = await fetch(at(path), {
    cache: "no-store",
    credentials: "omit",
    redirect: "error",
    ...options,
    headers: headers(options.headers),
  });
  if (answer.ok) return answer;
  const error = await failure(answer);
  // Who has given another key meanwhile isn't asked again for what the one before couldn't open.
  if (sent === key && (answer.status === 401 || error.code === "wrong_key")) onDenied(error);
  throw error;
}

async function failure(answer) {
  const text = await answer.text();
  try {
    return new ApiError(answer.status, JSON.parse(text).error);
  } catch {
    return new ApiError(answer.status, { message: text.slice(0, 500) });
  }
}

export async function get(path) {
  return (await ask(path)).json();
}

/** GET, or null where that isn't for this key; it is asked for once. */
export async function getIfMay(path) {
  if (absent.has(path)) return null;
  const answer = await fetch(at(path), { cache: "no-store", credentials: "omit", headers: headers() });
  if (answer.ok) return answer.json();
  if (answer.status !== 403 && answer.status !== 404) throw await failure(answer);
  absent.add(path);
  return null;
}

export async function send(method, path, body) {
  const options = { method, headers: { "Content-Type": "application/json" } };
  if (body !== undefined) options.body = JSON.stringify(body);
  const answer = await ask(path, options);
  const text = await answer.text();
  return text ? JSON.parse(text) : null;
}

/** Server-sent events of a response, one `{id, event, data, comment}` at a time. */
export async function* messages(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) yield parse(block);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parse(block) {
  const message = { id: null, event: "message", data: "", comment: "" };
  for (const line of block.split(/\r?\n/)) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "") message.comment += value;
    else if (name === "data") message.data += message.data ? `\n${value}` : value;
    else if (name in message) message[name] = value;
  }
  return message;
}

const SILENCE = 40_000;

/**
 * Follow the launcher's events for ever, coming back where the connection breaks.
 * `onEvent({event, effects, at})`, `onReset()` where everything has to be asked for anew,
 * `onLink(on)` when the connection is made or lost. Returns what ends it.
 */
export function follow({ onEvent, onReset, onLink }) {
  let last = "";
  let over = false;
  let abort = null;
  const run = async () => {
    let pause = 500;
    while (!over) {
      abort = new AbortController();
      let watch = 0;
      const alive = () => {
        clearTimeout(watch);
        watch = setTimeout(() => abort.abort(), SILENCE);
      };
      try {
        const before = last;
        const answer = await ask("api/events", {
          signal: abort.signal,
          headers: { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) },
        });
        onLink(true);
        if (!before) onReset();
        pause = 500;
        alive();
        for await (const message of messages(answer)) {
          alive();
          if (message.id !== null) last = message.id;
          if (message.event === "reset") onReset();
          else if (message.data) onEvent(JSON.parse(message.data));
        }
      } catch (error) {
        if (error instanceof ApiError && [401, 403].includes(error.status)) over = true;
      } finally {
        clearTimeout(watch);
      }
      onLink(false);
      if (!over) await new Promise((go) => setTimeout(go, pause));
      pause = Math.min(pause * 2, 5_000);
    }
  };
  run();
  return () => {
    over = true;
    abort?.abort();
  };
}
