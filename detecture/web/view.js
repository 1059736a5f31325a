// Paints the label map over each image of the page, and shows which region is pointed at.
// One instance for the page; `view.py` writes the elements, gradio puts them in and takes them out.
(() => {
  let opacity = 0.45;
  const states = new WeakMap(); // .dt-view element -> what was unpacked from it

  async function unpack(base64) {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const view = new DataView(await new Response(stream).arrayBuffer());
    const labels = new Uint16Array(view.byteLength / 2);
    for (let i = 0; i < labels.length; i++) labels[i] = view.getUint16(2 * i, true);
    return labels;
  }

  async function adopt(view) {
    view.dataset.state = "loading";
    const width = Number(view.dataset.width);
    const height = Number(view.dataset.height);
    const canvas = view.querySelector("canvas");
    canvas.width = width;
    canvas.height = height;
    const colors = JSON.parse(view.dataset.colors);
    const labels = await unpack(view.dataset.labels);
    states.set(view, { width, height, canvas, colors, labels, active: null });
    paint(view);
    view.dataset.state = "shown";
  }

  function paint(view) {
    const { width, height, canvas, colors, labels, active } = states.get(view);
    const image = new ImageData(width, height);
    const out = image.data;
    const faint = opacity * 0.2;
    const strong = Math.min(1, opacity * 1.4);
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        const label = labels[i];
        const edge =
          (x + 1 < width && labels[i + 1] !== label) ||
          (y + 1 < height && labels[i + width] !== label);
        if (edge) {
          out[4 * i] = out[4 * i + 1] = out[4 * i + 2] = 255;
          out[4 * i + 3] = 255 * Math.min(1, 2 * opacity);
        } else if (label > 0) {
          const [red, green, blue] = colors[label];
          out[4 * i] = red;
          out[4 * i + 1] = green;
          out[4 * i + 2] = blue;
          out[4 * i + 3] = 255 * (active === null ? opacity : active === label ? strong : faint);
        }
      }
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  function activate(view, label) {
    const state = states.get(view);
    if (!state || state.active === label) return;
    state.active = label;
    for (const line of view.querySelectorAll(".dt-legend li"))
      line.classList.toggle("dt-active", Number(line.dataset.region) === label);
    paint(view);
  }

  function line(view, label) {
    return view.querySelector(`.dt-legend li[data-region="${label}"]`);
  }

  function point(event) {
    const view = event.target.closest?.(".dt-view");
    for (const other of document.querySelectorAll('.dt-view[data-state="shown"]')) {
      if (other === view) continue;
      activate(other, null);
      other.querySelector(".dt-tip").hidden = true;
    }
    const state = view && states.get(view);
    if (!state) return;
    const tip = view.querySelector(".dt-tip");
    const entry = event.target.closest(".dt-legend li");
    if (entry) {
      tip.hidden = true;
      activate(view, Number(entry.dataset.region));
      return;
    }
    const box = state.canvas.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * state.width);
    const y = Math.floor(((event.clientY - box.top) / box.height) * state.height);
    if (x < 0 || y < 0 || x >= state.width || y >= state.height) {
      tip.hidden = true;
      activate(view, null);
      return;
    }
    const label = state.labels[y * state.width + x];
    activate(view, label);
    const legend = line(view, label);
    if (!legend) return;
    tip.textContent =
      legend.querySelector(".dt-text").textContent +
      " · " +
      legend.querySelector(".dt-share").textContent;
    tip.hidden = false;
    const left = Math.min(event.clientX - box.left + 14, box.width - tip.offsetWidth - 4);
    tip.style.left = `${Math.max(0, left)}px`;
    tip.style.top = `${event.clientY - box.top + 18}px`;
  }

  function focused(event) {
    const entry = event.target.closest?.(".dt-legend li");
    const view = entry && entry.closest(".dt-view");
    if (view) activate(view, event.type === "focusin" ? Number(entry.dataset.region) : null);
  }

  window.detecture = {
    setOpacity(value) {
      opacity = value;
      for (const view of document.querySelectorAll('.dt-view[data-state="shown"]')) paint(view);
    },
  };
  document.addEventListener("pointermove", point);
  document.addEventListener("pointerdown", point);
  document.addEventListener("focusin", focused);
  document.addEventListener("focusout", focused);
  new MutationObserver(() => {
    for (const view of document.querySelectorAll(".dt-view:not([data-state])")) adopt(view);
  }).observe(document.documentElement, { childList: true, subtree: true });
})();
