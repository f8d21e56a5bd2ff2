// The chat: what is written and shown. The conversation lives here and nowhere else.

import { nearestHelp, showHelp } from "./help.js";
import { prefer, rate, setUp, showThumbs } from "./ratings.js";
import { Problem, streamReply } from "./stream.js";
import { readAloud, record, stopReading } from "./voice.js";
import { examples, label, make, page, say, settings, speakIn, word } from "./words.js";

const element = (id) => document.getElementById(id);
const message = element("message");
const conversation = element("conversation");
const turns = []; // {role, content, kind, proof, stopped, shown}; `shown` is the turn's element.
let writing = null; // What stops the reply that is being written.
let second = null; // The other reply to choose from.
let recording = null;

// What is said about what happened

/** Say something in passing, or nothing. */
function tell(key, values) {
  element("status").textContent = key ? say(key, values) : "";
}

/** Say what went wrong, at once and until the next try. */
function warn(key, values) {
  element("problem").textContent = key ? say(key, values) : "";
}

/** Let a screen reader say a whole reply once, instead of every piece of it. */
function speakOut(text) {
  element("spoken").textContent = text;
}

// What is shown

function toEnd() {
  conversation.scrollTop = conversation.scrollHeight;
}

function show(turn) {
  const words = make("div", { class: "words", dir: "auto" });
  const who = make("p", { class: "who", "data-text": turn.role === "user" ? "you" : "program" });
  turn.shown = word(make("li", { class: `turn ${turn.role}` }, who, words));
  words.textContent = turn.content;
  element("turns").append(turn.shown);
  toEnd();
}

/** Show what has come of a reply so far. */
function grow(turn) {
  const near = conversation.scrollHeight - conversation.scrollTop - conversation.clientHeight < 160;
  turn.shown.querySelector(".words").textContent = turn.content;
  if (near) toEnd();
}

/** Show a reply as whole, or stopped. */
function finish(turn) {
  turn.shown.classList.remove("pending");
  if (turn.kind === "crisis") showCrisis(turn);
  if (turn.stopped) turn.shown.append(make("p", { class: "mark", "data-text": "stopped" }, say("stopped")));
  const tools = word(element("tools").content.cloneNode(true));
  for (const tool of tools.querySelectorAll("button")) tool.addEventListener("click", () => use(tool, turn));
  turn.shown.append(tools);
  showThumbs(turn.shown, turn);
  turn.shown.querySelector("[data-tool=read]").hidden = !window.speechSynthesis;
  if (turn.kind === "crisis") {
    turn.shown.scrollIntoView({ block: "start" });
  } else {
    speakOut(`${say("program")}: ${turn.content}`);
    toEnd();
  }
}

function showCrisis(turn) {
  const everyone = make("button", { type: "button", class: "second", "data-text": "show_help" }, say("show_help"));
  everyone.addEventListener("click", () => element("help").showModal());
  turn.shown.classList.add("crisis");
  const [urgent, services] = nearestHelp();
  const words = make("div", { class: "words", dir: "auto" }, turn.content);
  const heading = make("h2", { "data-text": "crisis_label" }, say("crisis_label"));
  turn.shown.querySelector(".words").replaceWith(make("div", { role: "alert" }, heading, urgent, words));
  turn.shown.append(services, make("p", { class: "more" }, everyone));
}

/** Set every button to what can be done now. */
function refresh() {
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
}

// A reply

