// The page's words in the chosen language. What the server knows and the first language's words came with the page.

const read = (id) => JSON.parse(document.getElementById(id).textContent);

export const settings = read("settings-data");
const known = { [document.documentElement.lang]: read("texts-data") };
export const page = { language: document.documentElement.lang, country: settings.country ?? "" };

/** Return a text, `{names}` in it filled in. */
export function say(key, values = {}) {
  return known[page.language][key].replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

export const examples = () => known[page.language].example_texts;

/** Write the words of the chosen language into everything under `root` that names one. */
export function word(root) {
  for (const one of root.querySelectorAll("[data-text]")) one.textContent = say(one.dataset.text);
  for (const one of root.querySelectorAll("[data-label]")) label(one, one.dataset.label);
  for (const one of root.querySelectorAll("[data-hint]")) one.title = say(one.dataset.hint);
  for (const one of root.querySelectorAll("[data-placeholder]")) one.placeholder = say(one.dataset.placeholder);
  return root;
}

/** Give a button without words of its own a name, which is also shown when it is pointed at. */
export function label(one, key) {
  one.dataset.label = key;
  one.setAttribute("aria-label", say(key));
  if (one.matches("button")) one.title = say(key);
}

/** Change the language of the page; the words are fetched the first time. */
export async function speakIn(language) {
  if (!(language in known)) {
    const answer = await fetch(`page/texts/${language}`);
    if (!answer.ok) throw new Error(`no texts for ${language}`);
    known[language] = await answer.json();
  }
  page.language = language;
  document.documentElement.lang = language;
  document.documentElement.dir = known[language].direction;
  document.title = say("title");
  word(document);
}

/** Return a new element with attributes and contents. */
export function make(name, attributes = {}, ...contents) {
  const one = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
  one.append(...contents);
  return one;
}
