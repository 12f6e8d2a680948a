// A backend's output, as it is printed. Always text: whatever a backend prints stays that.

import { ask } from "./api.js";
import { $, setText } from "./dom.js";

const MOST = 4000;
let abort = null;

/** Open the dialog and follow until it is closed. */
export async function showLogs(id) {
  const dialog = $("logs");
  setText($("logs-title"), `Logs of ${id}`);
  $("logs-text").replaceChildren();
  $("logs-close").onclick = () => dialog.close();
  dialog.onclose = () => abort?.abort();
  dialog.showModal();
  abort?.abort();
  const mine = (abort = new AbortController());
  let pause = 0;
  while (!mine.signal.aborted) {
    try {
      await followed(id, mine.signal, pause ? 0 : 500);
      state(false, "it printed its last line; waiting for its next start");
    } catch (error) {
      if (mine.signal.aborted) return;
      state(false, error.message);
      if (error.status) return;
    }
    pause = 2000;
    await new Promise((go) => setTimeout(go, pause));
  }
}

async function followed(id, signal, tail) {
  const answer = await ask(`api/backends/${encodeURIComponent(id)}/logs?follow=1&tail=${tail}`, { signal });
  state(true, "following");
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    add(value);
  }
}

function add(text) {
  const box = $("logs-text");
  const below = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  box.append(document.createTextNode(text));
  if (box.childNodes.length > MOST) box.firstChild.remove();
  if (below) box.scrollTop = box.scrollHeight;
}

function state(on, text) {
  const box = $("logs-state");
  box.dataset.on = String(on);
  setText(box, text);
}
