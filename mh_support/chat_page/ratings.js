// Ratings: nothing is sent before a person agrees, and the code that deletes them is known to this page alone.

import { post } from "./stream.js";
import { label, say, settings, word } from "./words.js";

const element = (id) => document.getElementById(id);
const copied = (id) => word(element(id).content.cloneNode(true).firstElementChild ?? element(id));
let code = null;

/** Whether the person has agreed, on this page, since it was loaded. */
export const agreed = () => code !== null && element("consent").checked;

export function setUpRatings() {
  if (!settings.consent) return;
  element("consent").addEventListener("change", change);
  element("delete").addEventListener("submit", remove);
}

/** Open a small form under a reply to say why; send the rating when it is sent. */
export function rate(turn, button, up, messages, reply, tell) {
  if (!agreed()) {
    element("feedback").showModal();
    return;
  }
  turn.querySelector(".rating")?.remove();
  const form = copied("rating");
  const end = () => {
    form.remove();
    button.focus();
  };
  form.querySelector("[data-skip]").addEventListener("click", end);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const reason = form.querySelector("textarea").value.trim() || null;
    const kept = await send("thumb", { messages, reply: reply.content, proof: reply.proof, up, reason });
    if (kept) {
      for (const one of turn.querySelectorAll("[data-tool=good], [data-tool=poor]")) one.disabled = true;
      button.setAttribute("aria-pressed", "true");
    }
    tell(kept ? "rated" : "not_rated");
    end();
  });
  turn.append(form);
  form.querySelector("textarea").focus();
}

/** Keep which of two replies was chosen, of those who agreed. */
export async function prefer(messages, chosen, rejected, tell) {
  if (!agreed() || !chosen.proof || !rejected.proof) return;
  const asked = { chosen: chosen.content, rejected: rejected.content, proofs: [chosen.proof, rejected.proof] };
  tell((await send("choice", { messages, ...asked, reason: null })) ? "rated" : "not_rated");
}

async function send(kind, asked) {
  try {
    const answer = await post(`ratings/${kind}`, { code, consent: settings.consent, ...asked });
    return answer.ok && (await answer.json()).kept;
  } catch {
    return false;
  }
}

async function change() {
  const consent = element("consent");
  element("feedback-status").textContent = consent.checked ? "" : say("withdrawn");
  if (consent.checked && code === null) {
    try {
      code = (await (await post("ratings/code", {})).json()).code;
    } catch {
      consent.checked = false;
      element("feedback-status").textContent = say("connection_lost");
      return;
    }
    element("new-code").textContent = element("code").value = code;
  }
  element("code-shown").hidden = code === null;
}

async function remove(event) {
  event.preventDefault();
  try {
    const answer = await post("ratings/delete", { code: element("code").value.trim() });
    const count = answer.ok ? (await answer.json()).deleted : 0;
    element("feedback-status").textContent = count ? say("deleted", { count }) : say("unknown_code");
  } catch {
    element("feedback-status").textContent = say("connection_lost");
  }
}

/** Show or hide the thumbs of a reply: only one that came whole from the model can be rated. */
export function showThumbs(turn, reply) {
  for (const one of turn.querySelectorAll("[data-tool=good], [data-tool=poor]")) {
    one.hidden = !settings.consent || !reply.proof;
    label(one, one.dataset.label);
  }
}
