"use strict";
// The grid of objects, and one object as points among the cameras that saw it. All text comes from the data set: it is
// only ever set as text, never as HTML.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const make = (tag, name, text) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const picture = (png) => "data:image/png;base64," + png;
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

  // The grid.
  const grid = $("grid");
  if (data.shows_predictions) grid.classList.add("pairs");
  const state = { category: null, words: "" };
  const cards = data.objects.map((object) => {
    const card = make("button", "card");
    card.type = "button";
    const image = make("img", "view");
    image.alt = object.id;
    image.loading = "lazy";
    const guess = object.predicted && make("img", "view");
    if (guess) {
      guess.alt = object.id + ", predicted";
      guess.loading = "lazy";
    }
    const show = (k) => {
      image.src = picture(object.views[k]);
      if (guess) guess.src = picture(object.predicted.views[k]);
      [...ticks.children].forEach((tick, i) => tick.classList.toggle("on", i === k));
    };
    const ticks = make("div", "ticks");
    object.views.forEach((_, k) => ticks.append(make("i", k ? "" : "on")));
    const label = make("div", "label");
    label.append(make("span", "name", object.name), make("span", "of", object.category + " · " + object.split));
    if (object.findings.length) {
      const tags = make("div");
      object.findings.forEach((finding) => tags.append(make("span", "tag", finding)));
      label.append(tags);
    }
    if (object.views.length) {
      if (guess) {
        const pair = make("div", "pair");
        pair.append(image, guess);
        card.append(pair, ticks);
      } else card.append(image, ticks);
      show(0);
      // Moving over a card turns its object.
      card.addEventListener("pointermove", (event) => {
        const box = card.getBoundingClientRect();
        const part = Math.min(0.999, Math.max(0, (event.clientX - box.left) / box.width));
        show(Math.floor(part * object.views.length));
      });
      card.addEventListener("pointerleave", () => show(0));
    }
    card.append(label);
    card.addEventListener("click", () => viewer.open(object));
    grid.append(card);
    return { object, card };
  });
  const filter = () => {
    let shown = 0;
    for (const { object, card } of cards) {
      const text = (object.id + " " + object.findings.join(" ")).toLowerCase();
      const fits = (!state.category || object.category === state.category) && text.includes(state.words);
      card.hidden = !fits;
      card.style.display = fits ? "" : "none";
      shown += fits;
    }
    $("shown").textContent = shown + " of " + data.num_rows + " objects";
  };
  $("search").addEventListener("input", (event) => {
    state.words = event.target.value.trim().toLowerCase();
    filter();
  });
  document.querySelectorAll(".category").forEach((button) => button.addEventListener("click", () => {
    const name = button.dataset.name;
    state.category = state.category === name ? null : name;
    document.querySelectorAll(".category").forEach((other) =>
      other.setAttribute("aria-pressed", String(other.dataset.name === state.category)));
    filter();
    if (state.category) grid.scrollIntoView({ block: "nearest" });
  }));

  // One object.
  const viewer = (() => {
    const dialog = $("viewer"), canvas = $("canvas"), context = canvas.getContext("2d");
    const home = { yaw: 0.5, pitch: 0.32, zoom: 1 };
    let object = null, cloud = null, images = [], chosen = -1, frame = 0;
    let camera = { ...home }, target = null, spins = false;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const hues = (part) => (part * 137.5 + 205) % 360;

    function open(next) {
      object = next;
      const xyz = new Int16Array(bytes(object.points).buffer), n = new Int8Array(bytes(object.normals).buffer);
      const guess = object.predicted, asked = guess && $("predicted").checked;
      const parts = asked ? guess.parts : object.parts;
      $("guess").hidden = !guess;
      cloud = { xyz, n, parts: parts ? bytes(parts) : null, count: xyz.length / 3 };
      images = (asked ? guess.views : object.views).map((png) => {
        const image = new Image();
        image.src = picture(png);
        image.onload = draw;
        return image;
      });
      chosen = -1;
      camera = { ...home };
      target = null;
      spins = !calm;
      fill();
      if (!dialog.open) dialog.showModal();
      document.body.dataset.open = object.id;
      run();
    }

    function fill() {
      $("object").textContent = object.name;
      $("of").textContent = object.category + " · " + object.split;
      const tags = $("findings");
      tags.replaceChildren(...object.findings.map((finding) => make("span", "tag", finding)));
      if (!object.findings.length) tags.append(make("span", "tag plain", "nothing wrong"));
      const strip = $("strip");
      const shown = object.predicted && $("predicted").checked ? object.predicted.views : object.views;
      strip.replaceChildren(...shown.map((png, k) => {
        const button = make("button"), image = make("img");
        button.type = "button";
        button.title = "view " + (k + 1);
        image.src = picture(png);
        image.alt = button.title;
        button.append(image);
        button.addEventListener("click", () => look(k));
        return button;
      }));
      $("facts").replaceChildren(...object.facts.map(([name, value]) => {
        const row = make("tr");
        row.append(make("td", "faint", name), make("td", "", value));
        return row;
      }));
    }

    // Turns the scene until it is seen as camera k sees it.
    function look(k) {
      chosen = k;
      [...$("strip").children].forEach((button, i) => button.classList.toggle("on", i === k));
      const [x, y, z] = object.cameras[k].slice(6, 9);
      spins = false;
      target = { yaw: Math.atan2(x, z), pitch: Math.asin(Math.max(-1, Math.min(1, y))), zoom: 1.25 };
      if (calm) { camera = target; target = null; }
      document.body.dataset.view = k + 1;
      run();
    }

    function run() {
      if (!frame) frame = requestAnimationFrame(step);
    }
    function step() {
      frame = 0;
      if (!dialog.open) return;
      if (spins) camera.yaw += 0.006;
      if (target) {
        let turn = (target.yaw - camera.yaw) % (2 * Math.PI);
        if (turn > Math.PI) turn -= 2 * Math.PI;
        if (turn < -Math.PI) turn += 2 * Math.PI;
        const left = [turn, target.pitch - camera.pitch, target.zoom - camera.zoom];
        camera.yaw += 0.16 * left[0];
        camera.pitch += 0.16 * left[1];
        camera.zoom += 0.16 * left[2];
        if (Math.max(...left.map(Math.abs)) < 1e-3) target = null;
      }
      draw();
      if (spins || target) run();
    }

    function draw() {
      if (!object) return;
      const size = Math.round(canvas.clientWidth * (devicePixelRatio || 1)) || 720;
      if (canvas.width !== size) canvas.width = canvas.height = size;
      const style = getComputedStyle(document.documentElement);
      const tap = style.getPropertyValue("--tap").trim(), faint = style.getPropertyValue("--faint").trim();
      const scale = size * 0.235 * camera.zoom, middle = size / 2, far = 1.72;
      // Cameras that all look from above would push the object to the bottom of nothing: the scene is centered on both.
      const lift = 0.5 * far * object.cameras.reduce((sum, axes) => sum + axes[7], 0) / Math.max(1, object.cameras.length);
      const cy = Math.cos(camera.yaw), sy = Math.sin(camera.yaw);
      const cp = Math.cos(camera.pitch), sp = Math.sin(camera.pitch);
      // Parallel: +x right, +y up, +z towards whoever looks. A picture in space is then an affine map of itself.
      const turn = (x, y, z) => {
        y -= lift;
        const u = cy * x - sy * z, w = sy * x + cy * z;
        return [u, cp * y - sp * w, sp * y + cp * w];
      };
      const place = ([x, y]) => [middle + scale * x, middle - scale * y];
      context.clearRect(0, 0, size, size);

      const things = [];
      const { xyz, n, parts, count } = cloud;
      const dark = matchMedia("(prefers-color-scheme: dark)").matches;
      for (let i = 0; i < count; i++) {
        const at = turn(xyz[3 * i] / 32767, xyz[3 * i + 1] / 32767, xyz[3 * i + 2] / 32767);
        // Without normals, what is nearer is lighter.
        const facing = n.length ? (sp * n[3 * i + 1] + cp * (sy * n[3 * i] + cy * n[3 * i + 2])) / 127 : 0.5 + 0.5 * at[2];
        const light = Math.round((dark ? 38 : 26) + 34 * Math.abs(facing));
        const hue = parts ? hues(parts[i]) : 212;
        things.push([at[2], () => {
          const [x, y] = place(at);
          context.fillStyle = `hsl(${hue} ${parts ? 62 : 58}% ${light}%)`;
          const r = size * 0.0036 * (1 + 0.25 * at[2]) * Math.sqrt(camera.zoom) * (count > 3000 ? 0.7 : 1);
          context.beginPath();
          context.arc(x, y, Math.max(0.7, r), 0, 7);
          context.fill();
        }]);
      }
      if ($("rig").checked) {
        const half = Math.min(0.3, 1.1 / Math.sqrt(object.cameras.length));
        object.cameras.forEach((axes, k) => {
          const right = axes.slice(0, 3), up = axes.slice(3, 6), eye = axes.slice(6, 9);
          const center = eye.map((x) => x * far);
          const corner = (a, b) => center.map((c, i) => c + half * (a * right[i] + b * up[i]));
          const corners = [corner(-1, 1), corner(1, 1), corner(1, -1), corner(-1, -1)].map((p) => turn(...p));
          const top = turn(...eye.map((x) => x * (far + 1.1 * half)));
          const depth = turn(...center)[2];
          // A picture that hangs right before the object lets it be seen.
          const facing = sp * eye[1] + cp * (sy * eye[0] + cy * eye[2]);
          const veil = 1 - Math.max(0, (facing - 0.8) / 0.2);
          things.push([depth, () => {
            const spots = corners.map(place), tip = place(top), on = k === chosen;
            context.strokeStyle = on ? tap : faint;
            context.lineWidth = size * (on ? 0.0034 : 0.0014);
            context.globalAlpha = on ? 1 : 0.75;
            const image = images[k];
            if ($("pictures").checked && veil > 0.02 && image.complete && image.naturalWidth) {
              const [a, b, , d] = spots, w = image.naturalWidth, h = image.naturalHeight;
              context.save();
              context.globalAlpha = 0.95 * veil;
              context.setTransform((b[0] - a[0]) / w, (b[1] - a[1]) / w, (d[0] - a[0]) / h, (d[1] - a[1]) / h, a[0], a[1]);
              context.drawImage(image, 0, 0);
              context.restore();
            }
            context.beginPath();
            spots.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
            context.closePath();
            spots.forEach(([x, y]) => { context.moveTo(x, y); context.lineTo(...tip); });
            context.stroke();
            context.globalAlpha = 1;
          }]);
        });
      }
      things.sort((a, b) => a[0] - b[0]);
      for (const [, paint] of things) paint();
      document.body.dataset.drawn = Number(document.body.dataset.drawn || 0) + 1;
    }

    let grip = null;
    canvas.addEventListener("pointerdown", (event) => {
      grip = [event.clientX, event.clientY];
      spins = false;
      target = null;
      try { canvas.setPointerCapture(event.pointerId); } catch { /* a pointer that is gone already */ }
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!grip) return;
      camera.yaw -= 0.008 * (event.clientX - grip[0]);
      camera.pitch = Math.max(-1.57, Math.min(1.57, camera.pitch + 0.008 * (event.clientY - grip[1])));
      grip = [event.clientX, event.clientY];
      document.body.dataset.turned = camera.yaw.toFixed(3);
      run();
    });
    ["pointerup", "pointercancel"].forEach((name) => canvas.addEventListener(name, () => (grip = null)));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      target = null;
      camera.zoom = Math.max(0.4, Math.min(6, camera.zoom * Math.exp(-0.0012 * event.deltaY)));
      run();
    }, { passive: false });
    canvas.addEventListener("dblclick", () => { target = { ...home }; run(); });
    ["rig", "pictures"].forEach((id) => $(id).addEventListener("change", run));
    $("predicted").addEventListener("change", () => {
      const before = { ...camera };
      open(object);
      camera = before;
      spins = false;
    });
    $("close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("close", () => { delete document.body.dataset.open; });
    addEventListener("resize", run);
    document.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!dialog.open || !step || !object.views.length) return;
      look((chosen + step + object.views.length) % object.views.length);
      event.preventDefault();
    });
    return { open };
  })();

  filter();
  document.body.dataset.ready = cards.length;
})();
