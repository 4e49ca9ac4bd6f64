// A latent space to touch, in the order in which it is read: what Python sends, the network layer by layer, what is
// looked at (Explorer), the parts of the page that show it and change it (the views), and how they are put together.
//
// One module without imports: a notebook runs it through anywidget, a page without a kernel runs the same text. What
// Python sends (`content`) is described in explorer.py. A value of a network is { shape, data }, without a batch axis,
// channels last; it is computed in float64, so that differences of drawings are derivatives. A view is what it puts in
// the page and `show`, which draws it anew in every frame in which something changed.

// --- what Python sends ----------------------------------------------------------------------------------------------

/** Unpack the arrays of `content` and put each where { array: i } stands for it. */
export async function read(content) {
  const packed = Uint8Array.from(atob(content.data), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const buffer = await new Response(stream).arrayBuffer();
  const arrays = content.arrays.map(({ dtype, offset, length }) => {
    if (dtype === "float16") return Float32Array.from(new Uint16Array(buffer, offset, length), half);
    return new { float32: Float32Array, uint8: Uint8Array, int32: Int32Array }[dtype](buffer, offset, length);
  });
  const placed = (part) => {
    if (part === null || typeof part !== "object") return part;
    if (Array.isArray(part)) return part.map(placed);
    if ("array" in part) return arrays[part.array];
    return Object.fromEntries(Object.entries(part).map(([key, value]) => [key, placed(value)]));
  };
  return placed({ ...content, data: null, arrays: null });
}

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
}

// --- a network ------------------------------------------------------------------------------------------------------

/** Return the output of a network for one sample. */
export function run(network, input) {
  const values = [{ shape: network.shape, data: Float64Array.from(input) }];
  for (const op of network.operations) {
    values.push({ shape: op.shape, data: OPERATIONS[op.kind](op, ...op.inputs.map((i) => values[i])) });
  }
  return values[network.output].data;
}

const size = (shape) => shape.reduce((product, n) => product * n, 1);
const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

function erf(x) { // Abramowitz and Stegun, 7.1.26: within 1.5e-7
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - p * Math.exp(-x * x));
}

const ACTIVATIONS = {
  relu: (x, { slope = 0, most = null, threshold = 0 }) =>
    x < threshold ? slope * (x - threshold) : most === null ? x : Math.min(x, most),
  elu: (x, { alpha = 1 }) => (x > 0 ? x : alpha * Math.expm1(x)),
  selu: (x) => 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * Math.expm1(x)),
  gelu: (x) => (x / 2) * (1 + erf(x / Math.SQRT2)),
  silu: (x) => x * sigmoid(x),
  mish: (x) => x * Math.tanh(softplus(x)),
  tanh: Math.tanh,
  sigmoid,
  hard_sigmoid: (x) => Math.min(Math.max(x / 6 + 0.5, 0), 1),
  log_sigmoid: (x) => -softplus(-x),
  softplus,
  softsign: (x) => x / (1 + Math.abs(x)),
  exponential: Math.exp,
};

const MERGES = {
  add: (a, b) => a + b,
  subtract: (a, b) => a - b,
  multiply: (a, b) => a * b,
  maximum: Math.max,
  minimum: Math.min,
};

/** Call `each` for the rows of the last axis: for their first and last place. */
function rows(data, width, each) {
  for (let start = 0; start < data.length; start += width) each(start, start + width);
}

/** Call `each` for every place of the input under every place of a window, both as places in `data`. */
function windows({ shape: [H, W, C], window, strides, dilation = [1, 1], before }, { shape: [h, w, c] }, each) {
  for (let y = 0; y < H; y++) for (let x = 0; x < W; x++) {
    for (let i = 0; i < window[0]; i++) for (let j = 0; j < window[1]; j++) {
      const row = y * strides[0] + i * dilation[0] - before[0], column = x * strides[1] + j * dilation[1] - before[1];
      if (row < 0 || row >= h || column < 0 || column >= w) continue;
      each((y * W + x) * C, (row * w + column) * c, i * window[1] + j);
    }
  }
}

