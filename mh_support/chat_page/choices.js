// What a person chooses for themselves: language, country, appearance, and how replies are written.

import { showHelp } from "./help.js";
import { tell, warn } from "./says.js";
import { examples, make, page, say, settings, speakIn } from "./words.js";

const element = (id) => document.getElementById(id);

/** Fill the settings; `begin` is called with an example that was pressed. */
export function setUpChoices(begin) {
  for (const range of document.querySelectorAll("input[type=range]")) {
    const number = document.querySelector(`output[for=${range.id}]`);
    const update = () => (number.value = new Intl.NumberFormat(page.language).format(range.value));
    range.addEventListener("input", update);
    update();
  }
  const languages = Object.entries(settings.languages);
  element("language").append(...languages.map(([code, name]) => make("option", { value: code, lang: code }, name)));
  element("language").value = page.language;
  element("language").addEventListener("change", () => changeLanguage(begin));
  element("country").addEventListener("change", changeCountry);
  element("settings-country").addEventListener("change", changeCountry);
  element("appearance").addEventListener("change", ({ target }) => (document.documentElement.dataset.appearance = target.value));
  inLanguage(begin);
}

async function changeLanguage(begin) {
  try {
    await speakIn(element("language").value);
  } catch {
    element("language").value = page.language;
    return warn("connection_lost");
  }
  inLanguage(begin);
  tell();
}

/** Show what the chosen language changes beside the page's own words. */
function inLanguage(begin) {
  showHelp();
  languageNote();
  listExamples(begin);
}

function languageNote() {
  const english = page.language === "en";
  const key = settings.translated.includes(page.language) ? "translated" : "english_only";
  for (const note of document.querySelectorAll(".language-note")) {
    note.hidden = english;
    note.textContent = english ? "" : say(key);
  }
}

function listExamples(begin) {
  element("examples").replaceChildren(
    ...examples().map((text) => {
      const button = make("button", { type: "button" }, text);
      button.addEventListener("click", () => begin(text));
      return make("li", {}, button);
    }),
  );
}

function changeCountry(event) {
  page.country = event.target.value;
  showHelp();
}
