// The page at its start: every room is set up, in order.

import { put, setUpBox } from "./box.js";
import { busy, refresh, send, setUpChat, stop } from "./chat.js";
import { setUpChoices } from "./choices.js";
import { setUpKeeping } from "./keeping.js";
import { setUpMicrophone } from "./microphone.js";
import { setUpRatings } from "./ratings.js";
import { tell, warn } from "./says.js";
import { Problem } from "./stream.js";
import { word } from "./words.js";

function setUpDialogs() {
  for (const button of document.querySelectorAll("[data-open]")) {
    button.addEventListener("click", () => document.getElementById(button.dataset.open).showModal());
  }
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
    });
  }
}

function setUpConnection() {
  window.addEventListener("offline", () => (busy() ? stop(new Problem("offline")) : warn("offline")));
  window.addEventListener("online", () => {
    warn();
    tell("online");
  });
}

setUpDialogs();
setUpConnection();
setUpBox(send);
setUpChat();
setUpMicrophone();
setUpRatings();
setUpChoices((text) => {
  put([text]);
  send();
});
setUpKeeping();
refresh();
word(document);
window.speechSynthesis?.getVoices(); // Asked for once, so that the list is there when it is needed.
