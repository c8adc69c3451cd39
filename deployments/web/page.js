// Asks the API on this origin and shows what comes. Everything from outside is set as text, never as markup.

const $ = (id) => document.getElementById(id);
const EXAMPLES = [
  { text: "What is the capital of Peru?" },
  { text: "Which currency do people use in Kenya?" },
  { text: "What do they pay with here?", picture: "flag of Japan", of: "Japan" },
  { text: "", task: "caption", picture: "balloon", of: "balloon" },
  { text: "Which continent is this?", task: "classify", picture: "flag of Norway", of: "Norway" },
];

let picture = null; // the Blob that is asked with
let running = null; // AbortController of the question in flight
let pictureUrls = [];

// --- asking ------------------------------------------------------------------------------------------------------

async function ask() {
  const text = $("text").value.trim();
  const sent = picture;
  running?.abort();
  if (!text && !sent) {
    $("text").focus();
    return refuse("Enter a question, or add a picture: type, paste, drop, or press Picture.");
  }
  const mine = (running = new AbortController());
  showBusy(text);
  try {
    const fields = { task: $("task").value, stream: true, explain: true };
    if (text) fields.text = text;
    if (sent) fields.image = await dataUri(sent);
    const labels = $("labels").value.split(",").map((label) => label.trim()).filter(Boolean);
    if (fields.task === "classify" && labels.length) fields.labels = labels;
    const response = await call("/v1/answer", fields, mine.signal);
    for await (const { event, data } of serverSentEvents(response)) {
      if (mine.signal.aborted) return;
      if (event === "token") $("answer-text").textContent += data.text;
      if (event === "answer") showAnswer(data);
      if (event === "error") throw asError(data);
    }
  } catch (error) {
    if (mine.signal.aborted) return;
    if (error.param === "image" && picture === sent) setPicture(null);
    showError(error.message);
  } finally {
    if (running === mine) {
      running = null;
      $("answer").classList.remove("busy");
      $("send").textContent = "Ask";
    }
  }
}

async function call(path, fields, signal) {
  let response;
  try {
    const headers = { "content-type": "application/json", ...keyHeader() };
    response = await fetch(path, { method: "POST", headers, body: JSON.stringify(fields), signal });
  } catch (error) {
    throw signal?.aborted ? error : new Error("The service cannot be reached. Is it still running?");
  }
  if (response.ok) return response;
  if (response.status === 401) $("key-row").hidden = false;
  throw asError(await response.json().catch(() => null), `The service answered with status ${response.status}.`);
}

function asError(body, otherwise) {
  return Object.assign(new Error(body?.error?.message ?? otherwise), { param: body?.error?.param });
}

async function* serverSentEvents(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (waiting + value).split("\n\n");
    waiting = events.pop();
    for (const lines of events) {
      const field = (name) => lines.split("\n").find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
      yield { event: field("event"), data: JSON.parse(field("data")) };
    }
  }
}

function keyHeader() {
  const key = $("key").value || sessionStorage.getItem("mmrag-key") || "";
  if (key) sessionStorage.setItem("mmrag-key", key);
  return key ? { authorization: `Bearer ${key}` } : {};
}

function dataUri(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error("The picture cannot be read."));
    reader.readAsDataURL(blob);
  });
}

// --- showing -----------------------------------------------------------------------------------------------------

function showBusy(text) {
  const asked = text || { answer: "What is this?", caption: "Caption this picture", classify: "Classify this picture" }[$("task").value];
  clearAnswer(asked);
  $("answer").classList.add("busy");
  $("send").textContent = "Ask again";
}

function clearAnswer(asked) {
  $("answer").hidden = false;
  $("asked").textContent = asked;
  $("answer-text").textContent = "";
  $("timings").textContent = "";
  $("error").hidden = true;
  for (const id of ["label-scores", "degraded", "passages"]) $(id).replaceChildren();
  $("evidence-title").hidden = true;
  pictureUrls.forEach((url) => URL.revokeObjectURL(url));
  pictureUrls = [];
  $("answer").scrollIntoView({ block: "nearest" });
}

// What was wrong with what was about to be asked; what was answered before goes.
function refuse(message) {
  clearAnswer("");
  showError(message);
}

function showError(message) {
  $("answer-text").textContent = "";
  $("error").textContent = message;
  $("error").hidden = false;
}

function showAnswer(answer) {
  $("answer-text").textContent = answer.answer || "—";
  $("degraded").replaceChildren(...answer.degraded.map((note) => element("li", {}, `Answered without ${note}`)));
  $("label-scores").replaceChildren(...(answer.labels ?? []).slice(0, 8).map(labelRow));
  $("timings").textContent = Object.entries(answer.timings_ms)
    .map(([stage, ms]) => `${stage.replaceAll("_", " ")} ${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`)
    .join("  ·  ");
  $("evidence-title").hidden = !answer.passages.length;
  const copied = copiedWords(answer.attribution);
  $("passages").replaceChildren(
    ...answer.passages.map((passage) => passageCard(passage, answer.attribution?.passages?.[passage.id] ?? 0, copied[passage.id])),
  );
}

function labelRow({ label, score }) {
  const meter = element("meter", { min: 0, max: 1, value: score, "aria-label": label });
  return element("li", {}, element("span", {}, label), meter, element("span", {}, `${(100 * score).toFixed(1)} %`));
}

