"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const seconds = (value) => (value < 90 ? `${Math.round(value)} s` : `${Math.round(value / 60)} min`);
  const rest = (time) => new Promise((go) => setTimeout(go, time));

  function show(told) {
    $("title").textContent = document.title = told.title;
    $("phase").textContent = told.phase;
    const left = told.left_seconds;
    $("time").textContent =
      left === null
        ? `${seconds(told.waited_seconds)} so far`
        : `about ${seconds(left)} to go (± ${seconds(told.spread_seconds)}), ${seconds(told.waited_seconds)} so far` +
          (told.place > 1 ? `, place ${told.place}` : "");
    if (left === null) $("bar").removeAttribute("aria-valuenow");
    else {
      const done = Math.min(99, Math.round((100 * told.waited_seconds) / Math.max(told.waited_seconds + left, 0.1)));
      $("bar").setAttribute("aria-valuenow", done);
      $("done").style.width = `${done}%`;
    }
    $("line").hidden = !told.line;
    $("line").textContent = told.line || "";
  }

  function fail(told) {
    document.body.dataset.failed = "true";
    $("title").textContent = document.title = told.title;
    $("phase").textContent = told.error;
    $("line").hidden = true;
    $("detail").hidden = !told.detail;
    $("detail").textContent = told.detail || "";
    $("again").hidden = false;
  }

  /** True when there is nothing to wait for any more. */
  async function followed() {
    const answer = await fetch(location.href, {
      cache: "no-store",
      headers: { Accept: "text/html", "X-Launcher-Waiting": "1" },
    });
    if (!answer.headers.has("X-Launcher-Waiting")) {
      answer.body?.cancel();
      location.reload();
      return true;
    }
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return false;
      const lines = (text + value).split("\n");
      text = lines.pop();
      for (const line of lines) {
        const told = JSON.parse(line);
        if (told.ready) location.reload();
        else if (told.error) fail(told);
        else show(told);
        if (told.ready || told.error) return true;
      }
    }
  }

  async function wait() {
    for (;;) {
      try {
        if (await followed()) return;
      } catch {
        $("phase").textContent = "The connection broke; trying again";
      }
      await rest(2000);
    }
  }

  $("again").addEventListener("click", () => location.reload());
  if (document.body.dataset.failed !== "true") wait();
})();
