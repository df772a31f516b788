// POST /v1/chat/completions with stream: true, and its server-sent events.
import { toBase64 } from "./audio.js";

// Calls tell with every piece; resolves to { reason, tokens }, or throws what the server said.
export async function streamAnswer(sound, question, { profile, window, key }, signal, tell) {
  const content = [{ type: "input_audio", input_audio: { data: toBase64(sound.bytes), format: sound.format } }];
  if (question) content.push({ type: "text", text: question });
  const mats = {};
  if (profile) mats.profile = profile;
  if (window) mats.window = Number(window);
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  const body = JSON.stringify({ model: "mats", messages: [{ role: "user", content }], stream: true, stream_options: { include_usage: true }, mats });
  const response = await fetch("v1/chat/completions", { method: "POST", headers, body, signal });
  if (!response.ok) throw new Error(await saidBy(response));
  const end = { reason: null, tokens: 0, complete: false };
  for await (const event of events(response.body)) {
    if (event === "[DONE]") { end.complete = true; break; }
    const chunk = JSON.parse(event);
    if (chunk.error) throw new Error(chunk.error.message);
    const choice = chunk.choices[0];
    if (choice?.delta.content) tell(choice.delta.content);
    end.reason = choice?.finish_reason ?? end.reason;
    end.tokens = chunk.usage?.completion_tokens ?? end.tokens;
  }
  if (!end.complete) throw new Error("the answer was broken off; try again");
  return end;
}

async function saidBy(response) {
  const wait = response.headers.get("Retry-After");
  const again = wait ? ` Try again in ${wait} s.` : "";
  try {
    return (await response.json()).error.message + again;
  } catch {
    return `the server said ${response.status}.${again}`;
  }
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      if (text.startsWith("data: ")) yield text.slice(6, end);
    }
  }
}
