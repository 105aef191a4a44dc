
const at = (id) => document.getElementById(id);
const map = new ExpertMap(at("map"), at("shares"));
const wave = new Wave(at("wave"));
let models = [], voices = [], player = null, abort = null, lastFrame = 0;
const typed = {}; // the caller's own text by task, kept when the task or the model changes

const EXAMPLES = {
  speech: ["Remind me at seven forty-five.", "Hello. It is good to hear from you."],
  music: ["flute, 120 bpm: C4 E4 G4 C5", "guitar, 100 bpm: C4+E4+G4*2 F4+A4*2"],
};
const HELP = {
  speech: "Ctrl + Enter speaks.",
  music: "Notes such as C4 E4*0.5 C4+E4 (* beats, + together) after an instrument and a tempo, or a description.",
};
const FIGURES = ["first", "rtf", "length", "launched"];
const SAMPLE = { speech: "Hello, this is my voice.", music: "120 bpm: C4 E4 G4 C5" };

const task = () => document.querySelector("input[name=task]:checked").value;
const model = () => models.find((known) => known.id === at("model").value) || models[0];

async function call(path, options = {}) {
  const key = at("key").value;
  const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  if (response.status === 401) at("key-row").hidden = false;
  const body = await response.json().catch(() => null);
  const wait = response.headers.get("retry-after");
  throw new Error((body?.error?.message || `status ${response.status}`) + (wait ? ` (try again in ${wait} s)` : ""));
}

async function connect() {
  try {
    models = (await (await call("v1/models")).json()).data;
    voices = (await (await call("v1/audio/voices")).json()).data;
  } catch (error) {
    at("state").textContent = error.message;
    setTimeout(connect, at("key-row").hidden ? 1000 : 3000);
    return;
  }
  at("state").textContent = "ready";
  at("model").replaceChildren(...models.map((known) => new Option(known.id, known.id)));
  at("model-row").hidden = models.length < 2;
  at("go").disabled = false;
  chooseModel();
}

function chooseModel() {
  const { layers, routed_experts: routed, null_experts: nulls, tasks } = model();
  map.shape(layers, routed, nulls);
  const chosen = tasks.includes(task()) ? task() : tasks[0];
  for (const radio of document.querySelectorAll("input[name=task]")) {
    radio.disabled = !tasks.includes(radio.value);
    radio.checked = radio.value === chosen;
  }
  chooseTask();
}

function chooseTask() {
  const music = task() === "music";
  at("error").textContent = "";
  at("text-label").textContent = music ? "Notes or description" : "Text";
  at("text-help").textContent = HELP[task()];
  at("voice-label").textContent = music ? "Instrument, if the text names none" : "Voice";
  at("go").textContent = music ? "Play" : "Speak";
  at("speed-row").hidden = music;
  at("video-row").hidden = !music || !model().takes_video;
  const examples = [...new Set([...(model().examples[task()] || []), ...EXAMPLES[task()]])].slice(0, 4);
  at("text").value = typed[task()] || examples[0];
  at("examples").replaceChildren(
    ...examples.map((text) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.onclick = () => { at("text").value = text; delete typed[task()]; at("text").focus(); };
      return button;
    }),
  );
  const own = voices.filter((voice) => voice.model === model().id && voice.task === task());
  at("voice").replaceChildren(...own.map((voice) => new Option(voice.name, voice.id)));
  at("voice").parentElement.parentElement.hidden = own.length === 0;
  chooseVoice();
}

function chooseVoice() {
  const voice = voices.find((known) => known.id === at("voice").value && known.model === model().id);
  at("voice-help").textContent = voice?.description || "";
}

function buildBody(text) {
  const fields = {
    model: model().id, input: text, response_format: "pcm", sample_rate_hz: model().sample_rate_hz,
    stream_format: "sse", routing: true, seed: Number(at("seed").value) || 0,
  };
  if (at("voice").value) fields.voice = at("voice").value;
  if (task() === "speech" && at("speed").value !== "1") fields.speed = Number(at("speed").value);
  if (at("seconds").value) fields.max_seconds = Number(at("seconds").value);
  const video = task() === "music" && !at("video-row").hidden && at("video").files[0];
  if (!video) return { body: JSON.stringify(fields), headers: { "content-type": "application/json" } };
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, String(value));
  form.append("video", video);
  return { body: form };
}