const OPERATIONS = {
  reshape: (op, { data }) => data,

  activate({ name, settings = {} }, { data }) {
    const activation = ACTIVATIONS[name];
    return data.map((x) => activation(x, settings));
  },

  softmax({ shape }, { data }) {
    const out = new Float64Array(data.length);
    rows(data, shape.at(-1), (start, end) => {
      const most = Math.max(...data.subarray(start, end));
      let sum = 0;
      for (let i = start; i < end; i++) sum += out[i] = Math.exp(data[i] - most);
      for (let i = start; i < end; i++) out[i] /= sum;
    });
    return out;
  },

  prelu: ({ alpha }, { data }) => data.map((x, i) => (x > 0 ? x : alpha[i] * x)),

  dense({ kernel, bias, shape }, { data, shape: from }) {
    const units = shape.at(-1), width = from.at(-1), out = new Float64Array(size(shape));
    rows(data, width, (start, end) => {
      const to = (start / width) * units;
      if (bias) out.set(bias, to);
      for (let i = start, k = 0; i < end; i++, k += units) {
        const x = data[i];
        if (x !== 0) for (let j = 0; j < units; j++) out[to + j] += x * kernel[k + j];
      }
    });
    return out;
  },

  conv(op, input) { // kernel: (height, width, channels / groups, filters)
    const { shape, kernel, bias, groups } = op, c = input.shape[2], C = shape[2], own = c / groups, each = C / groups;
    const out = new Float64Array(size(shape));
    if (bias) rows(out, C, (start) => out.set(bias, start));
    windows(op, input, (to, from, tap) => {
      for (let k = 0; k < c; k++) {
        const x = input.data[from + k], first = Math.floor(k / own) * each;
        if (x === 0) continue;
        const weights = (tap * own + (k % own)) * C;
        for (let m = first; m < first + each; m++) out[to + m] += x * kernel[weights + m];
      }
    });
    return out;
  },

  conv_transpose(op, { shape: [h, w, c], data }) { // the places of a convolution, from its output to its input
    const { shape, kernel, bias } = op, C = shape[2], out = new Float64Array(size(shape)); // (height, width, c, C)
    if (bias) rows(out, C, (start) => out.set(bias, start));
    windows({ ...op, shape: [h, w, c] }, { shape }, (from, to, tap) => {
      for (let k = 0; k < c; k++) {
        const x = data[from + k];
        if (x !== 0) for (let m = 0, n = (tap * c + k) * C; m < C; m++, n++) out[to + m] += x * kernel[n];
      }
    });
    return out;
  },

  pool(op, input) {
    const { shape, mean } = op, out = new Float64Array(size(shape)).fill(mean ? 0 : -Infinity);
    const counts = new Float64Array(out.length);
    windows(op, input, (to, from) => {
      for (let k = 0; k < shape[2]; k++) {
        const x = input.data[from + k];
        out[to + k] = mean ? out[to + k] + x : Math.max(out[to + k], x);
        counts[to + k]++;
      }
    });
    return mean ? out.map((sum, i) => sum / counts[i]) : out;
  },

  upsample({ shape: [H, W, C], factors }, { shape: [, w], data }) {
    const out = new Float64Array(H * W * C);
    for (let y = 0; y < H; y++) for (let x = 0; x < W; x++) {
      const from = (Math.floor(y / factors[0]) * w + Math.floor(x / factors[1])) * C;
      out.set(data.subarray(from, from + C), (y * W + x) * C);
    }
    return out;
  },

  pad(op, input) { // or crop, where `before` is negative
    const out = new Float64Array(size(op.shape));
    windows({ ...op, window: [1, 1], strides: [1, 1] }, input, (to, from) => {
      out.set(input.data.subarray(from, from + op.shape[2]), to);
    });
    return out;
  },

  affine({ scale, shift }, { data }) {
    const width = scale.length;
    return data.map((x, i) => x * scale[i % width] + shift[i % width]);
  },

  layer_norm({ scale, shift, epsilon, shape }, { data }) {
    const width = shape.at(-1), out = new Float64Array(data.length);
    rows(data, width, (start, end) => {
      let mean = 0, variance = 0;
      for (let i = start; i < end; i++) mean += data[i] / width;
      for (let i = start; i < end; i++) variance += (data[i] - mean) ** 2 / width;
      for (let i = start, k = 0; i < end; i++, k++) {
        out[i] = ((data[i] - mean) / Math.sqrt(variance + epsilon)) * scale[k] + shift[k];
      }
    });
    return out;
  },

  merge({ name, weight = 1 }, first, ...others) {
    const join = MERGES[name];
    return others.reduce((sum, { data }) => sum.map((x, i) => join(x, data[i])), first.data).map((x) => x * weight);
  },

  concatenate({ shape, axis }, ...inputs) {
    const out = new Float64Array(size(shape)), blocks = size(shape.slice(0, axis));
    let to = 0;
    for (let block = 0; block < blocks; block++) for (const { data } of inputs) {
      const width = data.length / blocks;
      out.set(data.subarray(block * width, (block + 1) * width), to);
      to += width;
    }
    return out;
  },

  above: ({ threshold }, { data }) => data.map((x, i) => (x > threshold[i] ? x : 0)),

  append: ({ constant }, { data }) => Float64Array.from([...data, ...constant]),

  top_k({ k, shape }, { data }) { // of equal ones the first are kept
    const out = new Float64Array(data.length);
    rows(data, shape.at(-1), (start, end) => {
      const order = Array.from({ length: end - start }, (_, i) => start + i).sort((a, b) => data[b] - data[a] || a - b);
      for (const i of order.slice(0, k)) out[i] = data[i];
    });
    return out;
  },
};

/** Return how each output of a network changes with input `unit`: in float64 a small step ahead is as good as exact. */
export function derivative(network, input, unit, here = run(network, input), step = 1e-6) {
  const ahead = run(network, input.map((x, i) => (i === unit ? x + step : x)));
  return ahead.map((x, i) => (x - here[i]) / step);
}

// --- lists of numbers: codes, colours -------------------------------------------------------------------------------

const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
const plus = (a, b, t = 1) => a.map((x, i) => x + t * b[i]);
const mix = (a, b, t) => a.map((x, i) => x + (b[i] - x) * t);
const same = (a, b) => a.length === b.length && a.every((x, i) => x === b[i]);
const part = (array, width, i) => array.subarray(i * width, (i + 1) * width);
const table = (array, width) => Array.from({ length: array.length / width }, (_, i) => [...part(array, width, i)]);
const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
const css = (colour) => `rgb(${colour.map(Math.round).join(" ")})`;
const brief = (x) => (Math.abs(x) >= 100 ? x.toFixed(0) : x.toPrecision(3)).replace("-", "−");

function squared(a, b) { // the distance; every point of the plane needs it in every frame
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2;
  return sum;
}

// --- what is looked at ----------------------------------------------------------------------------------------------

/** What is looked at, and what can be done with it. All changes before a frame are shown once, in that frame. */
class Explorer {
  image = null; // the code is of this image, if of any; `row` says which held-out one; `posterior` is q(z|x) of a VAE
  row = null;
  posterior = null;
  unit = null; // touched
  pixel = null; // touched
  ends = [null, null]; // of a path
  colours = {}; // of the page around
  views = [];

  constructor(told) {
    this.told = told;
    this.k = size(told.decoder.shape);
    this.pixels = size(told.encoder.shape);
    this.codes = table(told.points, this.k);
    this.training = table(told.training, this.k);
    this.z = this.codes[0];
    [this.height, this.width, this.channels] = told.shape || [100, 200, 0]; // without channels: a curve
  }

  set(changes) {
    Object.assign(this, changes);
    this.waiting ||= requestAnimationFrame(() => {
      this.waiting = 0;
      const frame = this.frame();
      for (const view of this.views) view.show(frame);
    });
  }

  /** Look at a code, be it that of an image or not. */
  move(z, { image = null, row = null, posterior = null } = {}) {
    this.set({ z: Array.from(z), image, row, posterior });
  }