/** Stream a reply to `said` into `turn`; return whether all of it came. */
async function write(said, turn) {
  writing = new AbortController();
  refresh();
  tell("writing");
  warn();
  const asked = [
    said.map(({ role, content }) => ({ role, content })),
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

async function send() {
  const content = message.value.trim();
  if (!content || writing || recording) return;
  if (content.length > settings.max_characters) {
    warn("too_long", { count: content.length, most: settings.max_characters });
    return;
  }
  if (turns.length >= settings.max_messages) {
    warn("conversation_full");
    return;
  }
  second = null;
  message.value = "";
  fit();
  const turn = { role: "user", content };
  turns.push(turn);
  show(turn);
  await reply();
}

async function retry() {
  const before = turns.at(-1)?.role === "assistant" ? turns.pop() : null;
  await reply(before);
}

/** Get a second reply beside the last one, to choose between them. */
async function compare() {
  const first = turns.at(-1);
  const said = turns.slice(0, -1);
  const other = { role: "assistant", content: "", kind: "model", proof: "" };
  const cards = [first, other].map((one, index) => {
    const words = make("div", { class: "words", dir: "auto" }, one.content);
    const button = make("button", { type: "button", class: "second", "data-text": "choose" }, say("choose"));
    button.disabled = true;
    button.addEventListener("click", () => choose(one, one === first ? other : first, said));
    return make("div", { class: "card" }, make("h3", {}, say("reply_number", { number: index + 1 })), words, button);
  });
  other.shown = cards[1];
  second = other;
  element("pair").querySelector(".cards").replaceChildren(...cards);
  refresh();
  toEnd();
  const whole = await write(said, other);
  if (!whole || other.content === first.content) {
    second = null;
    if (whole) tell("same_reply");
  } else {
    speakOut(`${say("choose_title")} ${say("reply_number", { number: 2 })}: ${other.content}`);
    for (const card of cards) card.querySelector("button").disabled = false;
    cards[0].querySelector("button").focus();
  }
  refresh();
  toEnd();
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

const plain = (said) => said.map(({ role, content }) => ({ role, content }));

function undo() {
  if (turns.at(-1)?.role === "assistant") turns.pop().shown.remove();
  const taken = turns.pop();
  taken?.shown.remove();
  if (taken) {
    message.value = [taken.content, message.value].filter(Boolean).join("\n");
    tell("undone");
    fit();
  }
  warn();
  refresh();
  message.focus();
}

function clear() {
  for (const turn of turns.splice(0)) turn.shown.remove();
  second = null;
  stopReading();
  element("pair").querySelector(".cards").replaceChildren();
  speakOut("");
  warn();
  tell("cleared");
  refresh();
  message.focus();
}

/** One of a reply's own buttons was pressed. */
function use(tool, turn) {
  if (tool.dataset.tool === "read") {
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
    return label(tool, "stop_reading");
  }
  rate(turn.shown, tool, tool.dataset.tool === "good", plain(turns.slice(0, turns.indexOf(turn))), turn, tell);
}

// The microphone

async function speak() {
  if (recording) return recording.stop();
  warn();
  try {
    recording = await record(settings.max_seconds);
  } catch {
    return warn("no_microphone");
  }
  hearing("stop_speaking");
  tell("recording", { count: settings.max_seconds });
  try {
    const sound = await recording.finished;
    tell("transcribing");
    const answer = await fetch("voice", { method: "POST", headers: { "Content-Type": "audio/wav" }, body: sound });
    const { text } = answer.ok ? await answer.json() : { text: "" };
    if (answer.status === 503) {
      tell();
      warn("busy");
    } else if (text) {
      message.value = [message.value.trim(), text].filter(Boolean).join(" ");
      fit();
      tell("transcribed");
    } else {
      tell();
      warn("nothing_heard");
    }
  } catch (error) {
    tell();
    warn(error instanceof TypeError ? "connection_lost" : "nothing_heard");
  }
  recording = null;
  hearing("speak");
  message.focus();
}

function hearing(key) {
  element("speak").setAttribute("aria-pressed", String(key === "stop_speaking"));
  label(element("speak"), key);
}

// Settings

function languageNote() {
  const english = page.language === "en";
  const key = settings.translated.includes(page.language) ? "translated" : "english_only";
  for (const note of document.querySelectorAll(".language-note")) {
    note.hidden = english;
    note.textContent = english ? "" : say(key);
  }
}

function listExamples() {
  element("examples").replaceChildren(
    ...examples().map((text) => {
      const button = make("button", { type: "button" }, text);
      button.addEventListener("click", () => {
        message.value = text;
        send();
      });
      return make("li", {}, button);
    }),
  );
}

async function changeLanguage() {
  try {
    await speakIn(element("language").value);
  } catch {
    element("language").value = page.language;
    return warn("connection_lost");
  }
  showHelp();
  languageNote();
  listExamples();
  tell();
}

function changeCountry(event) {
  page.country = event.target.value;
  showHelp();
}

/** Let the text box grow with what is written, where the browser does not do so by itself. */
function fit() {
  if (CSS.supports("field-sizing", "content")) return;
  message.style.height = "auto";
  message.style.height = `${message.scrollHeight + 2}px`;
}

function sendOnEnter(event) {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
}

function start() {
  for (const button of document.querySelectorAll("[data-open]")) {
    button.addEventListener("click", () => element(button.dataset.open).showModal());
  }
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
    });
  }
  for (const range of document.querySelectorAll("input[type=range]")) {
    const number = document.querySelector(`output[for=${range.id}]`);
    const update = () => (number.value = new Intl.NumberFormat(page.language).format(range.value));
    range.addEventListener("input", update);
    update();
  }
  const languages = Object.entries(settings.languages);
  element("language").append(...languages.map(([code, name]) => make("option", { value: code, lang: code }, name)));
  element("language").value = page.language;
  element("language").addEventListener("change", changeLanguage);
  element("country").addEventListener("change", changeCountry);
  element("settings-country").addEventListener("change", changeCountry);
  element("appearance").addEventListener("change", (event) => (document.documentElement.dataset.appearance = event.target.value));
  element("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  message.addEventListener("keydown", sendOnEnter);
  message.addEventListener("input", fit);
  for (const [id, action] of Object.entries({ retry, compare, undo, clear, speak })) {
    element(id).addEventListener("click", action);
  }
  element("stop").addEventListener("click", () => {
    writing?.abort();
    message.focus();
  });
  element("speak").hidden = !settings.voice || !navigator.mediaDevices || !window.MediaRecorder;
  window.addEventListener("offline", () => (writing ? writing.abort(new Problem("offline")) : warn("offline")));
  window.addEventListener("online", () => {
    warn();
    tell("online");
  });
  window.speechSynthesis?.getVoices(); // Asked for once, so that the list is there when it is needed.
  setUp();
  showHelp();
  languageNote();
  listExamples();
  refresh();
  word(document);
}

start();
