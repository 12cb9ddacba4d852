"use strict";
(function () {
  const contents = JSON.parse(document.getElementById("contents").textContent);
  const config = { displaylogo: false, responsive: true, scrollZoom: false, showLink: false, plotlyServerURL: "",
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
  const opacity = document.getElementById("opacity"), shared = document.getElementById("shared");
  const row = document.getElementById("row"), column = document.getElementById("column");
  const largest = Math.max(...contents.panels.map((panel) => panel.limit));

  function floats(packed) { // little-endian, whatever this machine is
    const text = atob(packed.floats), view = new DataView(new ArrayBuffer(text.length));
    for (let i = 0; i < text.length; i++) view.setUint8(i, text.charCodeAt(i));
    return Float32Array.from({ length: text.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
  }
  const arrays = contents.arrays.map((packed) => ({ values: floats(packed), shape: packed.shape }));
  const element = (panel, name) => document.getElementById(name + "-" + panel.number);
  const text = (value) => Number.isFinite(value) ? String(Number(value.toPrecision(4))) : "none";

  // The numbers of a pixel along the bands, ascending in wavelength; axes of size 1 are the same everywhere.
  function along(array, i, j, order) {
    const [bands, rows, columns] = array.shape;
    const place = Math.min(i, rows - 1) * columns + Math.min(j, columns - 1);
    return order.map((band) => array.values[Math.min(band, bands - 1) * rows * columns + place]);
  }

  function show(panel, y, x) {
    const [bands, rows, columns] = arrays[panel.image].shape;
    const nearest = (at, size) => Math.max(0, Math.min(size - 1, Math.round((at - panel.offset) / panel.step)));
    const i = nearest(y, rows), j = nearest(x, columns);
    const shownRow = panel.offset + panel.step * i, shownColumn = panel.offset + panel.step * j;
    const spectrum = along(arrays[panel.image], i, j, panel.order);
    const attributions = along(arrays[panel.attributions], i, j, panel.order);
    Plotly.restyle(element(panel, "pixel"), { y: [spectrum, attributions],
      "marker.color": [undefined, attributions.map((value) => value < 0 ? panel.negative : panel.positive)] }, [0, 1]);
    Plotly.restyle(element(panel, "map"), { x: [[shownColumn, shownColumn]], y: [[shownRow, shownRow]] }, [1]);
    const finite = attributions.map((value, at) => [value, at]).filter(([value]) => Number.isFinite(value));
    const top = finite.reduce((best, one) => Math.abs(one[0]) > Math.abs(best[0]) ? one : best, [0, -1]);
    let line = "Row " + shownRow + ", column " + shownColumn + ": ";
    if (finite.length === 0) line += "under the mask.";
    else if (panel.kind === "spatial") line += "attribution " + text(top[0]) + ", the same in all bands.";
    else {
      line += "attributions sum to " + text(finite.reduce((sum, one) => sum + one[0], 0));
      line += top[1] < 0 ? "." : ", the largest at " + panel.wavelengths[top[1]].toFixed(1) + " nm (" + text(top[0]) + ").";
    }
    element(panel, "readout").textContent = line;
  }

  // A pixel is chosen in all panels whose scene has the same size.
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
      show(panel, ...panel.start);
      element(panel, "map").on("plotly_click", (event) => {
        const point = event.points.find((one) => one.curveNumber === 0);
        if (point) choose(panel.shape, Math.round(point.y), Math.round(point.x));
      });
    }
    document.body.dataset.ready = "true";
  }

  const plots = [];
  for (const panel of contents.panels)
    for (const name of ["map", "pixel", "bands"]) {
      const figure = panel.figures[name];
      if (figure) plots.push(Plotly.newPlot(element(panel, name), figure.data, figure.layout, config));
    }
  Promise.all(plots).then(drawn);
})();
