// A reply through Gradio's queue, piece by piece.

const SILENCE = 45000; // Milliseconds; the server gives a sign of life every 15 seconds.

/** What went wrong, by the key of the text that says so. */
export class Problem extends Error {
  constructor(key) {
    super(key);
    this.key = key;
  }
}

/** Return what a crisis is answered with, past the queue; null where none is seen, or there is nobody to ask. */
export async function crisisIn(messages, country, language, signal) {
  const answer = await post("crisis", { messages, country, language }, signal);
  const found = answer.ok ? await answer.json() : {};
  return found.kind === "crisis" ? found : null;
}

/** Yield `{waiting}` while others are served, then `{kind, text, proof}` as the reply grows; a crisis does not wait. */
export async function* streamReply(chat, data, signal) {
  const [messages, , , country, language] = data;
  const urgent = await crisisIn(messages, country, language, signal);
  if (urgent) {
    yield urgent;
    return;
  }
  const session = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const event = await join(chat, data, session, signal);
  let finished = false;
  try {
    const answer = await reached(fetch(`gradio_api/queue/data?session_hash=${session}`, { signal }));
    if (!answer.ok) throw new Problem("connection_lost");
    let value = null;
    for await (const message of events(answer.body)) {
      if (message.msg === "estimation") yield { waiting: message.rank };
      if (message.msg === "process_starts") yield { waiting: 0 };
      if (message.msg === "process_generating") {
        if (!message.success) throw new Problem("failed");
        value = patched(value, message.output.data[0]);
        yield value;
      }
      if (message.msg === "process_completed") {
        finished = true;
        if (!message.success) throw new Problem("failed");
        return;
      }
      if (message.msg === "unexpected_error" || message.msg === "server_stopped") throw new Problem("connection_lost");
    }
    throw new Problem("connection_lost");
  } finally {
    // Whoever stops reading stops the model too.
    if (!finished) post("gradio_api/cancel", { session_hash: session, fn_index: chat, event_id: event }).catch(() => {});
  }
}

/** Post JSON; a server that cannot be reached is a Problem. */
export function post(address, body, signal) {
  const headers = { "Content-Type": "application/json" };
  return reached(fetch(address, { method: "POST", headers, body: JSON.stringify(body), signal, keepalive: !signal }));
}

async function join(chat, data, session, signal) {
  const answer = await post("gradio_api/queue/join", { data, fn_index: chat, session_hash: session }, signal);
  if (answer.status === 503) throw new Problem("busy");
  if (!answer.ok) throw new Problem("failed");
  return (await answer.json()).event_id;
}

async function reached(request) {
  try {
    return await request;
  } catch (error) {
    throw error.name === "AbortError" || error instanceof Problem ? error : new Problem("connection_lost");
  }
}

/** Yield the messages of a stream of server-sent events. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { done, value } = await sooner(reader.read());
      if (done) return;
      const parts = (held + value).split("\n\n");
      held = parts.pop();
      for (const part of parts) if (part.startsWith("data: ")) yield JSON.parse(part.slice(6));
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function sooner(reading) {
  let clock;
  const silence = new Promise((_, reject) => {
    clock = setTimeout(() => reject(new Problem("connection_lost")), SILENCE);
  });
  try {
    return await reached(Promise.race([reading, silence]));
  } finally {
    clearTimeout(clock);
  }
}

/** Gradio sends the first value whole, then the changes to it: the fields here are texts that grow or are replaced. */
function patched(value, update) {
  if (value === null || !Array.isArray(update)) return update;
  const next = { ...value };
  for (const [change, [field], text] of update) next[field] = change === "append" ? next[field] + text : text;
  return next;
}