  /** Look at an image: at its code, which is the mean of its distribution where it has one. */
  see(image, row = null) {
    const { mean, spread } = this.encode(image);
    const z = row === null ? mean : this.codes[row];
    this.move(z, { image, row, posterior: spread ? { mean, spread } : null });
  }

  select(row) { this.see(this.imageOf(row), row); }

  imageOf(row) {
    const image = part(this.told.images, this.pixels, row);
    return this.told.inBytes ? Float64Array.from(image, (byte) => byte / 255) : Float64Array.from(image);
  }

  encode(image) {
    const out = Array.from(run(this.told.encoder, image));
    if (!this.told.variational) return { mean: out };
    return { mean: out.slice(0, this.k), spread: out.slice(this.k).map((logVariance) => Math.exp(logVariance / 2)) };
  }

  /** What follows from the code. */
  frame() {
    const gaps = this.codes.map((code, row) => (row === this.row ? Infinity : squared(code, this.z))); // not its own
    const nearest = gaps.indexOf(Math.min(...gaps)), [classes] = this.told.colourings;
    return {
      drawing: run(this.told.decoder, this.z),
      nearest,
      distance: brief(Math.sqrt(gaps[nearest])),
      kind: classes?.names ? classes.names[classes.values[nearest]] : "",
      fog: this.training.every((code) => squared(code, this.z) > this.told.radius ** 2),
    };
  }
}

/** The two directions of the plane: units of the code, or main directions of the codes, at right angles either way. */
export class Axes {
  constructor({ directions, listed, centre }, k) {
    const main = directions.map((vector, i) => {
      return { name: `direction ${i + 1}`, vector: [...vector], zero: dot(vector, centre), main: true };
    });
    const units = listed.map((unit) => {
      const vector = Array.from({ length: k }, (_, i) => +(i === unit));
      return { name: `unit ${unit}`, vector, zero: 0, main: false };
    });
    this.all = [...main, ...units];
    [this.across, this.up] = this.all;
  }

  /** Take a direction for one axis; the other changes where the two would be the same, or not at right angles. */
  choose(axis, direction) {
    const other = axis === "up" ? "across" : "up", before = this[axis];
    this[axis] = direction;
    if (this[other] === direction) this[other] = before;
    if (this[other].main !== direction.main) {
      this[other] = this.all.find((candidate) => candidate !== direction && candidate.main === direction.main);
    }
  }

  place(z) { return [this.across, this.up].map(({ vector, zero }) => dot(vector, z) - zero); }

  /** The code at a place of the plane through `z`. */
  code([a, b], z) {
    const [x, y] = this.place(z);
    return plus(plus(z, this.across.vector, a - x), this.up.vector, b - y);
  }

  /** How far `z` is, squared, from the plane through another code. */
  beside(z, other) {
    const [x, y] = this.place(z), [a, b] = this.place(other);
    return Math.max(squared(z, other) - (x - a) ** 2 - (y - b) ** 2, 0);
  }

  /** A normal distribution on the plane: x = first u, y = skew u + second v, of standard normal u and v (Cholesky). */
  cholesky(spread) {
    const [across, up] = [this.across, this.up].map(({ vector }) => vector.map((x, i) => x * spread[i]));
    const first = Math.sqrt(dot(across, across)), skew = dot(across, up) / first;
    return { first, skew, second: Math.sqrt(Math.max(dot(up, up) - skew * skew, 0)) };
  }
}

// --- parts of a page ------------------------------------------------------------------------------------------------

function element(tag, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(tag), { className: attributes.class || "" });
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class" || value === false || value === null) continue;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

const button = (text, act, attributes = {}) => element("button", { type: "button", onclick: act, ...attributes }, text);

function select(label, options, chosen, act) {
  const list = element("select", { onchange: () => act(+list.value) });
  list.append(...options.map((name, i) => element("option", { value: i, selected: i === chosen }, name)));
  return { list, label: element("label", {}, label, list) };
}

/** Call `act` with two places on a canvas, in shares of its sides, when a pressed pointer goes from one to another. */
function follow(canvas, act, done = () => {}) {
  let from = null;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    from = at(event);
    act(from, from);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (from === null) return;
    const to = at(event);
    act(from, to);
    from = to;
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => {
    if (from) done();
    from = null;
  });
}

/** Draw marker `i` of tfae.plot (circle, square, triangles, ...) around a place. */
function drawMarker(context, i, x, y, r) {
  const turn = Math.PI / 180;
  const corners = [null, [45, 135, 225, 315], [270, 30, 150], [0, 90, 180, 270], [90, 210, 330], "+", "x",
    [180, 300, 60], [0, 120, 240], "*"][i % 10];
  context.beginPath();
  if (corners === null) context.arc(x, y, r, 0, 7);
  else if (typeof corners === "string") {
    const star = corners === "*", n = star ? 10 : 12, lean = corners === "x" ? 45 : 0;
    for (let k = 0; k < n; k++) {
      const a = (star ? k * 36 - 90 : Math.floor(k / 3) * 90 + [-21, 21, 45][k % 3] + lean) * turn;
      const far = star ? (k % 2 ? 0.5 : 1.3) * r : (k % 3 === 2 ? 0.55 : 1.2) * r;
      context.lineTo(x + far * Math.cos(a), y + far * Math.sin(a));
    }
  } else {
    for (const a of corners) context.lineTo(x + 1.25 * r * Math.cos(a * turn), y + 1.25 * r * Math.sin(a * turn));
  }
  context.fill();
}

/** The colours that the style sheet has now: a page may turn dark. */
function coloursIn(root) {
  const probe = root.appendChild(element("span", { hidden: true })), colours = {};
  for (const name of ["text", "card", "fog", "paper", "ink", "more", "less"]) {
    probe.style.color = `var(--${name})`;
    colours[name] = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
  }
  probe.remove();
  return colours;
}

// --- the plane ------------------------------------------------------------------------------------------------------

