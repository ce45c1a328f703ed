  const asked = new URLSearchParams(location.hash.slice(1)); // #view=tilted&now=50, to share a view
  const hidden = new Set();
  const state = { now: asked.has("now") ? Number(asked.get("now")) || 0 : data.budget, playing: false, speed: 1, view: asked.get("view") ?? "above", curve: data.curves[0], azimuth: -0.9, rise: 0.75, hover: null };
  for (const input of $("views").querySelectorAll("input")) input.checked = input.value === state.view;
  if (!$("views").querySelector(":checked")) $("views").querySelector("input").click(), (state.view = "above");
  const paths = data.series.flatMap((series) => series.paths.map((path, start) => ({ ...path, series, start })));
  const shown = () => paths.filter((path) => !hidden.has(path.series.label));

  // The place of the last point that a path had reached.
  function reached(path, now) {
    let low = 0, high = path.evaluations.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (path.evaluations[middle] <= now) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  // Points (x, y) of a path as far as now, the last one between two points while a step is under way.
  function points(path, now, y = path.y, x = path.x) {
    const last = reached(path, now);
    const found = Array.from({ length: last + 1 }, (_, place) => [x[place], y[place]]);
    const next = path.evaluations[last + 1];
    if (next !== undefined && now > path.evaluations[last]) {
      const part = (now - path.evaluations[last]) / (next - path.evaluations[last]);
      found.push([x[last] + part * (x[last + 1] - x[last]), y[last] + part * (y[last + 1] - y[last])]);
    }
    return found;
  }

  // -- the surface from above ------------------------------------------------------------------------------------

  const spots = []; // what the pointer can find: pixels in a canvas, a path, a place on it

  function paintAbove(canvas, drawn, bare = false) {
    paintWindow(canvas, (context, at) => {
      if (!data.ground) for (const [number] of data.minima) level(context, at, data.window[0], number);
      drawPaths(context, canvas, drawn, (path) => points(path, state.now).map(at), bare ? 0.8 : 1);
    }, bare);
  }

  function level(context, at, x, number) {
    Object.assign(context, { strokeStyle: colour("--soft"), lineWidth: 1 });
    context.setLineDash([2, 4]);
    context.beginPath();
    context.moveTo(...at([x[0], number]));
    context.lineTo(...at([x[1], number]));
    context.stroke();
    context.setLineDash([]);
  }

  // Draw paths whose points are pixels already, the one under the pointer last and thicker.
  function drawPaths(context, canvas, drawn, pixels, size = 1) {
    const order = [...drawn].sort((a, b) => (a.series.label === state.hover) - (b.series.label === state.hover));
    for (const path of order) {
      const line = pixels(path), last = reached(path, state.now), chosen = path.series.label === state.hover;
      context.globalAlpha = 1;
      stroke(context, line, path.series, { width: (chosen ? 3.2 : 1.9) * size, halo: true });
      for (const place of path.marks) if (place < last) mark(context, line[place], path.series, 3.4 * size);
      const ended = path.lost && last === path.evaluations.length - 1;
      mark(context, line[line.length - 1], path.series, (ended ? 6.5 : 5.5) * size, ended);
      for (let place = 0; place <= last; place++) spots.push({ canvas, at: line[place], path, place });
    }
  }

  // -- the surface from the side ---------------------------------------------------------------------------------

  const MESH = 64;
  const roots = data.ground ? cubeRoots(data.ground.heights) : [];

  // Cube roots of heights, from 0 to 1: values over many decades would else be a wall and a floor.
  function cubeRoots(heights) {
    const known = heights.filter((height) => height !== null).map(Math.cbrt);
    const low = Math.min(...known), high = Math.max(...known);
    return heights.map((height) => (height === null ? 1 : (Math.cbrt(height) - low) / (high - low || 1)));
  }

  // The function from a point of the window, (0, 0) to (1, 1), and a height to pixels and a depth.
  function camera(width, height) {
    const sine = Math.sin(state.azimuth), cosine = Math.cos(state.azimuth), lift = 0.75 * Math.cos(state.rise), tip = Math.sin(state.rise);
    const turned = (x, y, z) => {
      const a = (x - 0.5) * cosine - (y - 0.5) * sine, b = (x - 0.5) * sine + (y - 0.5) * cosine;
      return [a, -b * tip - z * lift, b];
    };
    const parts = Array.from({ length: 17 }, (_, part) => part / 16);
    const edges = parts.flatMap((x) => parts.map((y) => turned(x, y, between(roots, x, y))));
    const [left, right, top, bottom] = [0, 0, 1, 1].map((axis, end) => Math[end % 2 ? "max" : "min"](...edges.map((edge) => edge[axis])));
    const size = Math.min((width - 16) / (right - left), (height - 16) / (bottom - top));
    return (x, y, z) => {
      const [a, b, depth] = turned(x, y, z);
      return { at: [width / 2 + (a - (left + right) / 2) * size, height / 2 + (b - (top + bottom) / 2) * size], depth };
    };
  }

  function paintTilted(canvas, drawn) {
    const view = cleared(canvas, 0.74), { context } = view, turned = camera(view.width, view.height);
    const corners = [];
    for (let j = 0; j <= MESH; j++) for (let i = 0; i <= MESH; i++) {
      const z = between(roots, i / MESH, j / MESH);
      corners.push({ ...turned(i / MESH, j / MESH, z), z, place: between(places, i / MESH, j / MESH) });
    }
    const faces = [];
    for (let j = 0; j < MESH; j++) for (let i = 0; i < MESH; i++) {
      const four = [j * (MESH + 1) + i, j * (MESH + 1) + i + 1, (j + 1) * (MESH + 1) + i + 1, (j + 1) * (MESH + 1) + i].map((at) => corners[at]);
      const mean = (key) => four.reduce((sum, corner) => sum + corner[key], 0) / 4;
      faces.push({ four, depth: mean("depth"), slope: four[1].z - four[0].z + 0.6 * (four[3].z - four[0].z), place: mean("place") });
    }
    faces.sort((a, b) => b.depth - a.depth);
    const { low, high } = shades(), bands = Math.max(1, data.ground.levels.length - 1);
    for (const { four, slope, place: level } of faces) {
      const band = (Math.min(bands - 1, Math.floor(level * bands)) + 0.5) / bands;
      const light = Math.max(-0.2, Math.min(0.2, -slope * 2.2));
      const shade = mixed(mixed(low, high, band), light > 0 ? [255, 255, 255] : [0, 0, 0], Math.abs(light));
      context.beginPath();
      four.forEach(({ at }, corner) => context[corner ? "lineTo" : "moveTo"](...at));
      context.closePath();
      context.fillStyle = context.strokeStyle = `rgb(${shade.map(Math.round).join(",")})`;
      context.lineWidth = 0.7;
      context.fill();
      context.stroke();
    }
    const [x, y] = data.window;
    const upon = ([a, b]) => {
      const u = (a - x[0]) / (x[1] - x[0]), v = (b - y[0]) / (y[1] - y[0]);
      const [s, t] = [u, v].map((part) => Math.min(1, Math.max(0, part)));
      return turned(s, t, between(roots, s, t) + 0.012).at;
    };
    drawPaths(context, canvas, drawn, (path) => points(path, state.now).map(upon));
    data.minima.forEach((point) => sign(context, upon(point), "minimum"));
    data.starts.forEach((point) => sign(context, upon(point), "start"));
  }

  // -- curves ----------------------------------------------------------------------------------------------------

  function paintCurve() {
    const canvas = $("curve"), { key, title, log, low, high } = state.curve;
    const view = cleared(canvas, Math.min(1, 420 / canvas.clientWidth)), { context, width, height } = view;
    const box = { left: 62, top: 10, width: width - 74, height: height - 54 };
    const x = [0, data.budget], at = axes(view, box, { x, y: [low, high], log, names: ["gradient evaluations", ""] });
    context.save();
    context.beginPath();
    context.rect(box.left - 6, box.top - 6, box.width + 12, box.height + 12);
    context.clip();
    drawPaths(context, canvas, shown(), (path) => points(path, state.now, path[key], path.evaluations).map(at), 0.9);
    context.restore();
    Object.assign(context, { strokeStyle: colour("--soft"), lineWidth: 1 });
    if (state.now < data.budget) {
      context.setLineDash([3, 3]);
      context.beginPath();
      context.moveTo(at([state.now, low])[0], box.top);
      context.lineTo(at([state.now, low])[0], box.top + box.height);
      context.stroke();
      context.setLineDash([]);
    }
    canvas.setAttribute("aria-label", `${title} over gradient evaluations`);
    $("curve-title").textContent = title[0].toUpperCase() + title.slice(1);
    canvas.dataset.left = box.left;
    canvas.dataset.width = box.width;
  }

  // -- all of it -------------------------------------------------------------------------------------------------

  let waiting = false;
  function redraw() {
    if (!waiting) requestAnimationFrame(() => { waiting = false; paint(); });
    waiting = true;
  }

  function paint() {
    spots.length = 0;
    const each = state.view === "each";
    $("plane").parentElement.hidden = each;
    $("multiples").hidden = !each;
    document.querySelector(".duo").classList.toggle("wide", each);
    $("scene-title").textContent = each ? "Every optimizer on the surface" : state.view === "tilted" ? "From the side, by the cube root of the height" : data.ground ? "The surface from above" : "The number over the evaluations";
    if (each) for (const small of $("multiples").children) {
      small.hidden = hidden.has(small.dataset.series);
      if (!small.hidden) paintAbove(small.querySelector("canvas"), paths.filter((path) => path.series.label === small.dataset.series), true);
    }
    else if (state.view === "tilted") paintTilted($("plane"), shown());
    else paintAbove($("plane"), shown());
    paintCurve();
    $("now").value = Math.round(state.now);
    $("count").textContent = `${Math.round(state.now)} of ${data.budget}`;
    $("play").textContent = state.playing ? "❚❚" : "▶";
    $("play").setAttribute("aria-label", state.playing ? "Pause" : "Play");
  }

  function go(now) {
    state.now = Math.min(data.budget, Math.max(0, now));
    redraw();
  }

  let before = 0;
  function run(time) {
    if (!state.playing) return;
    go(state.now + (Math.min(100, time - before) / 1000) * state.speed * (data.budget / 10));
    before = time;
    if (state.now >= data.budget) state.playing = false;
    requestAnimationFrame(run);
  }

  function play(playing = !state.playing) {
    if (playing && state.now >= data.budget) state.now = 0;
    const starts = playing && !state.playing;
    state.playing = playing;
    before = performance.now();
    if (starts) requestAnimationFrame(run);
    redraw();
  }

  function step(by) {
    play(false);
    go(Math.round(state.now) + by);
  }

  $("play").addEventListener("click", () => play());
  $("back").addEventListener("click", () => step(-1));
  $("ahead").addEventListener("click", () => step(1));
  $("now").addEventListener("input", (event) => { play(false); go(Number(event.target.value)); });
  $("speed").addEventListener("change", (event) => { state.speed = Number(event.target.value); });
  $("views").addEventListener("change", (event) => { state.view = event.target.value; $("plane").classList.toggle("turning", state.view === "tilted"); redraw(); });

  for (const curve of data.curves) {
    const label = document.createElement("label"), input = Object.assign(document.createElement("input"), { type: "radio", name: "curve", value: curve.key, checked: curve === state.curve });
    const words = Object.assign(document.createElement("span"), { textContent: curve.key[0].toUpperCase() + curve.key.slice(1), title: curve.title });
    label.append(input, words);
    $("curves").append(label);
    input.addEventListener("change", () => { state.curve = curve; redraw(); });
  }

  for (const series of data.series) {
    const small = document.createElement("div");
    small.dataset.series = series.label;
    const name = Object.assign(document.createElement("h3"), { textContent: series.label });
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Path of ${series.label}`);
    small.append(name, canvas);
    $("multiples").append(small);
  }

  for (const chip of document.querySelectorAll(".chip")) {
    const label = chip.dataset.series;
    chip.addEventListener("click", () => {
      if (!hidden.delete(label)) hidden.add(label);
      chip.setAttribute("aria-pressed", String(!hidden.has(label)));
      redraw();
    });
    for (const [event, hover] of [["pointerenter", label], ["focus", label], ["pointerleave", null], ["blur", null]]) chip.addEventListener(event, () => { state.hover = hover; redraw(); });
  }

  document.addEventListener("keydown", (event) => {
    if (isTaken(event)) return;
    const act = { " ": () => play(), ArrowRight: () => step(1), ArrowLeft: () => step(-1), Home: () => step(-data.budget), End: () => step(data.budget) }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  // -- the pointer -----------------------------------------------------------------------------------------------

  function nearest(event) {
    const canvas = event.target, frame = canvas.getBoundingClientRect();
    const x = event.clientX - frame.left, y = event.clientY - frame.top;
    let best = null, least = 18 ** 2;
    for (const spot of spots) {
      if (spot.canvas !== canvas) continue;
      const distance = (spot.at[0] - x) ** 2 + (spot.at[1] - y) ** 2;
      if (distance < least) [best, least] = [spot, distance];
    }
    return best;
  }

  function tell(event) {
    const spot = event.target.tagName === "CANVAS" ? nearest(event) : null, tip = $("tip");
    const hover = spot ? spot.path.series.label : null;
    if (hover !== state.hover && !event.target.closest?.(".chip")) { state.hover = hover; redraw(); }
    tip.hidden = !spot;
    if (!spot) return;
    const { path, place } = spot, name = Object.assign(document.createElement("b"), { textContent: path.series.label });
    const lines = [`step ${place}, ${path.evaluations[place]} evaluations`, `value ${spell(path.values[place])}`];
    if (path.distance) lines.push(`distance ${spell(path.distance[place])}`);
    if (place) lines.push(`step length ${spell(path.lengths[place])}`, `gradient ${spell(path.gradients[place])}`, `effective rate ${spell(path.rates[place])}`);
    if (path.ended && place === path.evaluations.length - 1) lines.push(path.ended);
    tip.replaceChildren(name, ...lines.flatMap((line) => [line, document.createElement("br")]));
    const { offsetWidth: wide, offsetHeight: tall } = tip;
    tip.style.left = `${Math.max(8, Math.min(innerWidth - wide - 8, event.clientX + 16))}px`;
    tip.style.top = `${event.clientY + 16 + tall > innerHeight ? event.clientY - tall - 12 : event.clientY + 16}px`;
  }

  document.addEventListener("pointermove", tell);
  document.addEventListener("pointerdown", tell);

  let drag = null;
  $("plane").addEventListener("pointerdown", (event) => {
    if (state.view !== "tilted") return;
    drag = [event.clientX, event.clientY, state.azimuth, state.rise];
    $("plane").setPointerCapture(event.pointerId);
  });
  $("plane").addEventListener("pointermove", (event) => {
    if (!drag) return;
    state.azimuth = drag[2] - (event.clientX - drag[0]) / 160;
    state.rise = Math.min(1.5, Math.max(0.12, drag[3] + (event.clientY - drag[1]) / 220));
    redraw();
  });
  for (const name of ["pointerup", "pointercancel"]) $("plane").addEventListener(name, () => { drag = null; });
  $("curve").addEventListener("click", (event) => {
    const { left, width } = event.target.dataset;
    play(false);
    go(Math.round(((event.offsetX - left) / width) * data.budget));
  });

  dark.addEventListener("change", redraw);
  new ResizeObserver(redraw).observe(document.body);
  window.steepest = { state, hidden, go, play }; // for tests and the curious
  redraw();
