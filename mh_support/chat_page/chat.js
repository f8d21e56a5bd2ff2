// The chat: what is sent, what comes back, and what can be done with it.

import { message, put } from "./box.js";
import { keep } from "./keeping.js";
import { listening } from "./microphone.js";
import { prefer } from "./ratings.js";
import { begin, remind } from "./reminder.js";
import { speakOut, tell, warn } from "./says.js";
import { crisisIn, Problem, streamReply } from "./stream.js";
import { finish, grow, plain, show, toEnd, turns } from "./turns.js";
import { stopReading } from "./voice.js";
import { make, page, say, settings } from "./words.js";

const element = (id) => document.getElementById(id);
let writing = null; // What stops the reply that is being written.
let second = null; // The other reply to choose from.

/** Set every button to what can be done now, and keep the conversation where that was asked for. */
export function refresh() {
  const last = turns.at(-1);
  const busy = writing !== null;
  element("welcome").hidden = turns.length > 0;
  element("actions").hidden = turns.length === 0;
  element("send").hidden = busy;
  element("stop").hidden = !busy;
  element("pair").hidden = second === null;
  const repeatable = !busy && second === null && last && last.kind !== "crisis";
  element("retry").disabled = !repeatable;
  element("compare").disabled = !repeatable || last.role === "user" || last.stopped;
  element("undo").disabled = busy || second !== null;
  element("clear").disabled = busy;
  keep();
}

/** Stream a reply to `said` into `turn`; return whether all of it came. */
async function write(said, turn) {
  writing = new AbortController();
  refresh();
  tell("writing");
  warn();
  const asked = [
    plain(said),
    Number(element("temperature").value),
    Number(element("length").value),
    page.country,
    page.language,
  ];
  let whole = true;
  try {
    for await (const update of streamReply(settings.function, asked, writing.signal)) {
      if ("waiting" in update) {
        tell(update.waiting > 0 ? "waiting" : "writing", { count: update.waiting });
      } else {
        Object.assign(turn, { kind: update.kind, content: update.text, proof: update.proof });
        grow(turn);
      }
    }
    if (!turn.content) throw new Problem("failed");
  } catch (error) {
    whole = false;
    if (error.name !== "AbortError") warn(error.key ?? "failed");
  }
  writing = null;
  tell();
  return whole;
}

/** Write a reply to the conversation as it stands; `before` is the reply that it takes the place of. */
async function reply(before = null) {
  const turn = { role: "assistant", content: "", kind: "model", proof: "", stopped: false };
  const said = [...turns];
  remind();
  show(turn);
  turn.shown.classList.add("pending");
  before?.shown.remove();
  turn.stopped = !(await write(said, turn));
  if (turn.content) {
    turns.push(turn);
    finish(turn);
  } else {
    turn.shown.remove();
    if (before) {
      turns.push(before);
      element("turns").append(before.shown);
    }
  }
  refresh();
}

/** Send what stands in the text box. */
export async function send() {
  const content = message.value.trim();
  if (!content || writing || listening()) return;
  if (content.length > settings.max_characters) {
    return beyond(content, "too_long", { count: content.length, most: settings.max_characters });
  }
  if (turns.length >= settings.max_messages) return beyond(content, "conversation_full");
  second = null;
  put([]);
  const turn = { role: "user", content };
  turns.push(turn);
  show(turn);
  await reply();
}

/** Say why there is no reply to what was written, which stays in the box; whoever is in danger meets people who can help. */
async function beyond(content, ...why) {
  warn(...why);
  writing = new AbortController();
  refresh();
  const said = { role: "user", content };
  const urgent = await crisisIn(plain([...turns, said]), page.country, page.language, writing.signal).catch(() => null);
  writing = null;
  if (urgent) {
    const half = settings.max_characters / 2;
    if (content.length > 2 * half) said.content = `${content.slice(0, half - 1)}\u2026\n${content.slice(-half + 1)}`;
    const turn = { role: "assistant", content: urgent.text, kind: urgent.kind, proof: "", stopped: false };
    turns.push(said, turn);
    show(said);
    show(turn);
    finish(turn);
  }
  refresh();
}

/** Stop the reply that is being written; `reason` says why, where the person did not ask for it. */
export function stop(reason) {
  writing?.abort(reason);
}

export const busy = () => writing !== null;

async function retry() {
  const before = turns.at(-1)?.role === "assistant" ? turns.pop() : null;
  await reply(before);
}

/** Get a second reply beside the last one, to choose between them. */
async function compare() {
  const first = turns.at(-1);
  const said = turns.slice(0, -1);
  const other = { role: "assistant", content: "", kind: "model", proof: "" };
  const cards = [first, other].map((one, index) => card(one, index, () => choose(one, one === first ? other : first, said)));
  other.shown = cards[1];
  second = other;
  remind();
  element("pair").querySelector(".cards").replaceChildren(...cards);
  refresh();
  toEnd();
  const whole = await write(said, other);
  if (!whole || other.content === first.content) {
    second = null;
    if (whole) tell("same_reply");
  } else {
    speakOut(`${say("choose_title")} ${say("reply_number", { number: 2 })}: ${other.content}`);
    for (const one of cards) one.querySelector("button").disabled = false;
    cards[0].querySelector("button").focus();
  }
  refresh();
  toEnd();
}

function card(one, index, chosen) {
  const words = make("div", { class: "words", dir: "auto" }, one.content);
  const button = make("button", { type: "button", class: "second", "data-text": "choose" }, say("choose"));
  button.disabled = true;
  button.addEventListener("click", chosen);
  return make("div", { class: "card" }, make("h3", {}, say("reply_number", { number: index + 1 })), words, button);
}

function choose(chosen, rejected, said) {
  const before = turns.pop();
  before.shown.remove();
  const turn = { ...chosen };
  second = null;
  turns.push(turn);
  show(turn);
  finish(turn);
  refresh();
  message.focus();
  prefer(plain(said), chosen, rejected, tell);
}

function undo() {
  if (turns.at(-1)?.role === "assistant") turns.pop().shown.remove();
  const taken = turns.pop();
  taken?.shown.remove();
  if (taken) {
    put([taken.content, message.value], "\n");
    tell("undone");
  }
  warn();
  refresh();
  message.focus();
}

function clear() {
  turns.length = 0;
  element("turns").replaceChildren();
  second = null;
  stopReading();
  element("pair").querySelector(".cards").replaceChildren();
  speakOut("");
  warn();
  tell("cleared");
  begin();
  refresh();
  message.focus();
}

export function setUpChat() {
  for (const [id, action] of Object.entries({ retry, compare, undo, clear })) {
    element(id).addEventListener("click", action);
  }
  element("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  element("stop").addEventListener("click", () => {
    stop();
    message.focus();
  });
}