/** What colours the points, a class or a number, and what the colours mean. */
class Colouring {
  legend = element("div", { class: "legend" });

  constructor(explorer) {
    this.explorer = explorer;
    this.take(explorer.told.colourings[0] || { values: explorer.codes.map(() => 0), names: [""] });
  }

  take({ name, values, names }) {
    Object.assign(this, { name, values, names, low: Math.min(...values), high: Math.max(...values) });
  }

  /** The colour and the marker of a held-out image. */
  of(row) {
    const { names, low, high } = this, value = this.values[row];
    return names ? [this.ofKind(value), value] : [this.onRamp((value - low) / (high - low || 1)), 0];
  }

  ofKind(i) { // black and dark colours are lightened on a dark ground
    const { told: { palette }, colours: { text } } = this.explorer;
    const own = palette[i % 10].match(/\w\w/g).map((digits) => parseInt(digits, 16));
    return css(text[0] < 128 ? own : mix(own, text, Math.max(...own) ? 0.25 : 1));
  }

  onRamp(share) {
    const { ramp } = this.explorer.told, at = share * (ramp.length - 1), i = Math.min(Math.floor(at), ramp.length - 2);
    return css(mix(ramp[i], ramp[i + 1], at - i));
  }

  drawLegend() {
    this.legend.replaceChildren();
    if (!this.names) {
      const ramp = element("i", { class: "ramp" });
      ramp.style.background = `linear-gradient(90deg, ${this.explorer.told.ramp.map(css).join(", ")})`;
      this.legend.append(`${this.name}: ${brief(this.low)}`, ramp, brief(this.high));
    } else if (this.names.length > 1) this.names.forEach((kind, i) => {
      const swatch = element("canvas", { width: 24, height: 24, "aria-hidden": "true" });
      const context = swatch.getContext("2d");
      context.fillStyle = this.ofKind(i);
      drawMarker(context, i, 12, 12, 7);
      this.legend.append(element("span", {}, swatch, kind));
    });
  }
}

