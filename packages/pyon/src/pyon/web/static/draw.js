// Drawings: sparklines of histories and arrays, lines with uPlot, images on a canvas.

const VIRIDIS = [
  [68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142],
  [31, 158, 137], [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37],
];

// 256 colours of 32 bits each, in memory order. The first is transparent, for values that are not finite.
const COLOURS = new Uint32Array(256);
for (let level = 1; level < 256; level += 1) {
  const at = ((level - 1) / 254) * (VIRIDIS.length - 1);
  const low = VIRIDIS[Math.floor(at)];
  const high = VIRIDIS[Math.ceil(at)];
  const mixed = low.map((part, i) => Math.round(part + (at % 1) * (high[i] - part)));
  COLOURS[level] = (255 << 24) | (mixed[2] << 16) | (mixed[1] << 8) | mixed[0];
}

// Whether the numbers of a history differ: a constant number needs no sparkline.
export const moves = (history) => history?.[1].some((number) => number !== history[1][0]);

export function short(number) {
  if (number === null || number === undefined) return "";
  if (Number.isInteger(number) && Math.abs(number) < 1e6) return String(number);
  const size = Math.abs(number);
  if (size && size < 1e-3) return number.toExponential(4).replace(/\.?0+e/, "e");
  return String(Number(number.toPrecision(5)));
}

// Draw numbers over xs, or over their index, as a line that fills a small canvas.
export function spark(canvas, numbers, xs = null) {
  const scale = devicePixelRatio;
  const width = Math.round(canvas.clientWidth * scale);
  const height = Math.round(canvas.clientHeight * scale);
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, width, height);
  let low = Infinity;
  let high = -Infinity;
  for (const number of numbers) {
    if (number === null || Number.isNaN(number)) continue;
    low = Math.min(low, number);
    high = Math.max(high, number);
  }
  if (numbers.length < 2 || low > high) return;
  const from = xs ? xs[0] : 0;
  const span = (xs ? xs.at(-1) - from : numbers.length - 1) || 1;
  const margin = 2 * scale;
  const half = high / 2 - low / 2;
  pen.strokeStyle = getComputedStyle(canvas).color;
  pen.lineWidth = 1.25 * scale;
  pen.lineJoin = "round";
  pen.beginPath();
  let drawing = false;
  for (let i = 0; i < numbers.length; i += 1) {
    const number = numbers[i];
    if (number === null || Number.isNaN(number)) {
      drawing = false;
      continue;
    }
    const x = margin + (((xs ? xs[i] : i) - from) / span) * (width - 2 * margin);
    const part = half > 0 ? (number / 2 - low / 2) / half : 0.5;
    const y = height - margin - part * (height - 2 * margin);
    if (drawing) pen.lineTo(x, y);
    else pen.moveTo(x, y);
    drawing = true;
  }
  pen.stroke();
}

// One or two lines with axes.
export class Lines {
  constructor() {
    this.element = document.createElement("figure");
    this.element.className = "lines";
    this.box = this.element.appendChild(document.createElement("div"));
    this.caption = this.element.appendChild(document.createElement("figcaption"));
    this.box.setAttribute("role", "img");
    this.resizing = new ResizeObserver(() => this.resize());
    this.resizing.observe(this.element);
    this.retheme = () => this.make();
    addEventListener("theme", this.retheme);
  }

  show(plot) {
    const seriesChanged = plot.series.length !== this.plot?.series.length;
    this.plot = plot;
    const length = plot.data[0].length;
    if (this.xs?.length !== length || this.step !== plot.step || this.start !== plot.start) {
      this.xs = Float64Array.from({ length }, (_, i) => plot.start + i * plot.step);
      [this.step, this.start] = [plot.step, plot.start];
    }
    if (seriesChanged || !this.chart) this.make();
    else this.chart.setData(this.data());
    this.box.ariaLabel = `line of ${length.toLocaleString("en")} points`;
    if (!this.pointed) this.setCaption();
  }

  data() {
    return [this.xs, ...this.plot.data.map((one) => (one.some(Number.isNaN) ? gaps(one) : one))];
  }

  setCaption(text = "") {
    this.caption.textContent = text || [this.plot.ends, this.plot.note].filter(Boolean).join(" · ");
  }

