// Saying again that this is a program, to whoever has been here for long; how often is the server's to say.

import { speakOut } from "./says.js";
import { toEnd } from "./turns.js";
import { make, say, settings } from "./words.js";

let told = Date.now(); // The notice at the top came with the page.

/** A conversation begins, with the notice in sight. */
export function begin() {
  told = Date.now();
}

/** Say it before the next reply, unless it was said lately. */
export function remind() {
  const { seconds, texts } = settings.reminder;
  if (Date.now() - told < seconds * 1000) return;
  told = Date.now();
  const lines = texts.map((key) => make("p", { "data-text": key }, say(key)));
  const turns = document.getElementById("turns");
  turns.append(make("li", { class: "reminder" }, make("div", { role: "note" }, ...lines)));
  speakOut(texts.map((key) => say(key)).join(" "));
  toEnd();
}
