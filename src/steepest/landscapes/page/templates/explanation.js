  const [series] = data.series, [path] = series.paths, last = data.steps.length;
  const asked = new URLSearchParams(location.hash.slice(1)); // #step=5, to share a step
  const state = { step: Math.min(last, Math.max(1, Math.round(Number(asked.get("step"))) || 1)), timer: 0 };

  function arrow(context, [x, y], [u, v], style, width) {
    const length = Math.hypot(u - x, v - y);
    if (length < 0.5) return;
    const [a, b] = [(u - x) / length, (v - y) / length], head = Math.min(10, 0.6 * length + 3);
    Object.assign(context, { strokeStyle: style, fillStyle: style, lineWidth: width, lineCap: "round" });
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(u - a * head * 0.7, v - b * head * 0.7);
    context.stroke();
    context.beginPath();
    context.moveTo(u, v);
    context.lineTo(u - head * (a + 0.45 * b), v - head * (b - 0.45 * a));
    context.lineTo(u - head * (a - 0.45 * b), v - head * (b + 0.45 * a));
    context.fill();
  }

  function paint() {
    const step = data.steps[state.step - 1];
    paintWindow($("plane"), (context, at) => paintSteps(context, at, step));
    tell(step);
  }

  function paintSteps(context, at, step) {
    const points = Array.from({ length: state.step + 1 }, (_, place) => at([path.x[place], path.y[place]]));
    stroke(context, points, series, { width: 2, halo: true });
    const before = points[state.step - 1];
    if (step.gradient) {
      const tip = at([path.x[state.step - 1] - step.gradient[0], path.y[state.step - 1] - step.gradient[1]]);
      const length = Math.hypot(tip[0] - before[0], tip[1] - before[1]), short = Math.min(1, 90 / length);
      arrow(context, before, before.map((from, axis) => from + (tip[axis] - from) * short), colour("--bad"), 2.4);
    }
    arrow(context, before, points[state.step], colour("--ink"), 2.6);
    points.slice(0, -1).forEach((point) => mark(context, point, series, 3.2));
    mark(context, points[state.step], series, 5.5);
  }

  const element = (name, text) => Object.assign(document.createElement(name), { textContent: text });

  // A text, or a matrix, which comes as its rows.
  function shown(value) {
    if (!Array.isArray(value)) return value;
    const rows = document.createElement("table"), matrix = element("span", "");
    for (const row of value) rows.insertRow().append(...row.map((number) => element("td", number)));
    matrix.className = "matrix";
    matrix.append(rows);
    return matrix;
  }

  function pair([name, value]) {
    const told = document.createElement("dd");
    told.append(shown(value));
    return [element("dt", name), told];
  }

  function equation([symbol, expression, value]) {
    const line = document.createElement("li"), told = document.createElement("b");
    told.append("= ", shown(value));
    line.append(element("code", `${symbol} ← ${expression}`), told);
    return line;
  }

  function outcome({ value, before }) {
    if (value === before) return `The value stays ${spell(value)}.`;
    const way = value < before ? "falls" : "rises", [from, to] = [before, value].map(spell);
    return from === to ? `The value ${way} by ${spell(Math.abs(value - before))}, to ${to}.` : `The value ${way} from ${from} to ${to}.`;
  }

  function tell(step) {
    $("given").replaceChildren(...step.given.flatMap(pair));
    $("numbers").replaceChildren(...step.numbers.map((number) => { const told = element("div", ""); told.append(...pair(number)); return told; }));
    $("equations").replaceChildren(...step.equations.map(equation));
    $("outcome").textContent = outcome(step);
    $("now").value = state.step;
    $("count").textContent = `step ${state.step} of ${last}`;
    $("play").textContent = state.timer ? "❚❚" : "▶";
    $("play").setAttribute("aria-label", state.timer ? "Pause" : "Play");
  }

  function go(step) {
    state.step = Math.min(last, Math.max(1, step));
    paint();
  }

  function pause() {
    clearInterval(state.timer);
    state.timer = 0;
  }

  function play() {
    if (state.timer) pause();
    else {
      if (state.step === last) state.step = 1;
      state.timer = setInterval(() => {
        if (state.step >= last - 1) pause();
        go(state.step + 1);
      }, 900);
    }
    paint();
  }

  function step(by) {
    pause();
    go(state.step + by);
  }

  $("play").addEventListener("click", play);
  $("back").addEventListener("click", () => step(-1));
  $("ahead").addEventListener("click", () => step(1));
  $("now").addEventListener("input", (event) => { pause(); go(Number(event.target.value)); });
  document.addEventListener("keydown", (event) => {
    if (isTaken(event)) return;
    const act = { " ": play, ArrowRight: () => step(1), ArrowLeft: () => step(-1), Home: () => step(-last), End: () => step(last) }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  dark.addEventListener("change", paint);
  new ResizeObserver(paint).observe($("plane").parentElement);
  window.steepest = { state, go }; // for tests and the curious
