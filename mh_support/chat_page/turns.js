// The conversation as it stands, and how each turn of it is shown. It lives here; keeping.js keeps it for those who ask.

import { nearestHelp } from "./help.js";
import { rate, showThumbs } from "./ratings.js";
import { speakOut, tell } from "./says.js";
import { readAloud, stopReading } from "./voice.js";
import { label, make, page, say, settings, word } from "./words.js";

const element = (id) => document.getElementById(id);
const conversation = element("conversation");

export const turns = []; // {role, content, kind, proof, stopped, shown}; `shown` is the turn's element.

/** Return turns as the server takes them. */
export const plain = (said) => said.map(({ role, content }) => ({ role, content }));

export function toEnd() {
  conversation.scrollTop = conversation.scrollHeight;
}

/** Show a turn at the end. */
export function show(turn) {
  const words = make("div", { class: "words", dir: "auto" });
  const who = make("p", { class: "who", "data-text": turn.role === "user" ? "you" : "program" });
  turn.shown = word(make("li", { class: `turn ${turn.role}` }, who, words));
  words.textContent = turn.content;
  element("turns").append(turn.shown);
  toEnd();
}

/** Show what has come of a reply so far. */
export function grow(turn) {
  const near = conversation.scrollHeight - conversation.scrollTop - conversation.clientHeight < 160;
  turn.shown.querySelector(".words").textContent = turn.content;
  if (near) toEnd();
}

/** Show a reply as whole, or stopped, and let it be heard. */
export function finish(turn) {
  complete(turn, "alert");
  if (turn.kind === "crisis") {
    turn.shown.scrollIntoView({ block: "start" });
  } else {
    speakOut(`${say("program")}: ${turn.content}`);
    toEnd();
  }
}

/** Show turns that were kept, without a sound. */
export function restore(kept) {
  for (const turn of kept) {
    turns.push(turn);
    show(turn);
    if (turn.role === "assistant") complete(turn, "group");
  }
  toEnd();
}

/** Add to a reply what stands around its words. */
function complete(turn, crisisRole) {
  turn.shown.classList.remove("pending");
  if (turn.kind === "crisis") showCrisis(turn, crisisRole);
  if (turn.stopped) turn.shown.append(make("p", { class: "mark", "data-text": "stopped" }, say("stopped")));
  const tools = word(element("tools").content.cloneNode(true));
  for (const tool of tools.querySelectorAll("button")) tool.addEventListener("click", () => use(tool, turn));
  turn.shown.append(tools);
  showThumbs(turn.shown, turn);
  turn.shown.querySelector("[data-tool=read]").hidden = !window.speechSynthesis;
}

function showCrisis(turn, role) {
  const everyone = make("button", { type: "button", class: "second", "data-text": "show_help" }, say("show_help"));
  everyone.addEventListener("click", () => element("help").showModal());
  turn.shown.classList.add("crisis");
  const [urgent, services] = nearestHelp();
  const words = make("div", { class: "words", dir: "auto" }, turn.content);
  const heading = make("h2", { "data-text": "crisis_label" }, say("crisis_label"));
  turn.shown.querySelector(".words").replaceWith(make("div", { role }, heading, urgent, words));
  turn.shown.append(services, make("p", { class: "more" }, everyone));
}

/** One of a reply's own buttons was pressed. */
function use(tool, turn) {
  if (tool.dataset.tool === "read") {
    listen(tool, turn);
  } else {
    rate(turn.shown, tool, tool.dataset.tool === "good", plain(turns.slice(0, turns.indexOf(turn))), turn, tell);
  }
}

function listen(tool, turn) {
  const reading = tool.getAttribute("aria-pressed") === "true";
  const done = () => {
    tool.setAttribute("aria-pressed", "false");
    label(tool, "read_aloud");
  };
  stopReading();
  if (reading) return done();
  const spoken = settings.translated.includes(page.language) || turn.kind === "crisis" ? page.language : "en";
  if (!readAloud(turn.content, spoken, done)) return tell("no_voice");
  tool.setAttribute("aria-pressed", "true");
  label(tool, "stop_reading");
}
