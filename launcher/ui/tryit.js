// A streaming chat with a chosen model: how long it waits, how soon the first token comes, how
// fast the rest.

import { ask, messages } from "./api.js";
import { $, el, keyed, setText } from "./dom.js";
import { duration } from "./format.js";

let abort = null;

/** The models to choose from. */
export function showModels(status) {
  const models = status.routes.flatMap((route) => route.models.map((id) => ({ id, route: route.route })));
  keyed($("try-model"), models, (one) => one.id, (one) => el("option", { value: one.id }), (node, one) => {
    setText(node, one.id === one.route ? one.id : `${one.id} (${one.route})`);
  });
}

export function setUp() {
  $("try").addEventListener("submit", (event) => {
    event.preventDefault();
    run($("try-model").value, $("try-text").value);
  });
  $("try-stop").addEventListener("click", () => abort?.abort());
}

async function run(model, text) {
  abort?.abort();
  const mine = (abort = new AbortController());
  const seen = { began: performance.now(), first: 0, last: 0, tokens: 0, waited: null, text: "", counted: null };
  begin();
  const timer = setInterval(() => show(seen), 200);
  try {
    const answer = await ask("openai/v1/chat/completions", {
      method: "POST",
      signal: mine.signal,
      headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
      body: JSON.stringify({
        model,
        messages: [{ role: "user", content: text }],
        stream: true,
        stream_options: { include_usage: true },
      }),
    });
    seen.waited = waitedOf(answer);
    if (seen.waited !== null) phase("the backend is at it");
    for await (const message of messages(answer)) take(message, seen);
    phase(seen.tokens ? "done" : "The stream ended without a token.", !seen.tokens);
  } catch (error) {
    if (mine.signal.aborted) phase("stopped");
    else fail(error);
  } finally {
    clearInterval(timer);
    show(seen);
    if (abort === mine) $("try-stop").hidden = true;
  }
}

function begin() {
  for (const one of ["try-numbers", "try-answer", "try-stop"]) $(one).hidden = false;
  setText($("try-answer"), "");
  phase("asking");
}

/** Milliseconds in the queue and in the start, as the launcher says in Server-Timing. */
function waitedOf(answer) {
  const told = answer.headers.get("Server-Timing") || "";
  const times = [...told.matchAll(/(queue|start);dur=([\d.]+)/g)].map((one) => Number(one[2]));
  return times.length ? times.reduce((sum, one) => sum + one, 0) : null;
}

function take(message, seen) {
  if (message.comment) phase(message.comment);
  if (!message.data || message.data === "[DONE]") return;
  const chunk = JSON.parse(message.data);
  if (chunk.error) throw Object.assign(new Error(chunk.error.message), { detail: chunk.error.detail });
  if (chunk.usage?.completion_tokens) seen.counted = chunk.usage.completion_tokens;
  const delta = chunk.choices?.[0]?.delta ?? {};
  const piece = delta.content || delta.reasoning_content || "";
  if (!piece) return;
  if (!seen.tokens) {
    seen.first = performance.now();
    phase("answering");
  }
  seen.tokens += 1;
  seen.last = performance.now();
  seen.text += piece;
  const box = $("try-answer");
  const below = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  setText(box, seen.text);
  if (below) box.scrollTop = box.scrollHeight;
}

function show(seen) {
  const so = seen.first || performance.now();
  setText($("try-waited"), seen.waited !== null ? duration(seen.waited / 1000) : seen.first ? "–" : duration((so - seen.began) / 1000));
  setText($("try-first"), seen.first ? duration((seen.first - seen.began) / 1000) : "–");
  const tokens = seen.counted ?? seen.tokens;
  setText($("try-count"), tokens ? String(tokens) : "–");
  const took = (seen.last - seen.first) / 1000;
  setText($("try-rate"), tokens > 1 && took > 0 ? ((tokens - 1) / took).toFixed(1) : "–");
}

function phase(text, bad = false) {
  setText($("try-phase"), text);
  $("try-phase").classList.toggle("error", bad);
}

function fail(error) {
  phase(`${error.status ? `${error.status} ${error.code}: ` : ""}${error.message}`, true);
  if (error.detail) setText($("try-answer"), error.detail);
  $("try-answer").hidden = !$("try-answer").textContent;
}