/** The plane of codes: held-out images as points, fog where no training image lies, and the cursor. */
function planeView(explorer, axes) {
  const { told, codes } = explorer, home = explorer.z, colouring = new Colouring(explorer);
  const canvas = element("canvas", {
    class: "plane touch", tabindex: 0, role: "application",
    "aria-label": "Plane of codes. Arrow keys move, Shift makes finer steps, Home goes back to where you began.",
  });
  const context = canvas.getContext("2d");
  let points, left, right, bottom, top; // the places of the codes, and the limits of what is shown
  let wide, high, ratio; // pixels of the page, and pixels of the screen in one of them
  let background = null, through, colours; // what stays while the code moves in the plane through one, and its colours

  const onPage = ([a, b]) => [((a - left) / (right - left)) * wide, ((top - b) / (top - bottom)) * high];

  function layout() {
    points = codes.map((code) => axes.place(code));
    [[left, right], [bottom, top]] = [0, 1].map((axis) => {
      const sorted = points.map((point) => point[axis]).sort((a, b) => a - b);
      const from = sorted[Math.floor(0.005 * sorted.length)], to = sorted[Math.ceil(0.995 * sorted.length) - 1];
      const margin = 0.12 * (to - from || 1);
      return [from - margin, to + margin];
    });
    redraw();
  }

  function resize() {
    [wide, high, ratio] = [canvas.clientWidth || 300, canvas.clientHeight || 300, window.devicePixelRatio || 1];
    Object.assign(canvas, { width: Math.round(wide * ratio), height: Math.round(high * ratio) });
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    redraw();
  }

  function redraw() {
    background = null;
    explorer.set({});
  }

  function show() {
    if (colours !== explorer.colours) {
      ({ colours } = explorer);
      background = null;
      colouring.drawLegend();
    }
    const { z } = explorer;
    if (!background || axes.beside(z, through) > 1e-6 * (1 + dot(z, z))) drawBackground();
    context.drawImage(background, 0, 0, wide, high);
    context.strokeStyle = context.fillStyle = css(colours.text);
    drawPath();
    if (explorer.posterior) drawEllipses(explorer.posterior);
    drawCursor();
  }

  function drawBackground() {
    background = element("canvas", { width: canvas.width, height: canvas.height });
    through = explorer.z;
    const ground = background.getContext("2d"), { names } = colouring;
    ground.scale(ratio, ratio);
    ground.fillStyle = css(colours.card);
    ground.fillRect(0, 0, wide, high);
    drawFog(ground);
    drawPoints(ground);
    if (names && names.length > 1 && names.length <= 20) drawNames(ground, names);
  }

  /** Fog: no training code within the radius in which 19 of 20 held-out codes have one, in all units of the code. */
  function drawFog(ground) {
    const columns = 56, rows = 48, fog = element("canvas", { width: columns, height: rows });
    const image = fog.getContext("2d").createImageData(columns, rows);
    const training = explorer.training.map((code) => [...axes.place(code), axes.beside(code, through)]);
    for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) {
      const x = left + ((column + 0.5) / columns) * (right - left), y = top - ((row + 0.5) / rows) * (top - bottom);
      let nearest = Infinity;
      for (const [a, b, beside] of training) nearest = Math.min(nearest, (a - x) ** 2 + (b - y) ** 2 + beside);
      const density = clamp(Math.sqrt(nearest) / (told.radius || 1e-9) - 1, 0, 1);
      image.data.set([...colours.fog, 215 * density], 4 * (row * columns + column));
    }
    fog.getContext("2d").putImageData(image, 0, 0);
    ground.drawImage(fog, 0, 0, wide, high);
  }

  function drawPoints(ground) {
    ground.globalAlpha = 0.75;
    points.forEach((point, row) => {
      const [colour, marker] = colouring.of(row);
      ground.fillStyle = colour;
      drawMarker(ground, marker, ...onPage(point), 2.6);
    });
    ground.globalAlpha = 1;
  }

  /** The name of each class, in the middle of its points. */
  function drawNames(ground, names) {
    Object.assign(ground, { font: "600 13px system-ui, sans-serif", textAlign: "center", textBaseline: "middle" });
    ground.lineWidth = 1.5;
    names.forEach((name, kind) => {
      const own = points.filter((_, row) => colouring.values[row] === kind);
      if (!own.length) return;
      const median = (axis) => own.map((point) => point[axis]).sort((a, b) => a - b)[own.length >> 1];
      const [x, y] = onPage([median(0), median(1)]), half = ground.measureText(name).width / 2 + 5;
      ground.fillStyle = css(colours.card);
      ground.strokeStyle = colouring.ofKind(kind);
      ground.beginPath();
      ground.roundRect(x - half, y - 10, 2 * half, 20, 5);
      ground.fill();
      ground.stroke();
      ground.fillStyle = css(colours.text);
      ground.fillText(name, x, y);
    });
  }

  function drawPath() {
    const [a, b] = explorer.ends.map((z) => z && onPage(axes.place(z)));
    Object.assign(context, { lineWidth: 2, font: "600 14px system-ui, sans-serif" });
    if (a && b) {
      context.beginPath();
      context.moveTo(...a);
      context.lineTo(...b);
      context.stroke();
    }
    if (a) context.fillText("A", a[0] - 4, a[1] - 14);
    if (b) context.fillText("B", b[0] - 4, b[1] - 14);
  }

  /** One and two standard deviations of q(z|x). */
  function drawEllipses({ mean, spread }) {
    const [a, b] = axes.place(mean), { first, skew, second } = axes.cholesky(spread);
    for (const s of [1, 2]) {
      context.beginPath();
      for (let i = 0; i <= 60; i++) {
        const u = s * Math.cos((i * Math.PI) / 30), v = s * Math.sin((i * Math.PI) / 30);
        context.lineTo(...onPage([a + first * u, b + skew * u + second * v]));
      }
      context.stroke();
    }
  }

  function drawCursor() {
    for (const [width, colour] of [[5, colours.card], [2.5, colours.text]]) {
      context.beginPath();
      context.arc(...onPage(axes.place(explorer.z)), 9, 0, 7);
      Object.assign(context, { lineWidth: width, strokeStyle: css(colour) });
      context.stroke();
    }
  }

  let travelled;
  follow(canvas, (from, to) => {
    travelled = from === to ? 0 : travelled + Math.sqrt(squared(from, to));
    explorer.move(axes.code([left + to[0] * (right - left), top - to[1] * (top - bottom)], explorer.z));
  }, () => { // a tap on a point takes the image that lies there
    const here = onPage(axes.place(explorer.z)), gaps = points.map((point) => squared(onPage(point), here));
    const nearest = gaps.indexOf(Math.min(...gaps));
    if (travelled < 0.01 && gaps[nearest] < 8 ** 2) explorer.select(nearest);
  });

  canvas.addEventListener("keydown", (event) => {
    const [a, b] = axes.place(explorer.z), share = event.shiftKey ? 1 / 200 : 1 / 40;
    const across = share * (right - left), up = share * (top - bottom);
    const to = {
      ArrowLeft: [a - across, b], ArrowRight: [a + across, b], ArrowUp: [a, b + up], ArrowDown: [a, b - up],
    };
    if (event.key in to) explorer.move(axes.code(to[event.key], explorer.z));
    else if (event.key === "Home") explorer.move(home);
    else return;
    event.preventDefault();
  });

  const colourings = select("Colour", told.colourings.map(({ name }) => name), 0, (i) => {
    colouring.take(told.colourings[i]);
    colouring.drawLegend();
    redraw();
  });
  const names = axes.all.map(({ name }) => name);
  const choosers = ["across", "up"].map((axis, i) => select(["Across", "Up"][i], names, i, (chosen) => {
    axes.choose(axis, axes.all[chosen]);
    choosers[0].list.value = axes.all.indexOf(axes.across);
    choosers[1].list.value = axes.all.indexOf(axes.up);
    layout();
  }));
  const controls = element("div", { class: "controls" },
    told.colourings.length > 1 ? colourings.label : null,
    ...(names.length > 2 ? choosers.map(({ label }) => label) : []));

  layout();
  resize();
  const sizes = new ResizeObserver(() => {
    resize();
    if (colours) show(); // at once, so that nothing empty is seen
  });
  sizes.observe(canvas);
  return { canvas, legend: colouring.legend, controls, show, stop: () => sizes.disconnect() };
}

// --- the pictures ---------------------------------------------------------------------------------------------------

/** A sample with words below: an image in ink or in colours, anything else as a curve. */
class Picture {
  constructor(explorer, label, attributes = {}) {
    const { width, height } = explorer;
    this.explorer = explorer;
    this.canvas = element("canvas", { width, height, role: "img", "aria-label": label, ...attributes });
    this.context = this.canvas.getContext("2d");
    this.frame = element("div", { class: "frame" }, this.canvas);
    this.caption = element("figcaption", {}, label);
    this.figure = element("figure", {}, this.frame, this.caption);
  }

  say(text) { this.caption.textContent = text; }

  clear() { this.context.clearRect(0, 0, this.canvas.width, this.canvas.height); }

  draw(sample) {
    const { range: [low, high] } = this.explorer.told, { paper, ink } = this.explorer.colours;
    const share = (v) => clamp((v - low) / (high - low), 0, 1);
    const toColour = (v) => (v.length === 3 ? v.map((x) => 255 * share(x)) : mix(paper, ink, share(v[0])));
    this.paint(sample, [low, high], toColour);
  }

  /** Draw numbers in [-1, 1]: blue above zero, orange below. */
  drawSigned(numbers) {
    const { paper, more, less } = this.explorer.colours;
    this.paint(numbers, [-1, 1], (v) => {
      const mean = v.reduce((sum, x) => sum + x) / v.length;
      return mix(paper, mean > 0 ? more : less, Math.abs(mean));
    });
  }

