// The people who can help, in the chosen country.

import { make, page, say, settings } from "./words.js";

const element = (id) => document.getElementById(id);

/** Fill the help dialog and both lists of countries. */
export function showHelp() {
  const country = settings.help.countries[page.country];
  element("emergency").replaceChildren(emergency(country));
  element("services").replaceChildren(...services(country?.services ?? []));
  element("no-services").hidden = country !== undefined;
  element("directories").replaceChildren(
    ...settings.help.directories.map(({ address }) =>
      make("li", {}, make("a", { href: `https://${address}`, target: "_blank", rel: "noopener noreferrer" }, address)),
    ),
  );
  for (const list of [element("country"), element("settings-country")]) {
    list.replaceChildren(make("option", { value: "" }, say("no_country")), ...countries());
    list.value = page.country;
  }
}

/** Return what a crisis reply shows above its words, the emergency number, and below them, two services for anyone. */
export function nearestHelp() {
  const country = settings.help.countries[page.country];
  const anyone = (country?.services ?? []).filter((service) => service.topic === "anyone");
  return [make("p", { class: "urgent" }, emergency(country)), make("ul", { class: "services" }, ...services(anyone.slice(0, 2)))];
}

function emergency(country) {
  if (!country) return make("span", {}, say("help_emergency", { number: say("emergency_words") }));
  const [before, after] = say("help_emergency").split("{number}");
  const numbers = country.emergency.split(" or ").flatMap((number, index) => [
    ...(index ? [" / "] : []),
    make("a", { class: "call urgent", href: tel(number), dir: "ltr" }, number),
  ]);
  return make("span", {}, before, ...numbers, after);
}

function services(all) {
  return all.map((service) => {
    const about = [
      ...(service.free ? [say("free")] : []),
      service.hours ?? say("any_hour"),
      ...(service.topic === "abuse" ? [say("for_abuse")] : []),
    ];
    return make(
      "li",
      {},
      make("span", { class: "name" }, make("bdi", {}, service.name), make("span", { class: "small" }, about.join(" \u00b7 "))),
      make("span", { class: "reach" }, ...service.how.map((way) => reach(service, way))),
    );
  });
}

function reach(service, way) {
  const words = { number: `\u2066${service.number}\u2069`, word: service.keyword };
  if (way === "call") return make("a", { class: "call", href: tel(service.number) }, say("call", words));
  const said = service.keyword ? say("text_word", words) : say("text", words);
  const body = service.keyword ? `?&body=${encodeURIComponent(service.keyword)}` : "";
  return make("a", { class: "call", href: `sms:${digits(service.number)}${body}` }, said);
}

function countries() {
  const names = new Intl.DisplayNames([page.language, "en"], { type: "region" });
  return Object.keys(settings.help.countries)
    .map((code) => [names.of(code), code])
    .sort(([one], [other]) => one.localeCompare(other, page.language))
    .map(([name, code]) => make("option", { value: code }, name));
}

const digits = (number) => number.replace(/[^\d+*#]/g, "");
const tel = (number) => `tel:${digits(number)}`;
