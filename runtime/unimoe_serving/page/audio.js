"use strict";

/* 16-bit samples, played as they come, without a gap. */
class Player {
  constructor(rate) {
    this.rate = rate;
    this.context = new AudioContext({ sampleRate: rate, latencyHint: "interactive" });
    this.context.resume();
    this.chunks = [];
    this.numSamples = 0;
    this.startsAt = null; // context time at which the first sample sounds
    this.next = 0;
    this.underruns = 0;
    this.sources = new Set();
  }

  /* Queue samples; returns when they begin and end, in context time. */
  push(samples) {
    const now = this.context.currentTime;
    if (this.startsAt === null) this.startsAt = this.next = now + 0.01;
    else if (this.next < now) {
      this.underruns += 1;
      this.next = now + 0.02;
    }
    const buffer = this.context.createBuffer(1, samples.length, this.rate);
    buffer.copyToChannel(Float32Array.from(samples, (sample) => sample / 32768), 0);
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.context.destination);
    source.onended = () => this.sources.delete(source);
    this.sources.add(source);
    source.start(this.next);
    const begin = this.next;
    this.next += samples.length / this.rate;
    this.chunks.push(samples);
    this.numSamples += samples.length;
    return [begin, this.next];
  }

  get now() { return this.context.currentTime; }

  /* Seconds of the audio that were heard. */
  get heard() {
    if (this.startsAt === null) return 0;
    return Math.max(0, Math.min(this.now - this.startsAt, this.numSamples / this.rate));
  }

  get playing() { return this.startsAt !== null && this.now < this.next; }

  stop() {
    for (const source of this.sources) source.stop();
    this.sources.clear();
    this.next = Math.min(this.next, this.now);
  }

  close() {
    this.stop();
    if (this.context.state !== "closed") this.context.close();
  }

  samples() {
    const all = new Int16Array(this.numSamples);
    let at = 0;
    for (const chunk of this.chunks) {
      all.set(chunk, at);
      at += chunk.length;
    }
    return all;
  }

  wav() {
    const samples = this.samples();
    const header = new DataView(new ArrayBuffer(44));
    const text = (at, word) => [...word].forEach((letter, index) => header.setUint8(at + index, letter.charCodeAt(0)));
    text(0, "RIFF"); header.setUint32(4, 36 + samples.byteLength, true); text(8, "WAVEfmt ");
    header.setUint32(16, 16, true); header.setUint16(20, 1, true); header.setUint16(22, 1, true);
    header.setUint32(24, this.rate, true); header.setUint32(28, 2 * this.rate, true);
    header.setUint16(32, 2, true); header.setUint16(34, 16, true);
    text(36, "data"); header.setUint32(40, samples.byteLength, true);
    return new Blob([header, samples], { type: "audio/wav" });
  }
}

/* The waveform so far, and how much of it was heard. */
class Wave {
  constructor(canvas) {
    this.canvas = canvas;
    this.clear();
  }

  clear() {
    this.peaks = [];
    this.draw(0, 1);
  }

  push(samples, rate) {
    const size = Math.round(rate / 50);
    for (let at = 0; at < samples.length; at += size) {
      let peak = 0;
      for (let index = at; index < Math.min(at + size, samples.length); index++)
        peak = Math.max(peak, Math.abs(samples[index]));
      this.peaks.push(peak / 32768);
    }
  }

  draw(heard, total) {
    const style = getComputedStyle(document.documentElement);
    const ratio = window.devicePixelRatio || 1;
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.fillStyle = style.getPropertyValue("--line");
    pen.fillRect(0, height / 2 - 0.5, width, 1);
    const step = width / Math.max(this.peaks.length, 120);
    const played = (heard / Math.max(total, 1e-9)) * this.peaks.length;
    this.peaks.forEach((peak, index) => {
      pen.fillStyle = style.getPropertyValue(index < played ? "--accent" : "--soft");
      const tall = Math.max(1, Math.min(1, peak * 1.6) * (height - 6));
      pen.fillRect(index * step, (height - tall) / 2, Math.max(1, step - 1), tall);
    });
  }
}

/* Server-sent events of a response's body, as objects. */
async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    waiting += value;
    const events = waiting.split("\n\n");
    waiting = events.pop();
    for (const event of events) if (event.startsWith("data: ")) yield JSON.parse(event.slice(6));
  }
}

function decodeSamples(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Int16Array(bytes.buffer, 0, bytes.length >> 1);
}