  paint(sample, [low, high], toColour) {
    const { width, height } = this.canvas, { channels, colours } = this.explorer;
    if (channels) {
      const image = this.context.createImageData(width, height);
      for (let i = 0; i < width * height; i++) image.data.set([...toColour(part(sample, channels, i)), 255], 4 * i);
      this.context.putImageData(image, 0, 0);
    } else {
      this.clear();
      this.context.strokeStyle = css(colours.ink);
      this.context.beginPath();
      sample.forEach((v, i) => {
        this.context.lineTo((i / (sample.length - 1)) * width, height * (0.95 - (0.9 * (v - low)) / (high - low)));
      });
      this.context.stroke();
    }
  }
}

/** The image that the code is of; where it is one of grey, a pad to draw on. */
function inputView(explorer) {
  const { told, width, height, channels, pixels } = explorer, draws = told.shape && channels === 1 && told.inBytes;
  const picture = new Picture(explorer, draws ? "Draw here" : "Held-out sample");
  const hint = element("div", { class: "hint" }, "with mouse or finger");

  /** Return the image with one more stroke of the pen: ink near a line, with soft edges. */
  function stroke(image, from, to) {
    const [x, y, dx, dy] = [from[0] * width, from[1] * height, (to[0] - from[0]) * width, (to[1] - from[1]) * height];
    return image.map((ink, i) => {
      const px = (i % width) + 0.5 - x, py = Math.floor(i / width) + 0.5 - y;
      const t = clamp((px * dx + py * dy) / (dx * dx + dy * dy || 1), 0, 1);
      return Math.max(ink, clamp(height / 22 + 0.5 - Math.hypot(px - t * dx, py - t * dy), 0, 1));
    });
  }

  if (draws) {
    picture.canvas.classList.add("touch");
    picture.frame.append(hint);
    follow(picture.canvas, (from, to) => explorer.see(stroke(explorer.image || new Float64Array(pixels), from, to)));
  }

  function show() {
    hint.hidden = Boolean(explorer.image);
    if (explorer.image) picture.draw(explorer.image);
    else picture.clear();
  }

  return { figure: picture.figure, draws, show };
}

/** What the decoder draws; a pixel of it can be touched. */
function drawingView(explorer) {
  const { told, width, height, channels } = explorer;
  const picture = new Picture(explorer, "The decoder draws", {
    tabindex: 0, role: "application", "aria-label": "What the decoder draws. Arrow keys choose a pixel.",
  });
  const pointer = element("div", { class: "pixel", hidden: true });
  picture.frame.append(pointer);

  const touch = (column, row) => {
    explorer.set({ pixel: clamp(row, 0, height - 1) * width + clamp(column, 0, width - 1) });
  };

  if (told.shape) {
    picture.canvas.classList.add("touch");
    follow(picture.canvas, (_, [x, y]) => touch(Math.floor(x * width), Math.floor(y * height)));
    picture.canvas.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      const at = explorer.pixel ?? (height >> 1) * width + (width >> 1);
      if (by) touch((at % width) + by[0], Math.floor(at / width) + by[1]);
      else if (event.key === "Escape") explorer.set({ pixel: null });
      else return;
      event.preventDefault();
    });
  }

  function show({ drawing }) {
    const { pixel } = explorer;
    picture.draw(drawing);
    pointer.hidden = pixel === null;
    picture.say(pixel === null ? "The decoder draws" : `This pixel: ${drawing[pixel * channels].toFixed(2)}`);
    if (pixel === null) return;
    const left = (100 * (pixel % width)) / width, top = (100 * Math.floor(pixel / width)) / height;
    pointer.style.cssText = `left: ${left}%; top: ${top}%; width: ${100 / width}%; height: ${100 / height}%`;
  }

  return { figure: picture.figure, show };
}

function nearestView(explorer) {
  const picture = new Picture(explorer, "Nearest held-out image");

  function show({ nearest, kind, distance }) {
    picture.draw(explorer.imageOf(nearest));
    picture.say(`Nearest: ${kind ? `${kind}, ` : ""}${distance} away`);
  }

  return { figure: picture.figure, show };
}

/** What a touched unit draws, or else the squared error of each pixel; and the error beside the alarm's threshold. */
function errorView(explorer) {
  const { told, pixels } = explorer, picture = new Picture(explorer, "Squared error");
  const gauge = element("div", { class: "gauge", "aria-hidden": "true" }, element("i"), element("b"));
  const verdict = element("p", { class: "verdict" });

  function show({ drawing }) {
    const { image, unit } = explorer, errors = image && drawing.map((v, i) => (v - image[i]) ** 2);
    if (unit !== null) {
      const slopes = derivative(told.decoder, explorer.z, unit, drawing);
      const most = Math.max(...slopes.map(Math.abs), 1e-12);
      picture.drawSigned(slopes.map((v) => v / most));
      picture.say(`unit ${unit}: + blue, − orange`);
    } else if (errors) {
      const most = Math.max(...errors, 1e-9);
      picture.drawSigned(errors.map((v) => -v / most));
      picture.say("Squared error");
    } else {
      picture.clear();
      picture.say("Touch a unit below");
    }
    verdict.hidden = gauge.hidden = !image;
    if (image) judge(errors.reduce((sum, v) => sum + v) / pixels);
  }

  function judge(error) {
    const alarm = error > told.threshold;
    gauge.firstChild.style.width = `${clamp((50 * error) / told.threshold, 1, 100)}%`;
    gauge.classList.toggle("alarm", alarm);
    verdict.textContent = `Error per pixel ${brief(error)}, ${alarm ? "above" : "below"} the alarm at `
      + `${brief(told.threshold)}, which ${(100 * told.alarms).toFixed(0)} % of held-out images exceed`;
  }

  return { figure: picture.figure, gauge, verdict, show };
}

// --- the units ------------------------------------------------------------------------------------------------------

/** A row: a name to press, a slider, a number. */
class Slider {
  constructor(name, { label = null, rangeLabel, low, high, press, slide }) {
    this.name = button(name, press, { "aria-label": label });
    this.range = element("input", {
      type: "range", min: low, max: high, step: "any", "aria-label": rangeLabel,
      oninput: () => slide(+this.range.value),
    });
    this.number = element("span", { class: "value" });
    this.row = element("div", { class: "unit" }, this.name, this.range, this.number);
  }

