"use strict";
// A view as the run draws it, in patches, and the points of its object, colored by what the chosen patch attends to. Names come
// from folders and data sets: they are only ever set as text, never as HTML.
(() => {
  const TURN_PER_PX = 0.009, TURN_PER_KEY = Math.PI / 18;
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const percent = (share) => (100 * share).toFixed(share < 0.1 ? 1 : 0) + " %";
  let numChoices = 0;

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  function choice(label, names, onChange) {
    const id = "choice" + numChoices++;
    const select = make("select", { id }, ...names.map((name, i) => {
      const option = make("option", { value: i });
      option.textContent = name;
      return option;
    }));
    select.addEventListener("change", onChange);
    return { select, element: make("label", { for: id }, label, select), get at() { return select.selectedIndex; } };
  }

  // Rows times columns, 3 x 3.
  function product(a, b) {
    const c = [];
    for (let i = 0; i < 3; i++)
      for (let j = 0; j < 3; j++) c.push(a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j]);
    return c;
  }
  // About the screen's axes: x to the right, y up.
  function rotation(aboutX, aboutY) {
    const cx = Math.cos(aboutX), sx = Math.sin(aboutX), cy = Math.cos(aboutY), sy = Math.sin(aboutY);
    return product([1, 0, 0, 0, cx, -sx, 0, sx, cx], [cy, 0, sy, 0, 1, 0, -sy, 0, cy]);
  }

  function unpack(attention) {
    const points = new Int16Array(bytes(attention.points).buffer);
    let radius = 1;
    for (let i = 0; i < points.length; i += 3)
      radius = Math.max(radius, Math.hypot(points[i], points[i + 1], points[i + 2]));
    return {
      points, radius,
      nearest: new Uint16Array(bytes(attention.nearest).buffer),
      views: attention.views.map((view) => ({
        pose: view.pose,
        shares: bytes(view.shares),
        largest: new Float32Array(bytes(view.largest).buffer),
        pad: new Float32Array(bytes(view.pad).buffer),
      })),
    };
  }

  // 256 colors, from nothing to the largest share.
  function ramp() {
    const stops = getComputedStyle(document.documentElement).getPropertyValue("--ramp").split(",")
      .map((stop) => stop.trim().split(/\s+/).map(Number));
    return Array.from({ length: 256 }, (_, i) => {
      const at = i / 255 * (stops.length - 1), low = Math.min(stops.length - 2, Math.floor(at)), part = at - low;
      return "rgb(" + stops[low].map((x, c) => Math.round(x + part * (stops[low + 1][c] - x))).join(",") + ")";
    });
  }

  function inspector(root) {
    const gallery = root.dataset.gallery;
    const data = JSON.parse(document.getElementById("attention" + gallery).textContent);
    const { objects, runs, views } = data;
    const unpacked = new Map();
    const still = [1, 0, 0, 0, 1, 0, 0, 0, 1];
    let patch = -1, turned = still, frame = 0;

    const object = choice("object", objects.map((one) => one.label), () => show(true));
    const run = choice("run", runs, () => show(true));
    const view = choice("view", views, () => show(true));
    const block = choice("block", [], () => show(false));
    const truth = make("img", {}), drawn = make("img", {});
    const patches = make("div", { class: "patches", role: "radiogroup", "aria-label": "patches of the generated view" });
    const canvas = make("canvas", {
      tabindex: 0, role: "img", "aria-label": "The points, colored by attention. Arrow keys turn them, Home turns them back.",
    });
    const most = make("span", {});
    const said = make("p", { class: "said", "aria-live": "polite" });
    root.replaceChildren(
      make("div", { class: "choices" }, object.element, run.element, view.element, block.element),
      make("div", { class: "panes" },
        make("figure", { class: "true" }, truth, make("figcaption", {}, "true")),
        make("figure", { class: "drawn" }, make("div", { class: "framed" }, drawn, patches),
          make("figcaption", {}, "generated: choose a patch")),
        make("figure", { class: "cloud" }, canvas,
          make("figcaption", {}, make("span", { class: "legend" }, "0 ", make("i", {}), " ", most),
            make("span", {}, "drag to turn, double-click to turn back"))),
        said));
    if (objects.length < 2) object.element.hidden = true;
    if (runs.length < 2) run.element.hidden = true;

    const packed = () => objects[object.at].attention[run.at];
    function current() {
      const key = object.at + "/" + run.at;
      if (!unpacked.has(key)) unpacked.set(key, unpack(packed()));
      return unpacked.get(key);
    }

    // Another object, run or view is seen as that view sees it.
    function show(isOther) {
      if (!packed()) {
        patches.replaceChildren();
        said.textContent = "Of this object, the run has no attention to tokens.";
        canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
        return;
      }
      const { grid, blocks } = packed();
      if (block.select.dataset.blocks !== blocks.join()) {
        block.select.dataset.blocks = blocks.join();
        block.select.replaceChildren(...blocks.map((number) => make("option", {}, number)));
        block.select.selectedIndex = blocks.length - 1;
        block.element.hidden = blocks.length < 2;
      }
      const id = "g" + gallery + "o" + objects[object.at].place;
      const image = (of) => document.getElementById(id + of + "v" + view.at);
      for (const [shown, of] of [[truth, "true"], [drawn, "r" + run.at]]) {
        shown.src = image(of).src;
        shown.alt = image(of).alt;
      }
      if (patches.childElementCount !== grid * grid) {
        patches.style.setProperty("--grid", grid);
        patches.replaceChildren(...Array.from({ length: grid * grid }, (_, i) => {
          const button = make("button", {
            type: "button", role: "radio", "aria-label": "row " + (Math.floor(i / grid) + 1) + ", column " + (i % grid + 1),
          });
          button.addEventListener("click", () => choose(i));
          return button;
        }));
        patch = Math.floor(grid / 2) * grid + Math.floor(grid / 2);
      }
      if (isOther) turned = still;
      choose(patch);
    }

    function choose(next) {
      patch = next;
      [...patches.children].forEach((button, i) => {
        button.setAttribute("aria-checked", i === patch);
        button.tabIndex = i === patch ? 0 : -1;
      });
      const { grid, num_tokens: numTokens, has_pad_token: hasPad } = packed();
      const of = current().views[view.at], row = block.at * grid * grid + patch;
      most.textContent = percent(of.largest[row]);
      said.textContent = "Row " + (Math.floor(patch / grid) + 1) + ", column " + (patch % grid + 1) + ": at most "
        + percent(of.largest[row]) + " of the attention goes to one of " + numTokens + " tokens, an even share is "
        + percent(1 / (numTokens + (hasPad ? 1 : 0))) + (hasPad ? "; " + percent(of.pad[row]) + " goes to the pad token." : ".");
      redraw();
    }

    function redraw() {
      if (!frame) frame = requestAnimationFrame(() => { frame = 0; draw(); });
    }
    function draw() {
      if (!packed()) return;
      const size = Math.round(canvas.clientWidth * Math.max(1, devicePixelRatio || 1));
      if (!size) return;
      if (canvas.width !== size) canvas.width = canvas.height = size;
      const { grid, num_tokens: numTokens } = packed(), { points, radius, nearest, views: poses } = current();
      const of = poses[view.at], first = (block.at * grid * grid + patch) * numTokens;
      const [a, b, c, d, e, f, g, h, i] = product(turned, of.pose);
      const num = points.length / 3, colors = ramp(), context = canvas.getContext("2d");
      const scale = 0.47 * size / radius, middle = size / 2, dot = 0.2 * size / Math.sqrt(num);
      const depth = new Float32Array(num);
      for (let p = 0; p < num; p++)
        depth[p] = (g * points[3 * p] + h * points[3 * p + 1] + i * points[3 * p + 2]) / radius;
      const order = Array.from(depth.keys()).sort((one, other) => depth[one] - depth[other]);
      context.clearRect(0, 0, size, size);
      for (const p of order) {
        const x = points[3 * p], y = points[3 * p + 1], z = points[3 * p + 2];
        context.fillStyle = colors[of.shares[first + nearest[p]]];
        context.beginPath();
        context.arc(middle + scale * (a * x + b * y + c * z), middle - scale * (d * x + e * y + f * z),
          dot * (1 + 0.3 * depth[p]), 0, 7);
        context.fill();
      }
      root.dataset.drawn = Number(root.dataset.drawn || 0) + 1;
    }

    function turn(aboutX, aboutY) {
      turned = product(rotation(aboutX, aboutY), turned);
      redraw();
    }
    let grip = null;
    canvas.addEventListener("pointerdown", (event) => {
      grip = [event.clientX, event.clientY];
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!grip) return;
      turn(TURN_PER_PX * (event.clientY - grip[1]), TURN_PER_PX * (event.clientX - grip[0]));
      grip = [event.clientX, event.clientY];
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (grip = null));
    const turnBack = () => { turned = still; redraw(); };
    canvas.addEventListener("dblclick", turnBack);
    canvas.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (by) turn(by[0] * TURN_PER_KEY, by[1] * TURN_PER_KEY);
      else if (event.key === "Home") turnBack();
      else return;
      event.preventDefault();
    });
    patches.addEventListener("keydown", (event) => {
      const { grid } = packed();
      const [down, right] = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key] || [0, 0];
      if (!down && !right) return;
      const within = (x) => Math.min(grid - 1, Math.max(0, x));
      choose(within(Math.floor(patch / grid) + down) * grid + within(patch % grid + right));
      patches.children[patch].focus();
      event.preventDefault();
    });
    new ResizeObserver(redraw).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    // What is printed is drawn at once, in the colors of paper.
    for (const name of ["beforeprint", "afterprint"]) addEventListener(name, draw);
    show(true);
  }

  document.querySelectorAll(".inspector").forEach(inspector);
})();
