// Makes pages that are complete without it nicer: times in the reader's zone, and live runs.
"use strict";

const AGO = [[86400, "days"], [3600, "h"], [60, "min"], [1, "s"]];

function ago(date) {
  const seconds = Math.max(0, (Date.now() - date) / 1000);
  if (seconds < 10) return "just now";
  const [unit, name] = AGO.find(([unit]) => seconds >= unit * (unit === 86400 ? 2 : 1));
  return `${Math.floor(seconds / unit)} ${name} ago`;
}

function showTimes(root) {
  const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  for (const time of root.querySelectorAll("time[data-show]")) {
    const date = new Date(time.dateTime);
    if (time.dataset.show === "exact") {
      time.title ||= time.textContent;
      time.textContent = exact.format(date);
    } else {
      time.title = exact.format(date);
      time.textContent = ago(date);
    }
  }
}

// Long outputs scroll in their own boxes: one that shows its end keeps showing it as it grows.
function places(root) {
  return [...root.querySelectorAll("pre")].map((box) => {
    const atEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 8;
    return { atEnd, top: box.scrollTop, left: box.scrollLeft };
  });
}

function restore(root, places) {
  [...root.querySelectorAll("pre")].forEach((box, index) => {
    const { atEnd, top, left } = places[index] ?? { atEnd: true, left: 0 };
    box.scrollTo(left, atEnd ? box.scrollHeight : top);
  });
}

function patch({ id, hash, html }) {
  const old = document.getElementById(id);
  if (!old || old.dataset.hash === hash) return;
  const before = places(old);
  old.outerHTML = html;
  const now = document.getElementById(id);
  showTimes(now);
  restore(now, before);
}

function follow(run) {
  for (const box of run.querySelectorAll(".output pre")) box.scrollTo(0, box.scrollHeight);
  const source = new EventSource(run.dataset.live);
  source.addEventListener("patch", (event) => patch(JSON.parse(event.data)));
  source.addEventListener("end", () => source.close());
}

showTimes(document);
setInterval(() => showTimes(document), 30000);
const run = document.querySelector("[data-live]");
if (run) follow(run);