  make() {
    this.chart?.destroy();
    this.chart = null;
    const { width, height } = this.size();
    if (!this.plot || width < 40) return;
    const style = getComputedStyle(this.box);
    const grid = { stroke: style.outlineColor, width: 1 };
    const axis = { stroke: style.color, grid, ticks: { ...grid, size: 4 }, font: `11px ${style.fontFamily}` };
    const strokes = [style.borderTopColor, style.borderBottomColor];
    this.chart = new uPlot(
      {
        width,
        height,
        legend: { show: false },
        cursor: { drag: { x: false, y: false }, points: { size: 6 } },
        scales: { x: { time: false } },
        axes: [{ ...axis, size: 26 }, { ...axis, size: 56, values: (_, splits) => splits.map(short) }],
        series: [
          {},
          ...this.plot.series.map((label, i) => ({
            label, stroke: strokes[i], width: 1.25, points: { show: false }, pxAlign: 0,
          })),
        ],
        hooks: { setCursor: [(chart) => this.point(chart)] },
      },
      this.data(),
      this.box,
    );
  }

  point(chart) {
    const at = chart.cursor.idx;
    this.pointed = at !== null && at !== undefined;
    if (!this.pointed) return this.setCaption();
    const values = this.plot.data.map((one, i) => `${this.plot.series[i]} ${one[at]}`.trim());
    return this.setCaption(`${this.xs[at]}: ${values.join(", ")}`);
  }

  size() {
    const width = Math.floor(this.element.clientWidth);
    return { width, height: Math.round(Math.max(140, Math.min(240, width * 0.42))) };
  }

  resize() {
    const size = this.size();
    if (this.chart && size.width >= 40) this.chart.setSize(size);
    else this.make();
  }

  remove() {
    this.resizing.disconnect();
    removeEventListener("theme", this.retheme);
    this.chart?.destroy();
    this.element.remove();
  }
}

function gaps(numbers) {
  return Array.from(numbers, (number) => (Number.isNaN(number) ? null : number));
}

const TALLEST = 20; // maximum height of an image, in rem

// An image with a colour scale.
export class Image {
  constructor() {
    this.element = document.createElement("figure");
    this.element.className = "image";
    this.canvas = this.element.appendChild(document.createElement("canvas"));
    this.canvas.setAttribute("role", "img");
    this.scale = this.element.appendChild(document.createElement("div"));
    this.scale.className = "scale";
    this.high = this.scale.appendChild(document.createElement("span"));
    this.bar = this.scale.appendChild(document.createElement("canvas"));
    this.bar.setAttribute("aria-hidden", "true");
    this.low = this.scale.appendChild(document.createElement("span"));
    this.caption = this.element.appendChild(document.createElement("figcaption"));
    this.paintBar();
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", () => this.resetCaption());
  }

  paintBar() {
    [this.bar.width, this.bar.height] = [1, 255];
    const pen = this.bar.getContext("2d");
    const pixels = pen.createImageData(1, 255);
    new Uint32Array(pixels.data.buffer).set(Array.from({ length: 255 }, (_, i) => COLOURS[255 - i]));
    pen.putImageData(pixels, 0, 0);
  }

  show(plot) {
    this.plot = plot;
    const { rows, columns } = plot;
    if (this.canvas.width !== columns || this.canvas.height !== rows || !this.pixels) {
      [this.canvas.width, this.canvas.height] = [columns, rows];
      this.canvas.style.width = `${TALLEST * Math.min(1.6, columns / rows)}rem`;
      this.canvas.style.aspectRatio = `${columns} / ${rows}`;
      this.pen = this.canvas.getContext("2d");
      this.pixels = this.pen.createImageData(columns, rows);
      this.colours = new Uint32Array(this.pixels.data.buffer);
    }
    const [levels] = plot.data;
    const { colours } = this;
    for (let i = 0; i < levels.length; i += 1) colours[i] = COLOURS[levels[i]];
    this.pen.putImageData(this.pixels, 0, 0);
    this.low.textContent = short(plot.low);
    this.high.textContent = short(plot.high);
    this.canvas.ariaLabel = `image of ${plot.shape.join(" by ")}, from ${short(plot.low)} to ${short(plot.high)}`;
    if (!this.pointed) this.resetCaption();
  }

  point(event) {
    const { rows, columns, shape, low, high, data } = this.plot;
    const column = Math.min(columns - 1, Math.floor((event.offsetX / this.canvas.clientWidth) * columns));
    const row = Math.min(rows - 1, Math.floor((event.offsetY / this.canvas.clientHeight) * rows));
    const level = data[0][row * columns + column];
    const place = [(row / rows) * shape[0], (column / columns) * shape[1]].map(Math.floor);
    const value = level ? `≈ ${short(low + ((level - 1) / 254) * (high - low))}` : "not finite";
    this.pointed = true;
    this.caption.textContent = `[${place.join(", ")}]: ${value}`;
  }

  resetCaption() {
    this.pointed = false;
    this.caption.textContent = this.plot.note || this.plot.shape.join(" x ");
  }

  remove() {
    this.element.remove();
  }
}
