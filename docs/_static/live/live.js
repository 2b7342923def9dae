// The live page: exported samplers in the reader's browser, from the same noise, seed by seed.
"use strict";

const PICTURES = 8, SIDE = 32, COUNTS = [1, 2, 3, 5];
const METHODS = { ours: "multistep + prior", dpm: "DPM-Solver++" };

/** Standard normal numbers, a function of the seed alone (mulberry32, Box and Muller). */
function noise(seed, count) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const out = new Float32Array(count);
  for (let i = 0; i < count; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - uniform())), angle = 2 * Math.PI * uniform();
    out[i] = radius * Math.cos(angle);
    if (i + 1 < count) out[i + 1] = radius * Math.sin(angle);
  }
  return out;
}

/** Draw pictures in [-1, 1] side by side into a canvas. */
function draw(canvas, samples) {
  const context = canvas.getContext("2d"), image = context.createImageData(PICTURES * SIDE, SIDE);
  for (let k = 0; k < PICTURES; k++)
    for (let y = 0; y < SIDE; y++)
      for (let x = 0; x < SIDE; x++) {
        const value = samples[(k * SIDE + y) * SIDE + x], at = 4 * (y * PICTURES * SIDE + k * SIDE + x);
        image.data.fill(Math.round((Math.min(1, Math.max(-1, value)) + 1) * 127.5), at, at + 3);
        image.data[at + 3] = 255;
      }
  context.putImageData(image, 0, 0);
}

/** Build the table of canvases; return them by method and N. */
function build(root) {
  const cells = {};
  for (const n of COUNTS) {
    const group = document.createElement("div");
    group.className = "live-group";
    group.innerHTML = `<h3>${n} evaluation${n > 1 ? "s" : ""}</h3>`;
    for (const [method, title] of Object.entries(METHODS)) {
      const row = document.createElement("figure");
      row.innerHTML = `<canvas width="${PICTURES * SIDE}" height="${SIDE}" role="img"
        aria-label="${PICTURES} garments by ${title}, ${n} evaluations"></canvas>
        <figcaption>${title} <span></span></figcaption>`;
      group.append(row);
      cells[`${method}-${n}`] = { canvas: row.querySelector("canvas"), time: row.querySelector("span") };
    }
    root.append(group);
  }
  return cells;
}

async function start(base) {
  const root = document.getElementById("live"), status = document.getElementById("live-status");
  const button = document.getElementById("live-seed"), cells = build(root);
  ort.env.wasm.wasmPaths = base;
  ort.env.wasm.numThreads = 1;
  const weights = new Uint8Array(await (await fetch(new URL("weights.bin", base))).arrayBuffer());
  const sessions = {};
  let seed = 1;
  async function run() {
    button.disabled = true;
    const values = noise(seed, PICTURES * SIDE * SIDE);
    root.dataset.seed = "";
    for (const n of COUNTS)
      for (const method of Object.keys(METHODS)) {
        const name = `${method}-${n}`, cell = cells[name];
        status.textContent = `seed ${seed}: ${METHODS[method]}, N = ${n} ...`;
        sessions[name] ??= await ort.InferenceSession.create(new URL(`${name}.onnx`, base).href, {
          executionProviders: ["wasm"], externalData: [{ path: "weights.bin", data: weights }],
        });
        const input = new ort.Tensor("float32", values, [PICTURES, 1, SIDE, SIDE]), began = performance.now();
        const output = (await sessions[name].run({ noise: input })).samples.data;
        cell.time.textContent = `${Math.round(performance.now() - began)} ms`;
        cell.samples = Array.from(output);
        draw(cell.canvas, output);
      }
    status.textContent = `seed ${seed}: ${PICTURES} pictures a row, every row from the same noise`;
    root.dataset.seed = seed;
    button.disabled = false;
  }
  button.addEventListener("click", () => { seed += 1; run(); });
  window.live = { cells, noise };
  await run();
}

start(new URL(".", document.currentScript.src).href).catch((error) => {
  document.getElementById("live-status").textContent =
    `It does not run here (${error.message}): the page must come from a server, such as python -m http.server.`;
});