  show(value, pressed, number = value) {
    if (+this.range.value !== value) this.range.value = value;
    this.name.setAttribute("aria-pressed", pressed);
    this.number.textContent = brief(number);
  }
}

/** A slider for each unit; where a pixel is touched, a bar that says how the unit changes it. */
function unitsView(explorer) {
  const { told, codes, channels, k } = explorer, listed = told.listed.length;
  let shown = null; // the pixel
  const note = element("p", { class: "note" });
  const sliders = told.listed.map((unit) => {
    const values = codes.map((code) => code[unit]), low = Math.min(...values), high = Math.max(...values);
    const margin = 0.15 * (high - low || 1), bar = element("i");
    const slider = new Slider(`unit ${unit}`, {
      label: `what unit ${unit} draws`, rangeLabel: `unit ${unit}`, low: low - margin, high: high + margin,
      press: () => explorer.set({ unit: explorer.unit === unit ? null : unit }),
      slide: (value) => explorer.move(explorer.z.map((x, i) => (i === unit ? value : x))),
    });
    slider.row.append(element("div", { class: "bar" }, bar));
    return Object.assign(slider, { unit, bar });
  });
  const list = element("details", { class: "units", open: k <= 8 },
    element("summary", {}, listed < k ? `The ${listed} of ${k} units that vary most` : `The ${k} units of the code`),
    note,
    element("div", { class: "list", role: "group", "aria-label": "units" }, ...sliders.map(({ row }) => row)));

  function show({ drawing }) {
    const { z, pixel } = explorer, touched = pixel !== null;
    if (touched && pixel !== shown) list.open = true; // the answer is in the list
    shown = pixel;
    const numbers = sliders.map(({ unit }) => {
      return touched ? derivative(told.decoder, z, unit, drawing)[pixel * channels] : z[unit];
    });
    const most = Math.max(...numbers.map(Math.abs), 1e-12);
    sliders.forEach((slider, i) => {
      const share = touched ? numbers[i] / most : 0;
      slider.show(z[slider.unit], explorer.unit === slider.unit, numbers[i]);
      slider.bar.style.cssText = `width: ${50 * Math.abs(share)}%; ${share < 0 ? "right" : "left"}: 50%;`
        + `background: var(--${share < 0 ? "less" : "more"})`;
    });
    note.textContent = touched
      ? "Bars and numbers: how the chosen pixel changes with each unit."
      : "Touch a unit's name: what it draws. Touch a pixel of the drawing: which units draw it.";
  }

  return { list, show };
}

/** The features of a dictionary that fire at a code, each to be turned down, off or up, all else left as it is. */
function featuresView(explorer) {
  const { network, directions, strongest } = explorer.told.dictionary, words = table(directions, explorer.k);
  let from, fires, sliders, z = null; // the code that was come from, what fires there, and the code now made of it

  const rows = element("div", { class: "list", role: "group", "aria-label": "features" });
  const chosen = element("input", {
    type: "number", min: 0, max: words.length - 1, value: 0, "aria-label": "number of a feature",
  });
  const list = element("details", { class: "units", ontoggle: () => explorer.set({}) },
    element("summary", {}, "Features of the dictionary"),
    element("p", { class: "note" }, "Those that fire here, the strongest first. Switch one off, or turn it up."),
    rows,
    element("div", { class: "buttons" }, chosen, button("Add this feature", () => {
      const feature = clamp(Math.round(+chosen.value) || 0, 0, words.length - 1);
      if (!sliders.has(feature)) add(feature);
      turn(feature, strongest[feature]);
    })));

  function begin() {
    from = z = explorer.z;
    fires = run(network, from);
    sliders = new Map();
    rows.replaceChildren();
    const firing = Array.from(fires.keys()).filter((feature) => fires[feature] > 0);
    firing.sort((a, b) => fires[b] - fires[a]).slice(0, 12).forEach(add);
  }

  function add(feature) {
    const usual = fires[feature] || strongest[feature], most = Math.max(strongest[feature], fires[feature]) || 1;
    const slider = new Slider(`feature ${feature}`, {
      rangeLabel: `strength of feature ${feature}`, low: 0, high: 1.5 * most,
      press: () => turn(feature, slider.strength > 0 ? 0 : usual),
      slide: (strength) => turn(feature, strength),
    });
    sliders.set(feature, slider);
    rows.append(slider.row);
    set(slider, fires[feature]);
  }

  function set(slider, strength) {
    slider.strength = strength;
    slider.show(strength, strength > 0);
  }

  function turn(feature, strength) {
    set(sliders.get(feature), strength);
    let code = from;
    for (const [i, slider] of sliders) code = plus(code, words[i], slider.strength - fires[i]);
    explorer.move(code, { image: explorer.image, row: explorer.row });
    ({ z } = explorer);
  }

  return { list, show: () => { if (list.open && z !== explorer.z) begin(); } };
}

// --- ways through the code ------------------------------------------------------------------------------------------

function pathView(explorer) {
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const at = element("input", {
    type: "range", min: 0, max: 1, step: 0.01, value: 0, "aria-label": "place on the path from A to B",
    oninput: () => explorer.move(mix(...explorer.ends, +at.value)),
  });
  const play = button("Play", () => {
    const start = performance.now();
    const go = (now) => {
      const t = clamp((now - start) / 3000, 0, 1);
      at.value = still.matches ? Math.round(4 * t) / 4 : t; // without motion: five pictures
      explorer.move(mix(...explorer.ends, +at.value));
      if (t < 1 && at.isConnected) requestAnimationFrame(go);
    };
    requestAnimationFrame(go);
  });
  const setEnd = (i) => () => explorer.set({ ends: explorer.ends.with(i, explorer.z) });
  const row = element("div", { class: "path" },
    button("A: start here", setEnd(0)), button("B: end here", setEnd(1)), at, play);

  return { row, show: () => { at.disabled = play.disabled = explorer.ends.includes(null); } };
}

