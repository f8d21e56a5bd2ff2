// The microphone: what is said is written into the text box, to be corrected and sent like any other words.

import { message, put } from "./box.js";
import { tell, warn } from "./says.js";
import { record } from "./voice.js";
import { label, settings } from "./words.js";

const button = document.getElementById("speak");
let recording = null;

/** Whether somebody is speaking, or their words are being written down. */
export const listening = () => recording !== null;

export function setUpMicrophone() {
  button.hidden = !settings.voice || !navigator.mediaDevices || !window.MediaRecorder;
  button.addEventListener("click", speak);
}

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
    await writeDown(await recording.finished);
  } catch (error) {
    tell();
    warn(error instanceof TypeError ? "connection_lost" : "nothing_heard");
  }
  recording = null;
  hearing("speak");
  message.focus();
}

async function writeDown(sound) {
  tell("transcribing");
  const answer = await fetch("voice", { method: "POST", headers: { "Content-Type": "audio/wav" }, body: sound });
  const { text } = answer.ok ? await answer.json() : { text: "" };
  if (text) {
    put([message.value.trim(), text]);
    tell("transcribed");
  } else {
    tell();
    warn(answer.status === 503 ? "busy" : "nothing_heard");
  }
}

function hearing(key) {
  button.setAttribute("aria-pressed", String(key === "stop_speaking"));
  label(button, key);
}
