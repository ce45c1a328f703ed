"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const charts = [...document.querySelectorAll(".chart")];
  const legend = document.querySelector(".legend");
  const chips = [...document.querySelectorAll(".chip[data-series]")];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const coarse = matchMedia("(pointer: coarse)");
  const chosen = new Set();
  const positions = { axis: "epochs", layer: document.querySelector("select[name=layer]")?.value ?? "All parameters" };
  let printing = false;

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const tint = (hex, opacity) =>
    `rgba(${[1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)).join(",")},${opacity})`;

  // Colours of the chosen scheme, and the chosen optimizers before the others.
  function dressTrace(trace) {
    const { role, series } = trace.meta;
    const ink = dark.matches && !printing ? trace.meta.dark : trace.meta.light;
    const behind = chosen.size > 0 && !chosen.has(series);
    if (role === "band") trace.fillcolor = tint(ink, dark.matches && !printing ? 0.18 : 0.13);
    if (trace.line && role !== "band") trace.line.color = ink;
    if (trace.marker) trace.marker.color = ink;
    if (trace.marker?.line?.color) trace.marker.line.color = ink;
    if (trace.error_x?.array) trace.error_x.color = tint(ink, 0.28);
    if (trace.error_y?.array) trace.error_y.color = ink;
    if (behind && role === "band") trace.visible = false;
    if (behind) {
      trace.opacity = 0.1;
      trace.hoverinfo = "skip";
      delete trace.hovertemplate;
    }
    return trace;
  }

  function dressLayout(layout) {
    const ink = colour("--ink"), soft = colour("--soft"), grid = colour("--grid"), surface = colour("--surface");
    Object.assign(layout, {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: colour("--sans"), size: 12, color: soft },
      hoverlabel: { bgcolor: surface, bordercolor: soft, font: { family: colour("--sans"), size: 13, color: ink }, align: "left" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: ink },
      dragmode: coarse.matches ? false : "zoom",
    });
    for (const name of ["xaxis", "yaxis"]) {
      Object.assign(layout[name], { gridcolor: grid, tickcolor: grid, linecolor: grid, color: soft });
      layout[name].tickfont = { color: layout[name].ticktext && layout[name].type !== "log" ? ink : soft };
    }
    for (const shape of layout.shapes ?? []) {
      if (shape.type === "line") shape.line.color = soft;
      else shape.fillcolor = tint(soft, 0.14);
    }
    return layout;
  }

  const NARROW = 420; // below it, names beside the rows would leave no room for the rows
  const LETTER = 6.4, LINE = 14; // pixels of the small print

  // On a narrow page the name of a row stands above it.
  function namesAbove(layout) {
    const { tickvals, ticktext, range } = layout.yaxis;
    const lines = Math.max(...ticktext.map((name) => name.split("<br>").length));
    layout.annotations = tickvals.map((y, at) => ({
      xref: "paper", x: 0, xanchor: "left", yref: "y", y, yanchor: "bottom", yshift: 14,
      text: ticktext[at], align: "left", showarrow: false, font: { size: 11, color: colour("--ink") },
    }));
    layout.yaxis.showticklabels = false;
    layout.yaxis.range = [range[0], range[1] + 0.4];
    layout.height = tickvals.length * (34 + LINE * lines) + 90 + LINE;
  }

  // A title in lines that fit.
  function folded(title, width) {
    const lines = [""];
    for (const piece of title.split(/(?<=[ ._,[])/)) {
      if (lines.at(-1) && (lines.at(-1) + piece).length * LETTER > width) lines.push("");
      lines[lines.length - 1] += piece;
    }
    return lines.join("<br>");
  }

  function fit(layout, width) {
    const rows = layout.yaxis.ticktext && layout.yaxis.type !== "log";
    if (rows && width < NARROW) namesAbove(layout);
    layout.xaxis.title.text = folded(layout.xaxis.title.text, width - 40);
    layout.yaxis.title.text = folded(layout.yaxis.title.text, layout.height - 90);
  }

  function draw(place) {
    if (place.closest("details:not([open])")) return; // it has no width yet
    const keys = JSON.parse(place.dataset.charts);
    const key = keys[positions[place.dataset.switch]] ?? keys[""];
    const figure = figures[key];
    place.dataset.empty = String(!figure);
    if (!figure) return Plotly.purge(place);
    const { data, layout } = structuredClone(figure);
    const traces = data.map(dressTrace);
    const front = traces.filter((trace) => !(trace.opacity < 0.5 && trace.hoverinfo === "skip"));
    const back = traces.filter((trace) => !front.includes(trace));
    fit(layout, printing ? NARROW : place.clientWidth);
    if (printing) layout.width = place.closest(".grid") ? 320 : 680; // a sheet's width is not the window's
    return Plotly.react(place, [...back, ...front], dressLayout(layout), {
      responsive: true,
      displaylogo: false,
      displayModeBar: coarse.matches ? false : "hover",
      modeBarButtons: [["toImage", "resetScale2d"]], // named one by one: the usual set has one that sends data away
      toImageButtonOptions: { filename: key, scale: 2 },
    });
  }

  const drawAll = () => charts.forEach(draw);

  function bringForward(label) {
    if (label === null) chosen.clear();
    else if (!chosen.delete(label)) chosen.add(label);
    if (chosen.size === chips.length) chosen.clear();
    chips.forEach((chip) => chip.setAttribute("aria-pressed", String(chosen.has(chip.dataset.series))));
    legend.classList.toggle("chosen", chosen.size > 0);
    legend.querySelector(".all").hidden = chosen.size === 0;
    drawAll();
  }

  chips.forEach((chip) => chip.addEventListener("click", () => bringForward(chip.dataset.series)));
  legend?.querySelector(".all").addEventListener("click", () => bringForward(null));
  document.querySelectorAll("input[name=axis], select[name=layer]").forEach((choice) =>
    choice.addEventListener("change", () => {
      positions[choice.name] = choice.value;
      charts.filter((place) => place.dataset.switch === choice.name).forEach(draw);
    })
  );
  document.querySelectorAll("details.drawn").forEach((part) =>
    part.addEventListener("toggle", () => part.querySelectorAll(".chart").forEach(draw))
  );
  dark.addEventListener("change", drawAll);
  function setPrinting(now) {
    printing = now;
    document.documentElement.classList.toggle("printing", now); // paper is light, whatever the screen is
    drawAll();
  }
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details:not(.export)").forEach((part) => (part.open = true));
    setPrinting(true);
  });
  addEventListener("afterprint", () => setPrinting(false));

  // Sorting: numbers before words, empty cells last, the row's first order as the tie-break.
  function compare(one, two) {
    if (one === "" || two === "") return (one === "") - (two === "");
    const [a, b] = [Number(one), Number(two)];
    return Number.isNaN(a) || Number.isNaN(b) ? one.localeCompare(two, undefined, { numeric: true }) : a - b;
  }

  function sort(header) {
    const table = header.closest("table");
    const body = table.tBodies[0];
    const column = Number(header.dataset.column);
    const downwards = header.getAttribute("aria-sort") === (header.classList.contains("number") ? null : "ascending");
    table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", downwards ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.sort;
    const rows = [...body.rows].sort((one, two) => {
      if (key(one) === "" || key(two) === "") return compare(key(one), key(two));
      return downwards ? compare(key(two), key(one)) : compare(key(one), key(two));
    });
    body.append(...rows);
  }

  // The columns of a table with grouped headings: those with a row span first, then the second row's, left to right.
  function numberColumns(table) {
    const rows = table.tHead.rows;
    let column = 0, inner = 0;
    for (const header of rows[0].cells) {
      const members = header.colSpan > 1 || header.scope === "colgroup" ? [...rows[1].cells].slice(inner, inner + header.colSpan) : [header];
      if (members[0] !== header) inner += members.length;
      members.forEach((member) => (member.dataset.column = column++));
    }
  }

  document.querySelectorAll("table.data").forEach((table) => {
    numberColumns(table);
    table.querySelectorAll(".sort").forEach((button) => button.addEventListener("click", () => sort(button.closest("th"))));
  });
  drawAll();
})();
