// A latent space to touch. First the network, layer by layer, in plain JavaScript; then what is seen and touched.
//
// One module without imports: a notebook runs it through anywidget, a page without a kernel runs the same text. What
// Python sends (`content`) is described in explorer.py. A value of a network is { shape, data }, without a batch axis,
// channels last; it is computed in float64, so that differences of drawings are derivatives.

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

// --- what is seen ---------------------------------------------------------------------------------------------------

const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
const plus = (a, b, t = 1) => a.map((x, i) => x + t * b[i]);
const squared = (a, b) => a.reduce((sum, x, i) => sum + (x - b[i]) ** 2, 0);
const mix = (a, b, t) => a.map((x, i) => x + (b[i] - x) * t);
const css = (colour) => `rgb(${colour.map(Math.round).join(" ")})`;
const brief = (x) => (Math.abs(x) >= 100 ? x.toFixed(0) : x.toPrecision(3)).replace("-", "−");

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

/** Draw marker `i` of tfae.plot (circle, square, triangles, ...) around a place. */
function mark(context, i, x, y, r) {
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

async function render({ model, el }) {
  const told = await read(model.get("content"));
  const { encoder, decoder, palette } = told;
  const k = size(decoder.shape), n = told.rows.length, pixels = size(encoder.shape);
  const units = (row, array = told.points) => Array.from(array.subarray(row * k, (row + 1) * k));
  const imageOf = (row) => {
    const part = told.images.subarray(row * pixels, (row + 1) * pixels);
    return told.inBytes ? Float64Array.from(part, (byte) => byte / 255) : Float64Array.from(part);
  };
  const [height, width, channels] = told.shape || [100, 200, 0];
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const state = { // what is looked at: a code; the image that it is of, if any; what is touched; a path; a dictionary
    z: units(0), input: null, posterior: null, selected: null, unit: null, pixel: null, ends: [null, null],
    features: null,
  };
  const home = model.get("code").length ? model.get("code") : units(0);

  // The places of the page.

  const picture = (label, attributes = {}) => {
    const canvas = element("canvas", { width, height, role: "img", "aria-label": label, ...attributes });
    const caption = element("figcaption", {}, label);
    return { canvas, caption, figure: element("figure", {}, element("div", { class: "frame" }, canvas), caption) };
  };
  const draws = told.shape && channels === 1 && told.inBytes;
  const input = picture(draws ? "Draw here" : "Held-out sample");
  const drawn = picture("The decoder draws", {
    tabindex: 0, role: "application", "aria-label": "What the decoder draws. Arrow keys choose a pixel.",
  });
  const near = picture("Nearest held-out image");
  const change = picture("Squared error");
  const pointer = element("div", { class: "pixel", hidden: true });
  drawn.canvas.after(pointer);
  const hint = element("div", { class: "hint" }, "with mouse or finger");
  if (draws) input.canvas.after(hint);
  for (const { canvas } of [...(draws ? [input] : []), ...(told.shape ? [drawn] : [])]) canvas.classList.add("touch");

  const plane = element("canvas", {
    class: "plane touch", tabindex: 0, role: "application",
    "aria-label": "Plane of codes. Arrow keys move, Shift makes finer steps, Home goes back to where you began.",
  });
  const status = element("p", { class: "status", "aria-live": "polite" });
  const gauge = element("div", { class: "gauge", "aria-hidden": "true" }, element("i"), element("b"));
  const verdict = element("p", { class: "verdict" });
  const button = (text, act) => element("button", { type: "button", onclick: act }, text);

  // The directions of the plane: code units, or main directions of the codes, which need the code to be longer than 2.

  const unitVector = (unit) => Array.from({ length: k }, (_, i) => +(i === unit));
  const directions = [
    ...told.directions.map((array, i) => ({ name: `direction ${i + 1}`, vector: Array.from(array), main: true })),
    ...told.listed.map((unit) => ({ name: `unit ${unit}`, vector: unitVector(unit), main: false })),
  ];
  const select = (options, chosen, act) => {
    const made = element("select", { onchange: () => act(+made.value) });
    made.append(...options.map((name, i) => element("option", { value: i, selected: i === chosen }, name)));
    return made;
  };
  const axes = { across: directions[0], up: directions[1] };
  const names = directions.map(({ name }) => name);
  const choosers = {
    across: select(names, 0, (i) => choose("across", "up", i)),
    up: select(names, 1, (i) => choose("up", "across", i)),
  };
  function choose(axis, other, i) { // the two stay at right angles: two units or two main directions, never one twice
    const before = axes[axis], chosen = axes[axis] = directions[i];
    if (axes[other] === chosen) axes[other] = before;
    if (axes[other].main !== chosen.main) axes[other] = directions.find((d) => d !== chosen && d.main === chosen.main);
    choosers[other].value = directions.indexOf(axes[other]);
    layout();
  }
  const colourBy = { ...(told.colourings[0] || { name: "none", values: new Float32Array(n), names: [""] }) };
  const legend = element("div", { class: "legend" });

  const coordinate = (z, { vector, main }) => dot(vector, z) - (main ? dot(vector, Array.from(told.centre)) : 0);
  let places, bounds, background; // points on the plane, its limits, and all that does not move
  const scale = { x: 1, y: 1 };
  const toPlane = (a, b) => [(a - bounds[0]) * scale.x, (bounds[3] - b) * scale.y];
  const here = (z = state.z) => [coordinate(z, axes.across), coordinate(z, axes.up)];
  const moveTo = (a, b) => {
    const [x, y] = here();
    setCode(plus(plus(state.z, axes.across.vector, a - x), axes.up.vector, b - y));
  };

  function layout() {
    places = Array.from({ length: n }, (_, i) => here(units(i)));
    const ends = (j) => {
      const sorted = places.map((place) => place[j]).sort((a, b) => a - b);
      const low = sorted[Math.floor(0.005 * n)], high = sorted[Math.ceil(0.995 * n) - 1];
      const gap = 0.12 * (high - low || 1);
      return [low - gap, high + gap];
    };
    const [left, right] = ends(0), [bottom, top] = ends(1);
    bounds = [left, right, bottom, top];
    resize();
  }

  function resize() {
    const ratio = window.devicePixelRatio || 1;
    plane.width = Math.round(plane.clientWidth * ratio) || 300;
    plane.height = Math.round(plane.clientHeight * ratio) || 300;
    scale.x = plane.width / (bounds[1] - bounds[0]);
    scale.y = plane.height / (bounds[3] - bounds[2]);
    background = null;
    refresh();
  }

  const probe = element("span", { hidden: true });
  const colour = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
  };
  const colourOf = (i) => { // black and dark colours are lightened on a dark ground
    const own = palette[i % 10].match(/\w\w/g).map((digits) => parseInt(digits, 16)), text = colour("text");
    return css(text[0] < 128 ? own : mix(own, text, Math.max(...own) ? 0.25 : 1));
  };
  const onRamp = (t) => {
    const at = clamp(t, 0, 1) * (told.ramp.length - 1), low = Math.min(Math.floor(at), told.ramp.length - 2);
    return css(mix(told.ramp[low], told.ramp[low + 1], at - low));
  };

  /** Draw fog where no training code is near, the points and the names of the classes. */
  function drawBackground() {
    background = element("canvas", { width: plane.width, height: plane.height });
    const context = background.getContext("2d"), ratio = window.devicePixelRatio || 1, r = 2.6 * ratio;
    context.fillStyle = css(colour("card"));
    context.fillRect(0, 0, plane.width, plane.height);
    drawFog(context);
    const { values, names: kinds } = colourBy, low = Math.min(...values), high = Math.max(...values);
    context.globalAlpha = 0.75;
    places.forEach(([a, b], i) => {
      context.fillStyle = kinds ? colourOf(values[i]) : onRamp((values[i] - low) / (high - low || 1));
      mark(context, kinds ? values[i] : 0, ...toPlane(a, b), r);
    });
    context.globalAlpha = 1;
    context.font = `600 ${13 * ratio}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    if (kinds && kinds.length > 1 && kinds.length <= 20) kinds.forEach((name, kind) => {
      const own = places.filter((_, i) => values[i] === kind);
      if (!own.length) return;
      const middle = (j) => own.map((place) => place[j]).sort((a, b) => a - b)[own.length >> 1];
      const [x, y] = toPlane(middle(0), middle(1)), wide = context.measureText(name).width / 2 + 5 * ratio;
      context.fillStyle = css(colour("card"));
      context.strokeStyle = colourOf(kind);
      context.lineWidth = 1.5 * ratio;
      context.beginPath();
      context.roundRect(x - wide, y - 10 * ratio, 2 * wide, 20 * ratio, 5 * ratio);
      context.fill();
      context.stroke();
      context.fillStyle = css(colour("text"));
      context.fillText(name, x, y);
    });
  }

  /** Fog: no training code within the radius in which 19 of 20 held-out codes have one, in all units of the code. */
  function drawFog(context) {
    const columns = 56, lines = 48, fog = element("canvas", { width: columns, height: lines });
    const image = fog.getContext("2d").createImageData(columns, lines), grey = colour("fog");
    const [a, b] = here(), count = told.training.length / k;
    const codes = Array.from({ length: count }, (_, i) => {
      const z = units(i, told.training), [x, y] = here(z);
      return [x, y, Math.max(squared(z, state.z) - (x - a) ** 2 - (y - b) ** 2, 0)]; // the last: beside the plane
    });
    for (let row = 0; row < lines; row++) for (let column = 0; column < columns; column++) {
      const x = bounds[0] + ((column + 0.5) / columns) * (bounds[1] - bounds[0]);
      const y = bounds[3] - ((row + 0.5) / lines) * (bounds[3] - bounds[2]);
      let least = Infinity;
      for (const [u, v, beside] of codes) least = Math.min(least, (u - x) ** 2 + (v - y) ** 2 + beside);
      const alpha = clamp(Math.sqrt(least) / (told.radius || 1e-9) - 1, 0, 1);
      image.data.set([...grey, 215 * alpha], 4 * (row * columns + column));
    }
    fog.getContext("2d").putImageData(image, 0, 0);
    context.drawImage(fog, 0, 0, plane.width, plane.height);
  }

  function drawPlane() {
    if (!background) drawBackground();
    const context = plane.getContext("2d"), ratio = window.devicePixelRatio || 1, strong = css(colour("text"));
    context.drawImage(background, 0, 0);
    context.strokeStyle = context.fillStyle = strong;
    context.lineWidth = 2 * ratio;
    context.font = `600 ${14 * ratio}px system-ui, sans-serif`;
    const ends = state.ends.map((z) => z && toPlane(...here(z)));
    if (ends[0] && ends[1]) {
      context.beginPath();
      context.moveTo(...ends[0]);
      context.lineTo(...ends[1]);
      context.stroke();
    }
    ends.forEach((end, i) => end && context.fillText("AB"[i], end[0] - 4 * ratio, end[1] - 14 * ratio));
    if (state.posterior) drawEllipse(context);
    const [x, y] = toPlane(...here());
    for (const [r, line, stroke] of [[9, 5, css(colour("card"))], [9, 2.5, strong]]) {
      context.beginPath();
      context.arc(x, y, r * ratio, 0, 7);
      context.lineWidth = line * ratio;
      context.strokeStyle = stroke;
      context.stroke();
    }
  }

  /** Draw one and two standard deviations of q(z|x) on the plane. */
  function drawEllipse(context) {
    const { mean, spread } = state.posterior, [a, b] = here(mean);
    const across = axes.across.vector.map((x, i) => x * spread[i]), up = axes.up.vector.map((x, i) => x * spread[i]);
    const first = Math.sqrt(dot(across, across)), skew = dot(across, up) / first;
    const second = Math.sqrt(Math.max(dot(up, up) - skew * skew, 0)); // a Cholesky factor of the covariance
    for (const s of [1, 2]) {
      context.beginPath();
      for (let i = 0; i <= 60; i++) {
        const [c, d] = [Math.cos(i * Math.PI / 30) * s, Math.sin(i * Math.PI / 30) * s];
        context.lineTo(...toPlane(a + first * c, b + skew * c + second * d));
      }
      context.stroke();
    }
  }

  // Pictures: ink on paper, colours, or a curve.

  const ink = (v) => mix(colour.paper, colour.ink, clamp(v, 0, 1));
  const signed = (v) => mix(colour.paper, v > 0 ? colour.more : colour.less, Math.min(Math.abs(v), 1));

  function paint({ canvas }, values, tone = ink) {
    const context = canvas.getContext("2d");
    if (!values) return context.clearRect(0, 0, width, height);
    if (!told.shape) return paintCurve(context, values, tone === ink ? told.range : [-1, 1]);
    const image = context.createImageData(width, height), colourful = channels === 3 && tone === ink;
    for (let i = 0; i < width * height; i++) {
      const own = values.subarray(i * channels, (i + 1) * channels);
      const [low, high] = told.range, share = Array.from(own, (v) => (tone === ink ? (v - low) / (high - low) : v));
      const shown = colourful ? share.map((v) => 255 * clamp(v, 0, 1)) : tone(share.reduce((a, b) => a + b) / channels);
      image.data.set([...shown, 255], 4 * i);
    }
    context.putImageData(image, 0, 0);
  }

  function paintCurve(context, values, [low, high]) {
    context.clearRect(0, 0, width, height);
    context.strokeStyle = css(colour.ink);
    context.beginPath();
    values.forEach((v, i) => {
      context.lineTo((i / (values.length - 1)) * width, height * (0.95 - (0.9 * (v - low)) / (high - low)));
    });
    context.stroke();
  }

  // What is done.

  const encode = (x) => {
    const out = Array.from(run(encoder, x));
    if (!told.variational) return { mean: out };
    return { mean: out.slice(0, k), spread: out.slice(k).map((v) => Math.exp(v / 2)) };
  };

  function setCode(z, { image = null, row = null, posterior = null, features = null } = {}) {
    const moved = plus(z, state.z, -1), within = dot(moved, axes.across.vector) ** 2 + dot(moved, axes.up.vector) ** 2;
    if (dot(moved, moved) - within > 1e-9 * (1 + dot(z, z))) background = null; // it has left the plane of the fog
    Object.assign(state, { z: Array.from(z), input: image, selected: row, posterior, features });
    refresh();
  }

  function setImage(image, row = null) {
    const { mean, spread } = encode(image);
    setCode(row === null ? mean : units(row), { image, row, posterior: spread ? { mean, spread } : null });
  }

  const selectRow = (row) => setImage(imageOf(row), row);

  // Once a frame: everything that follows from the code.

  let waiting = 0, spoken = 0, speaking = 0, sending = 0;
  const refresh = () => { waiting ||= requestAnimationFrame(update); };

  function update() {
    waiting = 0;
    if (!el.isConnected) return;
    const drawing = run(decoder, state.z);
    paint(drawn, drawing);
    paint(input, state.input);
    hint.hidden = Boolean(state.input);
    const nearest = nearestTo(state.z, state.selected);
    paint(near, imageOf(nearest.row));
    const [kind] = told.colourings, what = kind && kind.names ? kind.names[kind.values[nearest.row]] : "";
    const distance = brief(Math.sqrt(nearest.squared));
    near.caption.textContent = `Nearest: ${what ? `${what}, ` : ""}${distance} away`;
    showError(drawing);
    showUnits(drawing);
    if (told.dictionary && featureList.open && !state.features) showFeatures();
    drawPlane();
    const fog = foggy();
    say(`${names[directions.indexOf(axes.across)]}: ${brief(here()[0])}, ${names[directions.indexOf(axes.up)]}: `
      + `${brief(here()[1])}. ${what ? `Nearest is a ${what}, ${distance} away. ` : ""}`
      + (fog ? "No training image lies near this place." : "Training images lie here."));
    publish();
  }

  function nearestTo(z, except) { // a held-out image is not its own neighbour
    let best = { row: 0, squared: Infinity };
    for (let row = 0; row < n; row++) {
      let sum = row === except ? Infinity : 0;
      for (let i = 0, at = row * k; i < k && sum < best.squared; i++, at++) sum += (told.points[at] - z[i]) ** 2;
      if (sum < best.squared) best = { row, squared: sum };
    }
    return best;
  }

  function foggy() {
    for (let at = 0; at < told.training.length; at += k) {
      let sum = 0;
      for (let i = 0; i < k; i++) sum += (told.training[at + i] - state.z[i]) ** 2;
      if (sum <= told.radius ** 2) return false;
    }
    return true;
  }

  function showError(drawing) {
    const { input: x } = state;
    verdict.hidden = gauge.hidden = !x;
    if (x) {
      const error = squared(drawing, x) / pixels, alarm = error > told.threshold;
      gauge.firstChild.style.width = `${clamp(50 * error / told.threshold, 1, 100)}%`;
      gauge.classList.toggle("alarm", alarm);
      verdict.textContent = `Error per pixel ${brief(error)}, ${alarm ? "above" : "below"} the alarm at `
        + `${brief(told.threshold)}, which ${(100 * told.alarms).toFixed(0)} % of held-out images exceed`;
    }
    if (state.unit !== null) return;
    change.caption.textContent = x ? "Squared error" : "Touch a unit below";
    const errors = x && drawing.map((v, i) => (v - x[i]) ** 2), most = x && Math.max(...errors, 1e-9);
    paint(change, x ? errors.map((v) => -v / most) : null, signed);
  }

  /** Show each unit's value, and, where a unit or a pixel is touched, the decoder's derivatives. */
  function showUnits(drawing) {
    if (state.unit !== null) {
      const d = derivative(decoder, state.z, state.unit, drawing), most = Math.max(...d.map(Math.abs), 1e-12);
      paint(change, d.map((v) => v / most), signed);
      change.caption.textContent = `unit ${state.unit}: + blue, − orange`;
    }
    let slopes = null;
    if (state.pixel !== null) {
      const at = state.pixel * Math.max(channels, 1);
      slopes = sliders.map(({ unit }) => derivative(decoder, state.z, unit, drawing)[at]);
      const column = state.pixel % width, row = Math.floor(state.pixel / width);
      pointer.style.cssText = `left: ${(100 * column) / width}%; top: ${(100 * row) / height}%;`
        + `width: ${100 / width}%; height: ${100 / height}%`;
      drawn.caption.textContent = `This pixel: ${drawing[at].toFixed(2)}`;
    } else drawn.caption.textContent = "The decoder draws";
    pointer.hidden = state.pixel === null;
    const most = slopes && Math.max(...slopes.map(Math.abs), 1e-12);
    sliders.forEach(({ unit, range, bar, value, name }, i) => {
      if (document.activeElement !== range || +range.value !== state.z[unit]) range.value = state.z[unit];
      value.textContent = slopes ? brief(slopes[i]) : brief(state.z[unit]);
      const share = slopes ? slopes[i] / most : 0;
      bar.style.cssText = `width: ${50 * Math.abs(share)}%; ${share < 0 ? "right" : "left"}: 50%;`
        + `background: var(--${share < 0 ? "less" : "more"})`;
      name.setAttribute("aria-pressed", state.unit === unit);
    });
    unitsNote.textContent = slopes
      ? "Bars and numbers: how the chosen pixel changes with each unit."
      : "Touch a unit's name: what it draws. Touch a pixel of the drawing: which units draw it.";
  }

  function say(text) { // at most three times a second, so that a screen reader can follow
    clearTimeout(speaking);
    speaking = setTimeout(() => {
      status.textContent = text;
      spoken = Date.now();
    }, Math.max(0, spoken + 350 - Date.now()));
  }

  function publish() {
    const row = state.selected === null ? null : told.rows[state.selected];
    if (!same(model.get("code"), state.z)) model.set("code", state.z);
    if (model.get("selected") !== row) model.set("selected", row);
    clearTimeout(sending);
    sending = setTimeout(() => model.save_changes(), 100);
  }

  const same = (a, b) => a.length === b.length && a.every((x, i) => x === b[i]);

  // Touching the plane.

  const follow = (canvas, act, done = () => {}) => {
    let at = null;
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      at = place(event);
      act(at, at, event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (at === null) return;
      const to = place(event);
      act(at, to, event);
      at = to;
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => {
      if (at) done();
      at = null;
    });
  };

  let travelled = 0;
  follow(plane, (from, [x, y], event) => {
    travelled = event.type === "pointerdown" ? 0 : travelled + Math.hypot(x - from[0], y - from[1]);
    moveTo(bounds[0] + x * (bounds[1] - bounds[0]), bounds[3] - y * (bounds[3] - bounds[2]));
  }, () => { // a tap on a point takes the image that lies there
    const [x, y] = toPlane(...here()), reach = 8 * (window.devicePixelRatio || 1);
    const gap = ([a, b]) => { const [u, v] = toPlane(a, b); return Math.hypot(u - x, v - y); };
    const gaps = places.map(gap), best = gaps.indexOf(Math.min(...gaps));
    if (travelled < 0.01 && gaps[best] < reach) selectRow(best);
  });

  plane.addEventListener("keydown", (event) => {
    const [a, b] = here(), step = event.shiftKey ? 1 / 200 : 1 / 40;
    const [wide, high] = [(bounds[1] - bounds[0]) * step, (bounds[3] - bounds[2]) * step];
    const moves = { ArrowLeft: [-wide, 0], ArrowRight: [wide, 0], ArrowUp: [0, high], ArrowDown: [0, -high] };
    if (event.key in moves) moveTo(a + moves[event.key][0], b + moves[event.key][1]);
    else if (event.key === "Home") setCode(home);
    else return;
    event.preventDefault();
  });

  // Touching a pixel, and drawing.

  if (told.shape) {
    follow(drawn.canvas, (_, [x, y]) => {
      state.pixel = clamp(Math.floor(y * height), 0, height - 1) * width + clamp(Math.floor(x * width), 0, width - 1);
      refresh();
    });
    drawn.canvas.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (event.key === "Escape") state.pixel = null;
      else if (by) {
        const at = state.pixel ?? (height >> 1) * width + (width >> 1), row = Math.floor(at / width) + by[1];
        state.pixel = clamp(row, 0, height - 1) * width + clamp((at % width) + by[0], 0, width - 1);
      } else return;
      event.preventDefault();
      refresh();
    });
  }
  if (draws) follow(input.canvas, ([x0, y0], [x1, y1]) => {
    const image = state.input ? Float64Array.from(state.input) : new Float64Array(pixels), pen = height / 22;
    const [ax, ay, dx, dy] = [x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height];
    for (let i = 0; i < pixels; i++) {
      const px = (i % width) + 0.5 - ax, py = Math.floor(i / width) + 0.5 - ay;
      const t = clamp((px * dx + py * dy) / (dx * dx + dy * dy || 1), 0, 1);
      image[i] = Math.max(image[i], clamp(pen + 0.5 - Math.hypot(px - t * dx, py - t * dy), 0, 1));
    }
    setImage(image);
  });

  // Units, paths, draws.

  const unitsNote = element("p", { class: "note" });
  const sliders = told.listed.map((unit) => {
    const values = Array.from({ length: n }, (_, i) => told.points[i * k + unit]);
    const low = Math.min(...values), high = Math.max(...values), gap = 0.15 * (high - low || 1);
    const range = element("input", {
      type: "range", min: low - gap, max: high + gap, step: "any", "aria-label": `unit ${unit}`,
      oninput: () => setCode(state.z.map((x, i) => (i === unit ? +range.value : x))),
    });
    const name = button(`unit ${unit}`, () => { state.unit = state.unit === unit ? null : unit; refresh(); });
    name.setAttribute("aria-label", `what unit ${unit} draws`);
    const bar = element("i"), value = element("span", { class: "value" });
    const row = element("div", { class: "unit" }, name, range, value, element("div", { class: "bar" }, bar));
    return { unit, range, name, bar, value, row };
  });
  const path = element("input", {
    type: "range", min: 0, max: 1, step: 0.01, value: 0, "aria-label": "place on the path from A to B", disabled: true,
    oninput: () => setCode(mix(state.ends[0], state.ends[1], +path.value)),
  });
  const setEnd = (i) => () => {
    state.ends[i] = [...state.z];
    path.disabled = play.disabled = !(state.ends[0] && state.ends[1]);
    refresh();
  };
  const play = button("Play", () => {
    const start = performance.now(), steps = still.matches ? 4 : Infinity; // without motion: five pictures
    const go = (now) => {
      const t = clamp((now - start) / 3000, 0, 1);
      path.value = steps === Infinity ? t : Math.round(t * steps) / steps;
      setCode(mix(state.ends[0], state.ends[1], +path.value));
      if (t < 1 && el.isConnected) requestAnimationFrame(go);
    };
    requestAnimationFrame(go);
  });
  play.disabled = true;
  const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  const another = button("Another code of this image", () => {
    const { input: image, posterior, selected } = state;
    if (!posterior) return;
    const z = posterior.mean.map((mean, i) => mean + posterior.spread[i] * normal());
    setCode(z, { image, posterior, row: selected });
  });

  // A dictionary of the code: features that fire here, each to be turned down, off or on, all else left as it is.

  const featureRows = element("div", { class: "list", role: "group", "aria-label": "features" });
  const added = element("input", { type: "number", min: 0, value: 0, "aria-label": "number of a feature" });
  const featureList = element("details", { class: "units", ontoggle: () => refresh() },
    element("summary", {}, "Features of the dictionary"),
    element("p", { class: "note" }, "Those that fire here, the strongest first. Switch one off, or turn it up."),
    featureRows, element("div", { class: "buttons" }, added, button("Add this feature", () => {
      const j = clamp(Math.round(+added.value) || 0, 0, told.dictionary.strongest.length - 1);
      if (!state.features) showFeatures();
      if (!state.features.strengths.has(j)) addFeature(j);
      setFeature(j, told.dictionary.strongest[j]);
    })));

  function showFeatures() {
    const fires = run(told.dictionary.network, state.z);
    state.features = { from: state.z, fires, strengths: new Map(), rows: new Map() };
    featureRows.replaceChildren();
    const order = Array.from(fires.keys()).filter((j) => fires[j] > 0).sort((a, b) => fires[b] - fires[a]);
    order.slice(0, 12).forEach(addFeature);
  }

  function addFeature(j) {
    const { strengths, fires, rows } = state.features, most = Math.max(told.dictionary.strongest[j], fires[j]) || 1;
    strengths.set(j, fires[j]);
    const usual = fires[j] || told.dictionary.strongest[j];
    const name = button(`feature ${j}`, () => setFeature(j, strengths.get(j) > 0 ? 0 : usual));
    const range = element("input", {
      type: "range", min: 0, max: 1.5 * most, step: "any", "aria-label": `strength of feature ${j}`,
      oninput: () => setFeature(j, +range.value),
    });
    rows.set(j, { name, range, value: element("span", { class: "value" }) });
    featureRows.append(element("div", { class: "unit" }, name, range, rows.get(j).value));
    showStrength(j);
  }

  function showStrength(j) {
    const { rows, strengths } = state.features, { name, range, value } = rows.get(j), strength = strengths.get(j);
    name.setAttribute("aria-pressed", strength > 0);
    range.value = strength;
    value.textContent = brief(strength);
  }

  function setFeature(j, strength) {
    const { features, input: image, selected: row } = state, { directions: words } = told.dictionary;
    features.strengths.set(j, strength);
    showStrength(j);
    let z = features.from;
    for (const [i, now] of features.strengths) z = plus(z, units(i, words), now - features.fires[i]);
    setCode(z, { image, row, features });
  }

  function drawLegend() {
    legend.replaceChildren();
    const { names: kinds, values, name } = colourBy;
    if (!kinds) {
      const low = brief(Math.min(...values)), high = brief(Math.max(...values));
      const ramp = element("i", { class: "ramp" });
      ramp.style.background = `linear-gradient(90deg, ${told.ramp.map(css).join(", ")})`;
      legend.append(`${name}: ${low}`, ramp, high);
    } else if (kinds.length > 1) kinds.forEach((kind, i) => {
      const swatch = element("canvas", { width: 24, height: 24, "aria-hidden": "true" });
      const context = swatch.getContext("2d");
      context.fillStyle = colourOf(i);
      mark(context, i, 12, 12, 7);
      legend.append(element("span", {}, swatch, kind));
    });
  }

  const colourNames = told.colourings.map(({ name }) => name);
  const controls = element("div", { class: "controls" },
    colourNames.length > 1 ? element("label", {}, "Colour", select(colourNames, 0, (i) => {
      Object.assign(colourBy, told.colourings[i]);
      drawLegend();
      background = null;
      refresh();
    })) : null,
    directions.length > 2 ? element("label", {}, "Across", choosers.across) : null,
    directions.length > 2 ? element("label", {}, "Up", choosers.up) : null);
  const buttons = element("div", { class: "buttons" },
    button("Another held-out image", () => selectRow(Math.floor(Math.random() * n))),
    draws ? button("Clear", () => setCode(state.z)) : null,
    told.variational ? button("Sample the prior", () => setCode(state.z.map(normal))) : null,
    told.variational ? another : null);
  const walk = element("div", { class: "path" },
    button("A: start here", setEnd(0)), button("B: end here", setEnd(1)), path, play);
  const unitList = element("details", k <= 8 ? { class: "units", open: true } : { class: "units" },
    element("summary", {}, told.listed.length < k ? `The ${told.listed.length} of ${k} units that vary most`
      : `The ${k} units of the code`),
    unitsNote,
    element("div", { class: "list", role: "group", "aria-label": "units" }, ...sliders.map(({ row }) => row)));
  const footer = element("p", { class: "note footer" });
  const lead = element("p", { class: "lead" },
    "Drag across the plane: the decoder draws what lies there. Tap a point: that held-out image."
    + (draws ? " Draw a digit of your own: it is encoded while you draw." : ""));
  const root = element("div", { class: "tfae-explorer", "data-lm-suppress-shortcuts": "true" }, probe,
    lead,
    element("div", { class: "stage" },
      element("div", { class: "place" }, plane, legend),
      element("div", { class: "side" },
        element("div", { class: "pictures" }, input.figure, drawn.figure, near.figure, change.figure),
        gauge, verdict, buttons, walk),
      element("div", { class: "below" }, status, controls, unitList, told.dictionary ? featureList : null)),
    footer);
  root.addEventListener("keydown", (event) => event.stopPropagation()); // JupyterLab would take them for its own
  el.append(root);

  // Is this the network that Keras has? Said in the page.

  const gap = (a, b) => a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), 0), [code, drawing] = told.check;
  const apart = Math.max(gap(run(encoder, imageOf(0)), code), gap(run(decoder, units(0)), drawing));
  footer.textContent = `The network runs here, in your browser (${told.precision} weights): on one image its code and `
    + `its drawing are within ${apart.toExponential(0)} of Keras's. Fog: no training image lies within `
    + `${brief(told.radius)}, where 19 of 20 held-out images have one.`
    + (told.variational ? " Ellipses: one and two standard deviations of the image's distribution of codes." : "");
  root.dataset.apart = apart;

  // What may change around it.

  const recolour = () => {
    for (const name of ["paper", "ink", "more", "less"]) colour[name] = colour(name);
    background = null;
    drawLegend();
    refresh();
  };
  const sizes = new ResizeObserver(() => bounds && resize());
  sizes.observe(plane);
  const dark = matchMedia("(prefers-color-scheme: dark)"), themes = new MutationObserver(recolour);
  dark.addEventListener("change", recolour);
  for (const place of [document.documentElement, document.body]) {
    themes.observe(place, { attributes: true, attributeFilter: ["data-theme", "data-jp-theme-light"] });
  }
  if (told.dictionary) added.max = told.dictionary.strongest.length - 1;
  const fromCode = () => { if (!same(model.get("code"), state.z)) setCode(model.get("code")); };
  const fromSelected = () => {
    const row = told.rows.indexOf(model.get("selected"));
    if (row >= 0 && row !== state.selected) selectRow(row);
  };
  model.on("change:code", fromCode);
  model.on("change:selected", fromSelected);

  recolour();
  const row = told.rows.indexOf(model.get("selected") ?? -1);
  if (row >= 0) selectRow(row);
  else setCode(home);
  layout();
  return () => {
    sizes.disconnect();
    themes.disconnect();
    dark.removeEventListener("change", recolour);
    model.off("change:code", fromCode);
    model.off("change:selected", fromSelected);
  };
}

export default { render };
