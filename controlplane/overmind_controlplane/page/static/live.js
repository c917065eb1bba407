"use strict";
// What changes on the server changes here: parts of the page, and the log, which only grows.
(() => {
  const LONGEST_LOG = 400000;
  const policy = window.trustedTypes
    ? trustedTypes.createPolicy("live", { createHTML: (html) => html })
    : { createHTML: (html) => html };

  // The server wrote and escaped the part. What has the focus, and what was opened, stays so.
  function replace(told) {
    const part = document.getElementById("part-" + told.name);
    if (!part || part.dataset.digest === told.digest) return;
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    const opened = [...part.querySelectorAll("details[open][id]")].map((one) => one.id);
    part.innerHTML = policy.createHTML(told.html);
    part.dataset.digest = told.digest;
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }

  function append(log, text) {
    log.append(text);
    while (log.textContent.length > LONGEST_LOG && log.childNodes.length > 1) log.firstChild.remove();
    if (document.getElementById("follow").checked) log.scrollTop = log.scrollHeight;
  }

  function watch(box) {
    const source = new EventSource(box.dataset.live);
    source.addEventListener("open", () => { document.body.dataset.state = "live"; });
    source.addEventListener("error", () => { document.body.dataset.state = "away"; });
    source.addEventListener("part", (event) => replace(JSON.parse(event.data)));
    source.addEventListener("log", (event) =>
      append(document.getElementById("log"), JSON.parse(event.data).text));
    source.addEventListener("end", () => { source.close(); document.body.dataset.state = "ended"; });
  }

  const log = document.getElementById("log");
  if (log) {
    log.scrollTop = log.scrollHeight;
    // Who scrolls up wants to read; who scrolls to the end wants to follow.
    log.addEventListener("scroll", () => {
      document.getElementById("follow").checked = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
    });
  }
  document.querySelectorAll("[data-live]").forEach(watch);
})();
