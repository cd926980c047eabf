// Makes pages that are complete without it nicer: times in the reader's zone, and live pages.
"use strict";

const AGO = [[86400, "days"], [3600, "h"], [60, "min"], [1, "s"]];

function ago(date) {
  const seconds = Math.max(0, (Date.now() - date) / 1000);
  if (seconds < 10) return "just now";
  const [unit, name] = AGO.find(([unit]) => seconds >= unit * (unit === 86400 ? 2 : 1));
  return `${Math.floor(seconds / unit)} ${name} ago`;
}

const EXACT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const DAY = new Intl.DateTimeFormat(undefined, { day: "2-digit", month: "short" });
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
const SHOW = {
  ago: (date) => ago(date),
  exact: (date) => EXACT.format(date),
  short: (date) => `${DAY.format(date)}\n${CLOCK.format(date)}`,
};

function showTimes(root) {
  for (const time of root.querySelectorAll("time[data-show]")) {
    const date = new Date(time.dateTime);
    time.dataset.server ??= time.title || time.textContent;
    time.title = time.dataset.show === "exact" ? time.dataset.server : EXACT.format(date);
    time.textContent = SHOW[time.dataset.show](date);
  }
}

// What a reader has done to a piece of the page outlives its replacement. Long outputs scroll in
// their own boxes: one that shows its end keeps showing it as it grows.
function remember(root) {
  const focused = root.contains(document.activeElement) ? document.activeElement : null;
  return {
    boxes: [...root.querySelectorAll("pre, .matrix-box")].map((box) => {
      const atEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 8;
      return { atEnd, top: box.scrollTop, left: box.scrollLeft };
    }),
    open: [...root.querySelectorAll("details")].map((details) => details.open),
    focused: focused && { tag: focused.tagName, text: focused.textContent, href: focused.getAttribute("href") },
  };
}

function restore(root, { boxes, open, focused }) {
  [...root.querySelectorAll("pre, .matrix-box")].forEach((box, index) => {
    const { atEnd, top, left } = boxes[index] ?? { atEnd: true, left: 0 };
    box.scrollTo(left, atEnd ? box.scrollHeight : top);
  });
  [...root.querySelectorAll("details")].forEach((details, index) => {
    if (index in open) details.open = open[index];
  });
  if (!focused) return;
  const same = (node) => node.getAttribute("href") === focused.href && (focused.href || node.textContent === focused.text);
  [...root.querySelectorAll(focused.tag)].find(same)?.focus({ preventScroll: true });
}

function patch({ id, hash, html }) {
  const old = document.getElementById(id);
  if (!old || old.dataset.hash === hash) return;
  const before = remember(old);
  old.outerHTML = html;
  const now = document.getElementById(id);
  showTimes(now);
  restore(now, before);
}

// A page that nobody looks at asks for nothing; the first answer after that brings it up to date.
function follow(page) {
  for (const box of page.querySelectorAll(".output pre")) box.scrollTo(0, box.scrollHeight);
  let source = null;
  let ended = false;
  const start = () => {
    source = new EventSource(page.dataset.live);
    source.addEventListener("patch", (event) => patch(JSON.parse(event.data)));
    source.addEventListener("end", () => {
      ended = true;
      source.close();
    });
  };
  start();
  document.addEventListener("visibilitychange", () => {
    if (ended) return;
    if (document.hidden) source.close();
    else start();
  });
}

for (const zone of document.querySelectorAll("[data-show=zone]")) {
  zone.textContent = `On your clock (${EXACT.resolvedOptions().timeZone})`;
}
showTimes(document);
setInterval(() => showTimes(document), 30000);
const page = document.querySelector("[data-live]");
if (page) follow(page);