/** Buttons that go somewhere at once. */
function jumps(explorer, draws) {
  const { told, codes } = explorer;
  const draw = () => { // another code from q(z|x)
    const { image, row, posterior } = explorer;
    explorer.move(posterior.mean.map((mean, i) => mean + posterior.spread[i] * normal()), { image, row, posterior });
  };
  const another = told.variational ? button("Another code of this image", draw) : null;
  const row = element("div", { class: "buttons" },
    button("Another held-out image", () => explorer.select(Math.floor(Math.random() * codes.length))),
    draws ? button("Clear", () => explorer.move(explorer.z)) : null,
    told.variational ? button("Sample the prior", () => explorer.move(explorer.z.map(normal))) : null,
    another);

  return { row, show: () => { if (another) another.disabled = !explorer.posterior; } };
}

// --- what is said ---------------------------------------------------------------------------------------------------

/** Where the code is, in a line that a screen reader reads out: at most three times a second. */
function statusView(explorer, axes) {
  const line = element("p", { class: "status", "aria-live": "polite" });
  let spoken = 0, speaking = 0;

  function show({ kind, distance, fog }) {
    const [a, b] = axes.place(explorer.z).map(brief);
    const text = `${axes.across.name}: ${a}, ${axes.up.name}: ${b}. `
      + (kind ? `Nearest is a ${kind}, ${distance} away. ` : "")
      + (fog ? "No training image lies near this place." : "Training images lie here.");
    clearTimeout(speaking);
    speaking = setTimeout(() => {
      line.textContent = text;
      spoken = Date.now();
    }, Math.max(0, spoken + 350 - Date.now()));
  }

  return { line, show };
}

/** How far this network is from Keras's: the largest difference in the code and in the drawing of one image. */
function apart(explorer) {
  const { encoder, decoder, check: [code, drawing] } = explorer.told;
  const gap = (a, b) => a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), 0);
  return Math.max(gap(run(encoder, explorer.imageOf(0)), code), gap(run(decoder, explorer.codes[0]), drawing));
}

function footer({ precision, radius, variational }, gap) {
  return `The network runs here, in your browser (${precision} weights): on one image its code and its drawing are `
    + `within ${gap.toExponential(0)} of Keras's. Fog: no training image lies within ${brief(radius)}, where 19 of 20 `
    + "held-out images have one."
    + (variational ? " Ellipses: one and two standard deviations of the image's distribution of codes." : "");
}

// --- the explorer in its surroundings -------------------------------------------------------------------------------

/** Keep `code` and `selected` the same in Python and here. */
function traits(explorer, model) {
  const { rows } = explorer.told;
  let sending = 0;

  const fromCode = () => { if (!same(model.get("code"), explorer.z)) explorer.move(model.get("code")); };
  const fromSelected = () => {
    const row = rows.indexOf(model.get("selected"));
    if (row >= 0 && row !== explorer.row) explorer.select(row);
  };
  model.on("change:code", fromCode);
  model.on("change:selected", fromSelected);

  function show() {
    const selected = explorer.row === null ? null : rows[explorer.row];
    if (!same(model.get("code"), explorer.z)) model.set("code", explorer.z);
    if (model.get("selected") !== selected) model.set("selected", selected);
    clearTimeout(sending);
    sending = setTimeout(() => model.save_changes(), 100);
  }

  function stop() {
    model.off("change:code", fromCode);
    model.off("change:selected", fromSelected);
  }

  return { show, stop };
}

/** Keep to the colours of the page around, which may turn dark. */
function watchColours(explorer, root) {
  const read = () => explorer.set({ colours: coloursIn(root) });
  const dark = matchMedia("(prefers-color-scheme: dark)"), themes = new MutationObserver(read);
  dark.addEventListener("change", read);
  for (const page of [document.documentElement, document.body]) {
    themes.observe(page, { attributes: true, attributeFilter: ["data-theme", "data-jp-theme-light"] });
  }
  read();
  return { stop() { dark.removeEventListener("change", read); themes.disconnect(); } };
}

async function render({ model, el }) {
  const told = await read(model.get("content")), explorer = new Explorer(told), axes = new Axes(told, explorer.k);
  if (model.get("code").length) explorer.z = Array.from(model.get("code"));

  const plane = planeView(explorer, axes), status = statusView(explorer, axes);
  const input = inputView(explorer), drawing = drawingView(explorer), nearest = nearestView(explorer);
  const error = errorView(explorer), path = pathView(explorer), units = unitsView(explorer);
  const jump = jumps(explorer, input.draws);
  const features = told.dictionary ? featuresView(explorer) : { list: null, show() {} };
  const shared = traits(explorer, model);
  explorer.views = [plane, input, drawing, nearest, error, jump, path, units, features, status, shared];

  const gap = apart(explorer);
  const root = element("div", { class: "tfae-explorer", "data-lm-suppress-shortcuts": true, "data-apart": gap },
    element("p", { class: "intro" },
      "Drag across the plane: the decoder draws what lies there. Tap a point: that held-out image."
      + (input.draws ? " Draw a digit of your own: it is encoded while you draw." : "")),
    element("div", { class: "stage" },
      element("div", { class: "place" }, plane.canvas, plane.legend),
      element("div", { class: "side" },
        element("div", { class: "pictures" }, input.figure, drawing.figure, nearest.figure, error.figure),
        error.gauge, error.verdict, jump.row, path.row),
      element("div", { class: "below" }, status.line, plane.controls, units.list, features.list)),
    element("p", { class: "note footer" }, footer(told, gap)));
  root.addEventListener("keydown", (event) => event.stopPropagation()); // JupyterLab would take them for its own
  el.append(root);

  const colours = watchColours(explorer, root), row = told.rows.indexOf(model.get("selected") ?? -1);
  if (row >= 0) explorer.select(row);
  return () => [plane, shared, colours].forEach((part) => part.stop());
}

export default { render };
