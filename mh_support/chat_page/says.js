// What is said about what happened: in passing, as a warning, or for a screen reader alone.

import { say } from "./words.js";

const element = (id) => document.getElementById(id);

/** Say something in passing, or nothing. */
export function tell(key, values) {
  element("status").textContent = key ? say(key, values) : "";
}

/** Say what went wrong, at once and until the next try. */
export function warn(key, values) {
  element("problem").textContent = key ? say(key, values) : "";
}

/** Let a screen reader say a whole text once, instead of every piece of it. */
export function speakOut(text) {
  element("spoken").textContent = text;
}
