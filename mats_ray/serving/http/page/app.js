// The page: a sound, a question, an answer as it comes. No library, no build, no other host.
import { decode, toWav } from "./audio.js";
import { drawSpectrogram, drawWaveform } from "./draw.js";
import { streamAnswer } from "./stream.js";

const $ = (id) => document.getElementById(id);
const EXAMPLES = { "a dog": "dog.ogg", "rain, then a bell": "rain-then-bell.ogg", "a siren and a dog": "siren-and-dog.ogg" };
let sound = null; // { bytes, format, name }
let running = null; // AbortController of the answer under way

function problem(text) { $("problem").textContent = text; }

async function take(bytes, name, format) {
  problem("");
  let decoded = null;
  try {
    decoded = await decode(bytes);
  } catch {
    problem(`This browser cannot show ${name}; the server may be able to read it all the same.`);
  }
  // what only a browser reads (a recording in WebM, say) goes out as WAV
  if (format === null) {
    if (!decoded) { problem(`${name} cannot be read.`); return; }
    bytes = toWav(decoded.samples, decoded.rate);
    format = "wav";
  }
  sound = { bytes, format, name };
  $("ask").disabled = false;
  show(decoded, name, bytes);
}

function show(decoded, name, bytes) {
  $("heard").hidden = false;
  $("name").textContent = name;
  if ($("player").src) URL.revokeObjectURL($("player").src);
  $("player").src = URL.createObjectURL(new Blob([bytes]));
  for (const id of ["wave", "spectrum"]) $(id).hidden = decoded === null;
  if (!decoded) return;
  const seconds = decoded.samples.length / decoded.rate;
  const loudest = drawWaveform($("wave"), decoded.samples);
  const top = drawSpectrogram($("spectrum"), decoded.samples, decoded.rate);
  $("wave").setAttribute("aria-label", `Waveform of ${name}: ${seconds.toFixed(1)} seconds, loudest at ${(loudest * seconds).toFixed(1)} seconds`);
  $("spectrum").setAttribute("aria-label", `Spectrogram of ${name}: 0 to ${Math.round(top / 1000)} kilohertz over ${seconds.toFixed(1)} seconds`);
  $("spectrum-range").textContent = `0 to ${Math.round(top / 1000)} kHz`;
  $("length").textContent = `${seconds.toFixed(1)} s`;
}

function formatOf(name) {
  const end = name.toLowerCase().split(".").pop();
  return { wave: "wav", oga: "ogg", mp4: "m4a", aif: "aiff" }[end] ?? (["wav", "mp3", "flac", "ogg", "opus", "m4a", "aac", "aiff"].includes(end) ? end : null);
}

async function takeFile(file) {
  if (file) await take(await file.arrayBuffer(), file.name, formatOf(file.name));
}

$("file").addEventListener("change", () => takeFile($("file").files[0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") takeFile(event.dataTransfer.files[0]);
  });
}

for (const [title, file] of Object.entries(EXAMPLES)) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = title;
  button.addEventListener("click", async () => {
    const response = await fetch(`page/examples/${file}`);
    await take(await response.arrayBuffer(), file, "ogg");
  });
  $("examples").append(button);
}

let recorder = null;
$("record").addEventListener("click", async () => {
  if (recorder) { recorder.stop(); return; }
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    const chunks = [];
    recorder = new MediaRecorder(stream);
    recorder.addEventListener("dataavailable", (event) => chunks.push(event.data));
    recorder.addEventListener("stop", async () => {
      recorder = null;
      stream.getTracks().forEach((track) => track.stop());
      $("record").setAttribute("aria-pressed", "false");
      $("record").textContent = "Record";
      await take(await new Blob(chunks).arrayBuffer(), "recording", null);
    });
    recorder.start();
    $("record").setAttribute("aria-pressed", "true");
    $("record").textContent = "Stop";
  } catch (error) {
    recorder = null;
    problem(`Nothing can be recorded here: ${error.message ?? error}`);
  }
});

$("key").value = sessionStorage.getItem("key") ?? "";
$("key").addEventListener("change", () => { sessionStorage.setItem("key", $("key").value); whoAnswers(); });

$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!sound) return;
  running?.abort();
  const mine = (running = new AbortController());
  problem("");
  $("answer").textContent = "";
  $("took").textContent = "";
  $("answer").setAttribute("aria-busy", "true");
  const started = performance.now();
  try {
    const choices = { profile: $("profile").value, window: $("window").value, key: $("key").value };
    const end = await streamAnswer(sound, $("question").value.trim(), choices, mine.signal, (text) => {
      $("answer").textContent += text;
    });
    const seconds = ((performance.now() - started) / 1000).toFixed(2);
    const cut = end.reason === "length" ? ", cut at its longest" : "";
    $("took").textContent = `${end.tokens} tokens in ${seconds} s${cut}`;
  } catch (error) {
    if (error.name !== "AbortError") problem(error.message);
  } finally {
    if (running === mine) $("answer").setAttribute("aria-busy", "false");
  }
});

async function whoAnswers() {
  const headers = $("key").value ? { Authorization: `Bearer ${$("key").value}` } : {};
  try {
    const response = await fetch("v1/models", { headers });
    const body = await response.json();
    $("model").textContent = response.ok ? body.data[0].id : "A model";
    problem(response.status === 401 ? "This server wants an API key: see Options." : "");
  } catch {
    $("model").textContent = "A model";
  }
}
whoAnswers();
