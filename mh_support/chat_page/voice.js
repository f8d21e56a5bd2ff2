// Speech: a recording as a WAV that the server can read, and replies read aloud by the device itself.

const RATE = 16000; // Samples a second, as speech recognition wants them.

/** Record until `stop` is called or `seconds` have passed; `finished` resolves to a WAV. */
export async function record(seconds) {
  const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
  const recorder = new MediaRecorder(microphone);
  const pieces = [];
  recorder.ondataavailable = (event) => pieces.push(event.data);
  const finished = new Promise((resolve, reject) => {
    recorder.onstop = () => {
      microphone.getTracks().forEach((track) => track.stop());
      new Blob(pieces).arrayBuffer().then(toWav).then(resolve, reject);
    };
  });
  recorder.start();
  const clock = setTimeout(() => stop(), seconds * 1000);
  function stop() {
    clearTimeout(clock);
    if (recorder.state !== "inactive") recorder.stop();
  }
  return { stop, finished };
}

async function toWav(recording) {
  const context = new AudioContext();
  const sound = await context.decodeAudioData(recording);
  context.close();
  const offline = new OfflineAudioContext(1, Math.max(1, Math.ceil(sound.duration * RATE)), RATE);
  const source = offline.createBufferSource();
  source.buffer = sound;
  source.connect(offline.destination);
  source.start();
  return wav((await offline.startRendering()).getChannelData(0));
}

function wav(samples) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const write = (place, text) => [...text].forEach((letter, index) => view.setUint8(place + index, letter.charCodeAt(0)));
  write(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  write(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // one channel
  view.setUint32(24, RATE, true);
  view.setUint32(28, 2 * RATE, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  write(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, index) => view.setInt16(44 + 2 * index, Math.max(-1, Math.min(1, sample)) * 32767, true));
  return view.buffer;
}

/** Read `text` aloud and call `ended` after; return whether there is a voice for it on the device itself. */
export function readAloud(text, language, ended) {
  // A voice that is not local would send the text to somebody else's server.
  const voice = window.speechSynthesis?.getVoices().find((one) => one.localService && one.lang.split(/[-_]/)[0] === language);
  if (!voice) return false;
  const utterance = new SpeechSynthesisUtterance(text);
  utterance.voice = voice;
  utterance.lang = voice.lang;
  utterance.onend = utterance.onerror = ended;
  window.speechSynthesis.cancel();
  window.speechSynthesis.speak(utterance);
  return true;
}

export function stopReading() {
  window.speechSynthesis?.cancel();
}