async function synthesize(text) {
  stop();
  const own = (abort = new AbortController());
  const mine = (player = new Player(model().sample_rate_hz));
  map.clear();
  wave.clear();
  at("error").textContent = "";
  at("download").hidden = true;
  for (const id of FIGURES) at(id).textContent = "…";
  at("stop").disabled = false;
  at("state").textContent = task() === "music" ? "playing…" : "speaking…";
  const clicked = performance.now();
  let picks = [], first = null, finished = false;
  try {
    const response = await call(`v1/audio/${task()}`, { method: "POST", signal: own.signal, ...buildBody(text) });
    for await (const event of readEvents(response.body)) {
      if (event.type === "unimoe.routing") picks.push(...event.picks);
      else if (event.type === "speech.audio.delta") {
        const samples = decodeSamples(event.audio);
        const [begin, end] = mine.push(samples);
        map.push(picks, begin, end);
        picks = [];
        wave.push(samples, mine.rate);
        if (first === null) {
          first = performance.now() - clicked;
          at("first").textContent = `${first.toFixed(0)} ms`;
        }
        at("length").textContent = `${(mine.numSamples / mine.rate).toFixed(2)} s`;
      } else if (event.type === "speech.audio.done") {
        finish(mine, event.figures);
        finished = true;
      } else if (event.type === "error") throw new Error(event.error.message);
    }
    if (!finished) throw new Error("the server broke off");
  } catch (error) {
    if (error.name !== "AbortError") at("error").textContent = error.message;
    if (player === mine) settle();
  }
}

function finish(mine, figures) {
  at("rtf").textContent = figures.rtf.toFixed(2);
  at("first-note").textContent = `from the click; ${(1000 * figures.first_audio_s).toFixed(0)} ms at the server`;
  at("length-note").textContent = `${figures.steps} steps, ${mine.underruns} underruns`;
  at("launched").textContent = figures.experts_per_step.toFixed(1);
  at("null-note").textContent = `null share ${(100 * figures.null_share).toFixed(0)} %`;
  URL.revokeObjectURL(at("download").href);
  at("download").href = URL.createObjectURL(mine.wav());
  at("download").hidden = false;
}

function stop() {
  abort?.abort();
  player?.close();
  abort = null;
  settle();
}

/* Nothing is being made: no figure is awaited. */
function settle() {
  at("stop").disabled = true;
  if (models.length) at("state").textContent = "ready";
  for (const id of FIGURES) if (at(id).textContent === "…") at(id).textContent = "–";
}

function animate(time) {
  const elapsed = Math.min(1, (time - lastFrame) / 1000);
  lastFrame = time;
  if (player && (player.playing || map.waiting || elapsed < 1)) {
    map.advance(player.now, elapsed);
    wave.draw(player.heard, player.numSamples / player.rate);
    if (!player.playing && !map.waiting && !at("download").hidden && !at("stop").disabled) {
      at("stop").disabled = true;
      at("state").textContent = `ready; ${at("length").textContent} of audio, the first after ${at("first").textContent}`;
      map.describe();
    }
  }
  requestAnimationFrame(animate);
}

at("form").onsubmit = (event) => { event.preventDefault(); synthesize(at("text").value); };
at("text").oninput = () => { typed[task()] = at("text").value; };
at("text").onkeydown = (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); at("form").requestSubmit(); }
};
at("stop").onclick = stop;
at("sample").onclick = () => synthesize(SAMPLE[task()]);
at("speed").oninput = () => { at("speed-shown").textContent = Number(at("speed").value).toFixed(2); };
at("voice").onchange = chooseVoice;
at("model").onchange = () => { stop(); chooseModel(); }; // the map has the new model's shape
for (const radio of document.querySelectorAll("input[name=task]")) radio.onchange = chooseTask;
window.unimoe = { map, wave, get player() { return player; } };
requestAnimationFrame(animate);
connect();
