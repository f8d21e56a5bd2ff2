// Keeping the conversation in this browser, for those who ask: off until then, and gone once it is switched off.

import { tell } from "./says.js";
import { restore, turns } from "./turns.js";
import { say, settings } from "./words.js";

const PLACE = "mh-support-conversation";
const KEPT = ["role", "content", "kind", "proof", "stopped"];
const choice = document.getElementById("keep");

/** Keep the conversation as it stands, where that was asked for. */
export function keep() {
  if (!choice.checked) return;
  try {
    localStorage.setItem(PLACE, JSON.stringify(turns, KEPT));
  } catch {
    choice.checked = false;
    forget();
    explain("keep_failed");
  }
}

/** Show what was kept, if anything was asked to be. */
export function setUpKeeping() {
  const kept = read();
  choice.checked = kept !== null;
  choice.addEventListener("change", () => {
    explain();
    if (choice.checked) keep();
    else forget();
  });
  // Switched off in another window, it is off in this one too, and what this one wrote meanwhile is gone.
  window.addEventListener("storage", ({ key, newValue }) => {
    if ((key !== PLACE && key !== null) || newValue !== null) return;
    choice.checked = false;
    forget();
  });
  if (!kept?.length) return;
  restore(kept);
  tell("restored");
}

function read() {
  try {
    const kept = JSON.parse(localStorage.getItem(PLACE));
    return Array.isArray(kept) ? kept.filter(isTurn).slice(-settings.max_messages) : null;
  } catch {
    return null;
  }
}

function forget() {
  try {
    localStorage.removeItem(PLACE);
  } catch {
    // A browser that lets the page keep nothing has nothing to forget.
  }
}

function isTurn(one) {
  return ["user", "assistant"].includes(one?.role) && typeof one.content === "string";
}

function explain(key) {
  document.getElementById("keep-status").textContent = key ? say(key) : "";
}
