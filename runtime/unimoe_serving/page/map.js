
/* Layers × experts: each step's picks light up when the step is heard, and fade. */
class ExpertMap {
  constructor(element, table) {
    this.element = element;
    this.table = table;
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    this.steps = []; // [time, masks], in order
    this.shape(0, 0, 0);
  }

  shape(layers, routed, nulls) {
    this.layers = layers;
    this.routed = routed;
    this.columns = routed + nulls;
    const name = (column) => (column < routed ? String(column + 1) : nulls > 1 ? `∅${column - routed + 1}` : "∅");
    this.names = Array.from({ length: this.columns }, (_, column) => name(column));
    this.element.style.setProperty("--columns", this.columns);
    this.element.classList.toggle("many", layers > 12);
    this.element.replaceChildren();
    const label = (text) => {
      const span = document.createElement("span");
      span.textContent = text;
      this.element.append(span);
    };
    label("");
    this.names.forEach(label);
    this.cells = [];
    for (let layer = 0; layer < layers; layer++) {
      label(String(layer + 1));
      this.cells.push(
        this.names.map((_, column) => {
          const cell = document.createElement("i");
          if (column >= routed) cell.className = "null";
          this.element.append(cell);
          return cell;
        }),
      );
    }
    this.clear();
  }

  clear() {
    this.steps = [];
    this.numSteps = this.launched = 0;
    this.counts = this.cells.map((row) => row.map(() => 0));
    this.lit = this.cells.map((row) => row.map(() => 0));
    this.show();
    this.describe();
  }

  /* Picks of steps that sound from `begin` to `end` (seconds). */
  push(masks, begin, end) {
    masks.forEach((layers, index) => this.steps.push([begin + ((end - begin) * index) / masks.length, layers]));
  }

  /* Light what is heard by now, and let the rest fade; `elapsed` seconds after the last call. */
  advance(now, elapsed) {
    const fade = Math.exp(-elapsed / 0.09);
    for (const row of this.lit) for (let column = 0; column < row.length; column++) row[column] *= fade;
    while (this.steps.length && this.steps[0][0] <= now) {
      const [, masks] = this.steps.shift();
      this.numSteps += 1;
      masks.forEach((mask, layer) => {
        for (let column = 0; column < this.columns; column++)
          if (mask & (1 << column)) {
            this.counts[layer][column] += 1;
            this.lit[layer][column] = 1;
            if (column < this.routed) this.launched += 1;
          }
      });
    }
    this.show();
  }

  get waiting() { return this.steps.length > 0; }

  show() {
    this.cells.forEach((row, layer) =>
      row.forEach((cell, column) => {
        cell.style.setProperty("--share", (this.share(layer, column) * 0.85).toFixed(3));
        cell.style.setProperty("--lit", this.calm.matches ? 0 : this.lit[layer][column].toFixed(3));
      }),
    );
  }

  share(layer, column) { return this.numSteps ? this.counts[layer][column] / this.numSteps : 0; }

  /* In words and as a table, for those who do not see the map. */
  describe() {
    if (!this.numSteps) {
      this.element.setAttribute("aria-label", `${this.layers} layers of ${this.routed} experts; no steps yet`);
      this.table.replaceChildren();
      return;
    }
    const perStep = (this.launched / this.numSteps).toFixed(1);
    const busiest = this.counts.map((row) => row.indexOf(Math.max(...row.slice(0, this.routed))) + 1);
    this.element.setAttribute(
      "aria-label",
      `${this.numSteps} steps, ${perStep} of ${this.layers * this.routed} experts a step. ` +
        busiest.map((expert, layer) => `Layer ${layer + 1}: most often expert ${expert}.`).join(" "),
    );
    const row = (kind, cells) => {
      const line = document.createElement("tr");
      cells.forEach((text, index) => {
        const cell = document.createElement(index && kind === "td" ? "td" : "th");
        cell.scope = kind === "th" ? "col" : "row";
        cell.textContent = text;
        line.append(cell);
      });
      return line;
    };
    const percent = (layer) => this.names.map((_, column) => `${Math.round(100 * this.share(layer, column))}`);
    this.table.replaceChildren(
      row("th", ["Layer", ...this.names.map((name) => (name.startsWith("∅") ? name.replace("∅", "null ") : name))]),
      ...this.counts.map((_, layer) => row("td", [String(layer + 1), ...percent(layer)])),
    );
  }
}
