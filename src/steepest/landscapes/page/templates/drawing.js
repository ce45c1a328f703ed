  // What every page of a surface draws with. It needs `data`, the page's contents.
  const $ = (id) => document.getElementById(id);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const ink = (series) => (dark.matches ? series.dark : series.light);
  const DASHES = { solid: [], dash: [7, 4], dashdot: [7, 3, 2, 3], dot: [2, 3] };

  // -- numbers ---------------------------------------------------------------------------------------------------

  function spell(number) {
    if (number === null || number === undefined) return "–";
    if (number !== 0 && (Math.abs(number) >= 1e5 || Math.abs(number) < 1e-3)) return number.toExponential(2).replace(/\.?0*e\+?/, "e");
    return String(Number(number.toPrecision(4)));
  }

  function ticks(low, high, count) {
    const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
    const found = [];
    for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-9; at += step) found.push(Math.abs(at) < step * 1e-9 ? 0 : at);
    return found;
  }

  function decades(low, high) {
    const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9);
    const step = Math.max(1, Math.ceil((last - first + 1) / 7));
    return Array.from({ length: Math.floor((last - first) / step) + 1 }, (_, place) => 10 ** (first + place * step));
  }

  // Whether a key means something to the element that has the focus, or to the browser.
  function isTaken(event) {
    const scrolls = event.target.closest("input, select, summary, pre, .scroll");
    return scrolls || (event.key === " " && event.target.closest("button")) || event.ctrlKey || event.metaKey || event.altKey;
  }

  // -- the ground ------------------------------------------------------------------------------------------------

  // The place of a height among the levels: 0 at the lowest, 1 at the highest.
  function place(height) {
    const levels = data.ground.levels, last = levels.length - 1;
    if (height === null || last < 1) return 1;
    if (height <= levels[0]) return 0;
    if (height >= levels[last]) return 1;
    let low = 0, high = last;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (levels[middle] <= height) low = middle;
      else high = middle;
    }
    return (low + (height - levels[low]) / (levels[high] - levels[low])) / last;
  }

  const places = data.ground ? data.ground.heights.map(place) : [];
  const parsed = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const mixed = (from, to, part) => from.map((value, at) => value + (to[at] - value) * part);
  const shades = () => (dark.matches ? { low: parsed("#2f5676"), high: parsed("#191c21"), line: [150, 180, 205, 0.28] } : { low: parsed("#a9c3d8"), high: parsed("#fdfcfa"), line: [60, 95, 125, 0.3] });

  const grounds = new Map();
  function ground(width, height) {
    const key = `${width}x${height}${dark.matches}`;
    if (!grounds.has(key)) {
      if (grounds.size > 12) grounds.clear();
      grounds.set(key, paintGround(width, height));
    }
    return grounds.get(key);
  }

  function paintGround(width, height) {
    const made = Object.assign(document.createElement("canvas"), { width, height });
    const context = made.getContext("2d"), image = context.createImageData(width, height);
    const { low, high, line } = shades(), bands = Math.max(1, data.ground.levels.length - 1);
    const heights = new Float32Array(width * height);
    for (let row = 0; row < height; row++) for (let column = 0; column < width; column++) heights[row * width + column] = between(places, (column + 0.5) / width, 1 - (row + 0.5) / height) * bands;
    for (let at = 0; at < heights.length; at++) {
      const band = Math.min(bands - 1, Math.floor(heights[at]));
      const below = at + width < heights.length ? Math.min(bands - 1, Math.floor(heights[at + width])) : band;
      const beside = (at + 1) % width ? Math.min(bands - 1, Math.floor(heights[at + 1])) : band;
      let shade = mixed(low, high, (band + 0.5) / bands);
      if (band !== below || band !== beside) shade = mixed(shade, line, line[3]);
      image.data.set([...shade.map(Math.round), 255], at * 4);
    }
    context.putImageData(image, 0, 0);
    return made;
  }

  // A number of the grid at a point of the window, (0, 0) bottom left to (1, 1) top right.
  function between(grid, x, y) {
    const count = data.ground.count, u = x * (count - 1), v = y * (count - 1);
    const i = Math.min(count - 2, Math.max(0, Math.floor(u))), j = Math.min(count - 2, Math.max(0, Math.floor(v)));
    const at = (row, column) => grid[row * count + column];
    const s = u - i, t = v - j;
    return (1 - t) * ((1 - s) * at(j, i) + s * at(j, i + 1)) + t * ((1 - s) * at(j + 1, i) + s * at(j + 1, i + 1));
  }

  // -- drawing ---------------------------------------------------------------------------------------------------

  // A canvas of a height in CSS pixels, cleared, with its drawing context in CSS pixels.
  function cleared(canvas, ratio) {
    const width = canvas.clientWidth, height = Math.round(width * ratio), scale = Math.min(2, devicePixelRatio || 1);
    canvas.style.height = `${height}px`;
    const size = [Math.round(width * scale), Math.round(height * scale)];
    if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = `12px ${colour("--sans")}`;
    return { context, width, height, scale };
  }

  function stroke(context, line, series, { width = 2, dashed = true, halo = false } = {}) {
    context.lineJoin = context.lineCap = "round";
    const trace = (style, thick, dash) => {
      Object.assign(context, { strokeStyle: style, lineWidth: thick });
      context.setLineDash(dash);
      context.beginPath();
      line.forEach(([x, y], at) => (at ? context.lineTo(x, y) : context.moveTo(x, y)));
      context.stroke();
      context.setLineDash([]);
    };
    if (halo) trace(dark.matches ? "#0008" : "#fff9", width + 2, []);
    context.globalAlpha = 0.35;
    trace(ink(series), width, []);
    context.globalAlpha = 1;
    trace(ink(series), width, dashed ? DASHES[series.dash] : []);
  }

  const SIDES = { square: 4, diamond: 4, pentagon: 5, hexagon: 6, "triangle-up": 3, "triangle-down": 3, "triangle-left": 3, "triangle-right": 3 };
  const TURNS = { square: 0.25, "triangle-down": 1, "triangle-left": -0.5, "triangle-right": 0.5 };

  function mark(context, [x, y], series, size, lost = false) {
    context.beginPath();
    const kind = lost ? "x" : series.marker;
    if (kind === "circle") context.arc(x, y, size, 0, 7);
    else if (kind === "x" || kind === "cross") {
      const turn = kind === "x" ? Math.PI / 4 : 0;
      for (let arm = 0; arm < 4; arm++) {
        const angle = turn + (arm * Math.PI) / 2;
        context.moveTo(x, y);
        context.lineTo(x + 1.3 * size * Math.cos(angle), y + 1.3 * size * Math.sin(angle));
      }
    } else {
      const star = kind === "star", corners = star ? 10 : SIDES[kind] ?? 4, turn = (TURNS[kind] ?? 0) * Math.PI;
      for (let corner = 0; corner < corners; corner++) {
        const angle = turn - Math.PI / 2 + (2 * Math.PI * corner) / corners, radius = size * (star && corner % 2 ? 0.5 : 1.2);
        context[corner ? "lineTo" : "moveTo"](x + radius * Math.cos(angle), y + radius * Math.sin(angle));
      }
      context.closePath();
    }
    const open = kind === "x" || kind === "cross";
    Object.assign(context, { strokeStyle: open ? ink(series) : colour("--surface"), lineWidth: open ? 3 : 1.2, fillStyle: ink(series) });
    if (!open) context.fill();
    context.stroke();
  }

  function sign(context, [x, y], kind) {
    context.beginPath();
    if (kind === "start") context.arc(x, y, 5, 0, 7);
    else
      for (let corner = 0; corner < 10; corner++) {
        const angle = -Math.PI / 2 + (Math.PI * corner) / 5, radius = corner % 2 ? 3.4 : 8;
        context[corner ? "lineTo" : "moveTo"](x + radius * Math.cos(angle), y + radius * Math.sin(angle));
      }
    context.closePath();
    Object.assign(context, { fillStyle: kind === "start" ? "#ffffff" : "#ffd23f", strokeStyle: "#1c2026", lineWidth: 1.4 });
    context.fill();
    context.stroke();
  }

  // The window from above: the ground, axes, what `inside` draws within the box, and the signs of minima and starts.
  function paintWindow(canvas, inside, bare = false) {
    const [x, y] = data.window, aspect = (y[1] - y[0]) / (x[1] - x[0]);
    const ratio = data.isometric && data.ground ? Math.min(1.05, Math.max(0.45, aspect)) : bare ? 0.72 : 0.78;
    const margins = bare ? { left: 0, right: 0, top: 0, bottom: 0 } : { left: 58, right: 10, top: 8, bottom: 42 };
    const inner = canvas.clientWidth - margins.left - margins.right;
    const view = cleared(canvas, (inner * ratio + margins.top + margins.bottom) / canvas.clientWidth), { context } = view;
    const box = { left: margins.left, top: margins.top, width: inner, height: inner * ratio };
    if (data.ground) context.drawImage(ground(Math.round(box.width * view.scale), Math.round(box.height * view.scale)), box.left, box.top, box.width, box.height);
    const at = axes(view, box, { x, y, names: data.axes, bare, log: data.ground ? undefined : false });
    context.save();
    context.beginPath();
    context.rect(box.left, box.top, box.width, box.height);
    context.clip();
    inside(context, at);
    context.restore();
    data.minima.forEach((point) => sign(context, at(data.ground ? point : [x[1], point[0]]), "minimum"));
    data.starts.forEach((point) => sign(context, at(data.ground ? point : [x[0], point[0]]), "start"));
  }

  // Axes around a box: returns the function from numbers to pixels.
  function axes(view, box, { x, y, log, names, bare }) {
    const { context } = view, soft = colour("--soft");
    const up = log ? (value) => Math.log10(Math.max(value, 1e-300)) : (value) => value;
    const [bottom, top] = [up(y[0]), up(y[1])];
    const at = ([a, b]) => [box.left + ((a - x[0]) / (x[1] - x[0])) * box.width, box.top + (1 - (up(b) - bottom) / (top - bottom)) * box.height];
    if (bare) return at;
    Object.assign(context, { fillStyle: soft, strokeStyle: colour("--grid"), lineWidth: 1 });
    context.textAlign = "center";
    context.textBaseline = "top";
    for (const tick of ticks(x[0], x[1], Math.max(3, box.width / 90))) context.fillText(spell(tick), at([tick, y[0]])[0], box.top + box.height + 6);
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const tick of log ? decades(y[0], y[1]) : ticks(y[0], y[1], Math.max(3, box.height / 55))) {
      const level = at([x[0], tick])[1];
      context.fillText(spell(tick), box.left - 7, level);
      if (log !== undefined) {
        context.beginPath();
        context.moveTo(box.left, level);
        context.lineTo(box.left + box.width, level);
        context.stroke();
      }
    }
    context.textAlign = "center";
    context.textBaseline = "alphabetic";
    context.fillText(names[0], box.left + box.width / 2, box.top + box.height + 34);
    if (names[1]) {
      context.save();
      context.translate(12, box.top + box.height / 2);
      context.rotate(-Math.PI / 2);
      context.fillText(names[1], 0, 0);
      context.restore();
    }
    return at;
  }
