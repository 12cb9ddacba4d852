"use strict";
(function () {
  const contents = JSON.parse(document.getElementById("contents").textContent);
  const config = { displaylogo: false, responsive: true, scrollZoom: false, showLink: false, plotlyServerURL: "",
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
  const opacity = document.getElementById("opacity"), shared = document.getElementById("shared");
  const row = document.getElementById("row"), column = document.getElementById("column");
  const largest = Math.max(...contents.panels.map((panel) => panel.limit));

  const arrays = [];

  async function unpacked(text) { // base64 of a zlib stream, as bytes
    const letters = atob(text), bytes = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  async function floats(array) { // all first bytes, then all second ones, ...; little-endian, whatever this machine is
    const bytes = await unpacked(array.packed), count = bytes.length / 4, values = new Float32Array(count);
    const view = new DataView(new ArrayBuffer(4));
    for (let i = 0; i < count; i++) {
      for (let plane = 0; plane < 4; plane++) view.setUint8(plane, bytes[plane * count + i]);
      values[i] = view.getFloat32(0, true);
    }
    return { values, shape: array.shape };
  }
  const element = (panel, name) => document.getElementById(name + "-" + panel.number);
  const text = (value) => Number.isFinite(value) ? String(Number(value.toPrecision(4))) : "none";

  // The numbers of a pixel along the bands, ascending in wavelength; axes of size 1 are the same everywhere.
  function along(array, i, j, order) {
    const [bands, rows, columns] = array.shape;
    const place = Math.min(i, rows - 1) * columns + Math.min(j, columns - 1);
    return order.map((band) => array.values[Math.min(band, bands - 1) * rows * columns + place]);
  }

  // The nearest pixel whose numbers are there: its place in the arrays, and in the scene.
  function nearest(panel, y, x) {
    if (panel.image === null) return [0, 0, y, x];
    if (panel.places !== null) {
      const distances = panel.places.map(([row, column]) => (row - y) ** 2 + (column - x) ** 2);
      const at = distances.reduce((best, distance, i) => distance < distances[best] ? i : best, 0);
      return [at, 0, ...panel.places[at]];
    }
    const [, rows, columns] = arrays[panel.image].shape;
    const along = (at, size) => Math.max(0, Math.min(size - 1, Math.round((at - panel.offset) / panel.step)));
    const i = along(y, rows), j = along(x, columns);
    return [i, j, panel.offset + panel.step * i, panel.offset + panel.step * j];
  }

  function show(panel, y, x) {
    const [i, j, shownRow, shownColumn] = nearest(panel, y, x);
    Plotly.restyle(element(panel, "map"), { x: [[shownColumn, shownColumn]], y: [[shownRow, shownRow]] }, [1]);
    let line = "Row " + shownRow + ", column " + shownColumn + ": ";
    if (panel.image === null) {
      const [rows, columns] = panel.picture, block = Math.ceil(panel.shape[1] / columns);
      const at = Math.min(rows - 1, Math.floor(y / block)) * columns + Math.min(columns - 1, Math.floor(x / block));
      element(panel, "readout").textContent = line + "attribution " + text(arrays[panel.heat].values[at]) + ".";
      return;
    }
    const spectrum = along(arrays[panel.image], i, j, panel.order);
    const attributions = along(arrays[panel.attributions], i, j, panel.order);
    Plotly.restyle(element(panel, "pixel"), { y: [spectrum, attributions],
      "marker.color": [undefined, attributions.map((value) => value < 0 ? panel.negative : panel.positive)] }, [0, 1]);
    const finite = attributions.map((value, at) => [value, at]).filter(([value]) => Number.isFinite(value));
    const top = finite.reduce((best, one) => Math.abs(one[0]) > Math.abs(best[0]) ? one : best, [0, -1]);
    if (finite.length === 0) line += "under the mask.";
    else if (panel.kind === "spatial") line += "attribution " + text(top[0]) + ", the same in all bands.";
    else if (top[1] < 0) line += "all attributions are 0.";
    else {
      // The number of a group of bands stands at each of them: a sum would count it as often.
      if (panel.kind !== "spectral") line += "attributions sum to " + text(finite.reduce((sum, one) => sum + one[0], 0)) + ", ";
      line += "the largest at " + panel.wavelengths[top[1]].toFixed(1) + " nm (" + text(top[0]) + ").";
    }
    element(panel, "readout").textContent = line;
  }

  // A pixel is chosen in all panels whose scene has the same size; they begin with that of the first.
  function choose(shape, y, x) {
    row.value = y;
    column.value = x;
    for (const panel of contents.panels) if (String(panel.shape) === String(shape)) show(panel, y, x);
  }

  function drawn() {
    opacity.addEventListener("input", () => {
      document.getElementById("opacity-value").textContent = opacity.value + " %";
      for (const panel of contents.panels.filter((panel) => panel.mapped))
        Plotly.restyle(element(panel, "map"), { opacity: opacity.value / 100 }, [0]);
    });
    const scale = () => {
      for (const panel of contents.panels.filter((panel) => panel.mapped)) {
        const limit = shared !== null && shared.checked ? largest : panel.limit;
        Plotly.restyle(element(panel, "map"), { zmin: -limit, zmax: limit }, [0]);
      }
    };
    if (shared !== null) shared.addEventListener("change", scale);
    scale();
    for (const input of [row, column])
      input.addEventListener("change", () => {
        const shape = contents.panels[0].shape;
        const within = (value, size) => Math.max(0, Math.min(size - 1, Math.round(Number(value)) || 0));
        choose(shape, within(row.value, shape[0]), within(column.value, shape[1]));
      });
    for (const panel of contents.panels) {
      const first = contents.panels.find((one) => String(one.shape) === String(panel.shape));
      show(panel, ...first.start);
      element(panel, "map").on("plotly_click", (event) => {
        const point = event.points.find((one) => one.curveNumber === 0);
        if (point) choose(panel.shape, Math.round(point.y), Math.round(point.x));
      });
    }
    document.body.dataset.ready = "true";
  }

  // The map as rows; without one there is still something to click at.
  function heat(panel) {
    const [rows, columns] = panel.picture;
    const values = panel.heat === null ? new Float32Array(rows * columns) : arrays[panel.heat].values;
    return Array.from({ length: rows }, (_, i) => values.subarray(i * columns, (i + 1) * columns));
  }

  async function start() {
    if (typeof DecompressionStream === "undefined") throw new Error("this browser can't unpack it (those since 2023 can)");
    const script = document.createElement("script");
    script.textContent = new TextDecoder().decode(await unpacked(document.getElementById("plotly").textContent));
    document.head.append(script);
    for (const packed of contents.arrays) arrays.push(await floats(packed));
    const plots = [];
    for (const panel of contents.panels) {
      panel.figures.map.data[0].z = heat(panel);
      for (const name of ["map", "pixel", "bands"]) {
        const figure = panel.figures[name];
        if (figure) plots.push(Plotly.newPlot(element(panel, name), figure.data, figure.layout, config));
      }
    }
    await Promise.all(plots);
    drawn();
  }

  start().catch((error) => {
    const said = document.createElement("p");
    said.textContent = "The figures can't be drawn: " + error.message;
    document.querySelector("main").prepend(said);
    console.error(error);
  });
})();