function passageCard(passage, share, words = []) {
  const title = element("h3", {}, element("span", {}, ...highlighted(passage.title, words, "title")));
  if (share >= 0.01) title.append(element("span", { class: "share" }, `${Math.round(100 * share)} % of the answer`));
  const found = element("div", { class: "found" }, element("span", {}, `score ${passage.score.toFixed(3)}`));
  for (const [branch, rank] of Object.entries(passage.branches)) {
    found.append(element("span", {}, `${branch.replace("_", " → ")} #${rank}`));
  }
  const card = element("li", { class: `passage ${passage.image_url ? "" : "plain"} ${share >= 0.05 ? "used" : ""}` });
  if (passage.image_url) card.append(storedPicture(passage));
  card.append(title, element("p", {}, ...highlighted(passage.text, words, "text")), found);
  return card;
}

function storedPicture(passage) {
  const image = element("img", { alt: `Picture of ${passage.title || passage.document_id}`, loading: "lazy" });
  fetchPicture(passage.image_url).then((blob) => {
    image.src = URL.createObjectURL(blob);
    pictureUrls.push(image.src);
  }, () => image.remove());
  return image;
}

async function fetchPicture(url) {
  const response = await fetch(url, { headers: keyHeader() });
  if (!response.ok) throw new Error("The picture is not there.");
  return response.blob();
}

// Passage id -> the places in it that words of the answer were copied from.
function copiedWords(attribution) {
  const places = {};
  for (const token of attribution?.tokens ?? []) {
    const [best] = Object.entries(token.passages).sort((a, b) => b[1] - a[1])[0] ?? [];
    if (!best) continue;
    const strong = token.words.filter((word) => word.share >= 0.1);
    (places[best] ??= []).push(...strong);
  }
  return places;
}

// The text in pieces, those that were copied marked. Places count characters, as Python does.
function highlighted(text, words, field) {
  const characters = Array.from(text);
  const isCopied = new Array(characters.length).fill(false);
  for (const word of words) if (word.field === field) isCopied.fill(true, word.start, word.end);
  for (let i = 1; i + 1 < characters.length; i++) {
    if (characters[i] === " " && isCopied[i - 1] && isCopied[i + 1]) isCopied[i] = true;
  }
  for (let i = 0; i < characters.length; i++) {
    const isEdge = !isCopied[i - 1] || !isCopied[i + 1];
    if (characters[i] === " " && isEdge) isCopied[i] = false;
  }
  const pieces = [];
  for (let start = 0; start < characters.length; ) {
    let end = start;
    while (end < characters.length && isCopied[end] === isCopied[start]) end++;
    const piece = characters.slice(start, end).join("");
    pieces.push(isCopied[start] ? element("mark", {}, piece) : piece);
    start = end;
  }
  return pieces;
}

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// --- the question's picture --------------------------------------------------------------------------------------

function setPicture(blob) {
  if (blob && !/^image\/(png|jpeg|webp|gif)$/.test(blob.type)) {
    refuse(`${blob.name ?? "This"} is no picture that can be asked with: take PNG, JPEG, WebP or GIF.`);
    blob = null;
  }
  picture = blob;
  if ($("thumbnail").src) URL.revokeObjectURL($("thumbnail").src);
  if (blob) $("thumbnail").src = URL.createObjectURL(blob);
  else $("thumbnail").removeAttribute("src");
  $("preview").hidden = !blob;
  $("file").value = "";
}

const pictureIn = (transfer) => [...(transfer?.files ?? [])].find((file) => file.type.startsWith("image/"));

$("file").addEventListener("change", (event) => setPicture(event.target.files[0] ?? null));
$("remove").addEventListener("click", () => { setPicture(null); $("text").focus(); });
document.addEventListener("paste", (event) => {
  const file = pictureIn(event.clipboardData);
  if (file) { event.preventDefault(); setPicture(file); }
});
document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop-hint").hidden = false; });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop-hint").hidden = true; });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop-hint").hidden = true;
  const file = pictureIn(event.dataTransfer) ?? event.dataTransfer.files[0];
  if (file) setPicture(file);
});

// --- the form ----------------------------------------------------------------------------------------------------

$("form").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); ask(); }
});
$("text").addEventListener("input", fitText);
$("task").addEventListener("change", showLabels);

function fitText() {
  $("text").style.height = "auto";
  $("text").style.height = `${Math.min($("text").scrollHeight, 240)}px`;
}

function showLabels() {
  $("labels-row").hidden = $("task").value !== "classify";
}

async function tryExample({ text, task = "answer", of: title }) {
  $("text").value = text;
  $("task").value = task;
  $("labels").value = "";
  showLabels();
  fitText();
  setPicture(null);
  try {
    if (title) setPicture(await pictureOf(title));
    await ask();
  } catch (error) {
    refuse(error.message);
  }
}

async function pictureOf(title) {
  const found = await (await call("/v1/search", { text: title, top_k: 20 })).json();
  const passage = found.passages.find((passage) => passage.image_url && passage.title === title);
  if (!passage) throw new Error(`This knowledge base has no picture of ${title}.`);
  return fetchPicture(passage.image_url);
}

for (const example of EXAMPLES) {
  const name = [example.picture && `▧ ${example.picture}`, example.text || "what is this?"].filter(Boolean).join(" · ");
  const button = element("button", { type: "button" }, name);
  button.addEventListener("click", () => tryExample(example));
  $("examples").append(button);
}
