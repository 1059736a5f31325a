// Filters, sorts and picks the rows of data.js. Texts get into the page by textContent alone.
(() => {
  const review = window.REVIEW;
  if (!review) return; // the page says that data.js is missing
  const rows = review.rows;
  const PAGE = 120; // cards that are added at once
  const BINS = 40;
  const key = `detecture-picks:${location.pathname}`;
  const $ = (id) => document.getElementById(id);
  let shown = []; // rows that pass the filters, in order
  let drawn = 0; // of them, how many have a card
  let open = -1; // index in `shown` of the row in the drawer

  // ---- picks -------------------------------------------------------------------------------

  const picks = new Set(load());

  function load() {
    try {
      const found = JSON.parse(localStorage.getItem(key) || "[]");
      const known = new Set(rows.map((row) => row.pick));
      return Array.isArray(found) ? found.filter((pick) => known.has(pick)) : [];
    } catch {
      return []; // storage that is forbidden, or was changed by hand
    }
  }

  function setPicked(list, picked) {
    for (const row of list) picked ? picks.add(row.pick) : picks.delete(row.pick);
    try {
      localStorage.setItem(key, JSON.stringify([...picks]));
    } catch {
      say("This browser does not keep picks: save the list before you leave.");
    }
    if ($("only-picked").checked && open < 0) update();
    for (const card of $("cards").children) markCard(card);
    if (open >= 0) $("pick-this").checked = picks.has(shown[open].pick);
    count();
  }

  function list() {
    return rows.filter((row) => picks.has(row.pick)).map((row) => `${row.pick}\n`).join("");
  }

  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([list()], { type: "text/plain" }));
    link.download = review.picks_name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // ---- what is shown -------------------------------------------------------------------------

  function number(id) {
    const text = $(id).value;
    return text === "" || Number.isNaN(Number(text)) ? null : Number(text);
  }

  function within(value, least, most) {
    if (least === null && most === null) return true;
    return value !== null && (least === null || value >= least) && (most === null || value <= most);
  }

  function textOf(row) {
    const regions = row.regions.flatMap((region) => [region.name, region.text]);
    return [row.pick, ...regions].join("\n").toLowerCase();
  }

  const byId = (a, b) => (a.pick < b.pick ? -1 : a.pick > b.pick ? 1 : 0);
  const byScore = (sign) => (a, b) => {
    if (a.score === null || b.score === null) return (a.score === null) - (b.score === null);
    return sign * (a.score - b.score);
  };
  const ORDERS = {
    best: byScore(-1),
    worst: byScore(1),
    most: (a, b) => b.k - a.k,
    fewest: (a, b) => a.k - b.k,
    id: byId,
  };

  function update() {
    const dataset = $("dataset").value;
    const status = $("status").value;
    const words = $("words").value.trim().toLowerCase();
    const [least, most] = [number("least"), number("most")];
    const [leastK, mostK] = [number("least-k"), number("most-k")];
    const onlyPicked = $("only-picked").checked;
    shown = rows.filter(
      (row) =>
        (dataset === "" || row.dataset === JSON.parse(dataset)) &&
        (status === "" || row.status === JSON.parse(status)) &&
        within(row.score, least, most) &&
        within(row.k, leastK, mostK) &&
        (words === "" || textOf(row).includes(words)) &&
        (!onlyPicked || picks.has(row.pick)),
    );
    const order = ORDERS[$("order").value];
    shown.sort((a, b) => order(a, b) || byId(a, b));
    drawn = 0;
    $("cards").replaceChildren();
    hide();
    more();
    histogram();
    count();
  }

  function count() {
    say(`${shown.length} of ${rows.length} images shown`);
    $("picked").textContent = `${picks.size} picked`;
  }

  function say(text) {
    $("message").textContent = text;
  }

  // ---- cards ---------------------------------------------------------------------------------

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function image(path, alt) {
    const made = element("img");
    made.loading = "lazy";
    made.alt = alt;
    made.src = path.split("/").map(encodeURIComponent).join("/");
    return made;
  }

  function statusClass(row) {
    return ["selected", "borderline", "rejected"].includes(row.status) ? row.status : "";
  }

  function scoreText(row) {
    return row.score === null ? "no score" : row.score.toFixed(1);
  }

  function more() {
    const end = Math.min(shown.length, drawn + PAGE);
    for (; drawn < end; drawn++) $("cards").append(card(drawn));
    $("more").hidden = drawn === shown.length;
  }

  function card(index) {
    const row = shown[index];
    const made = element("div", "card");
    made.dataset.pick = row.pick;
    const button = element("button");
    button.type = "button";
    button.append(
      row.thumbnails ? image(row.thumbnails, "") : element("span", "none", row.problem || "no image"),
    );
    const words = element("span", "words");
    words.append(element("b", "", scoreText(row)), " ");
    words.append(element("span", statusClass(row), row.status), `, ${row.k} regions`);
    words.append(element("br"), row.id);
    button.append(words);
    button.addEventListener("click", () => show(index));
    const label = element("label");
    const box = element("input");
    box.type = "checkbox";
    box.addEventListener("change", () => setPicked([row], box.checked));
    label.append(box, " pick");
    made.append(button, label);
    markCard(made);
    return made;
  }

  function markCard(made) {
    const picked = picks.has(made.dataset.pick);
    made.classList.toggle("picked", picked);
    made.querySelector("input").checked = picked;
  }

  // ---- the drawer ----------------------------------------------------------------------------

  function show(index) {
    if (index < 0 || index >= shown.length) return;
    open = index;
    const row = shown[index];
    $("drawer-title").textContent = `${row.id} (${row.dataset}): ${scoreText(row)}, ${row.status}`;
    $("pick-this").checked = picks.has(row.pick);
    $("images").replaceChildren(
      ...["overlays", "images"]
        .filter((kind) => row[kind])
        .map((kind) => image(row[kind], kind === "images" ? "image" : "image with its regions")),
    );
    if (row.problem) $("images").append(element("p", "rejected", row.problem));
    $("regions").replaceChildren(
      ...row.regions.map((region) => {
        const line = element("li");
        if (region.color) {
          const chip = element("b", "", "\u25a0 ");
          chip.style.color = region.color;
          line.append(chip);
        }
        const words = [region.color_name, region.name].filter(Boolean).join(", ");
        line.append([words, region.text].filter(Boolean).join(": "));
        return line;
      }),
    );
    $("facts").replaceChildren(
      ...Object.entries(row.facts).map(([name, value]) => {
        const line = element("tr");
        const text = typeof value === "string" ? value : JSON.stringify(value);
        line.append(element("th", "", name), element("td", "", text));
        return line;
      }),
    );
    $("drawer").hidden = false;
    $("drawer").scrollTop = 0;
  }

  function hide() {
    open = -1;
    $("drawer").hidden = true;
  }

  function close() {
    const changed = $("only-picked").checked && open >= 0;
    hide();
    if (changed) update(); // an image may have been unpicked in the drawer
  }

  // ---- the histogram -------------------------------------------------------------------------

  function svg(name, attributes, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function histogram() {
    const scores = shown.map((row) => row.score).filter((score) => score !== null);
    const low = scores.reduce((a, b) => Math.min(a, b), 0);
    const high = scores.reduce((a, b) => Math.max(a, b), 100);
    const bins = new Array(BINS).fill(0);
    for (const score of scores) {
      bins[Math.min(BINS - 1, Math.floor(((score - low) / (high - low)) * BINS))]++;
    }
    const highest = Math.max(1, ...bins);
    const parts = bins.map((n, i) =>
      svg("rect", {
        class: "bar",
        x: i * 10,
        y: 75 - (70 * n) / highest,
        width: 9,
        height: (70 * n) / highest,
      }),
    );
    const place = (score) => Math.min(400, Math.max(0, ((score - low) / (high - low)) * 400));
    const limit = (score, name) => {
      const x = place(score);
      parts.push(svg("line", { class: name, x1: x, x2: x, y1: 0, y2: 75 }));
      return x;
    };
    limit(review.borderline_min, "limit soft");
    const threshold = number("threshold");
    if (threshold !== null) {
      const x = limit(threshold, "limit");
      const above = scores.filter((score) => score >= threshold).length;
      const side = x > 300 ? { x: x - 4, "text-anchor": "end" } : { x: x + 4 };
      parts.push(svg("text", { ...side, y: 10 }, `${above} from ${threshold} on`));
    }
    parts.push(svg("text", { x: 0, y: 88 }, low.toFixed(0)));
    parts.push(svg("text", { x: 400, y: 88, "text-anchor": "end" }, high.toFixed(0)));
    $("histogram").replaceChildren(...parts);
  }

  // ---- the beginning -------------------------------------------------------------------------

  function choices(id, values) {
    const all = element("option", "", "all");
    all.value = "";
    const options = [...new Set(values)].sort().map((value) => {
      const option = element("option", "", value === "" ? "(none)" : value);
      option.value = JSON.stringify(value); // a name may be empty, as "all" is
      return option;
    });
    $(id).replaceChildren(all, ...options);
  }

  function onKey(event) {
    const typing = event.target.matches("input:not([type=checkbox]), select");
    if (event.key === "Escape") {
      if (typing) event.target.blur();
      else close();
    } else if (typing || event.ctrlKey || event.metaKey || event.altKey) {
      return;
    } else if (event.key === "ArrowRight") {
      show(open + 1);
    } else if (event.key === "ArrowLeft") {
      show(open - 1);
    } else if (event.key === "p" && open >= 0) {
      setPicked([shown[open]], !picks.has(shown[open].pick));
    } else if (event.key === "/") {
      $("words").focus();
    } else {
      return;
    }
    event.preventDefault();
  }

  document.title = review.title;
  $("title").textContent = review.title;
  choices("dataset", rows.map((row) => row.dataset));
  choices("status", rows.map((row) => row.status));
  $("threshold").value = review.selected_min;
  for (const id of ["dataset", "status", "least", "most", "least-k", "most-k", "words", "order", "only-picked"]) {
    $(id).addEventListener("input", update);
  }
  $("threshold").addEventListener("input", histogram);
  $("pick-above").addEventListener("click", () => {
    const threshold = number("threshold");
    if (threshold !== null) setPicked(shown.filter((row) => within(row.score, threshold, null)), true);
  });
  $("pick-shown").addEventListener("click", () => setPicked([...shown], true));
  $("clear-shown").addEventListener("click", () => setPicked([...shown], false));
  $("save").addEventListener("click", save);
  $("more").addEventListener("click", more);
  $("before").addEventListener("click", () => show(open - 1));
  $("after").addEventListener("click", () => show(open + 1));
  $("close").addEventListener("click", close);
  $("pick-this").addEventListener("change", () => setPicked([shown[open]], $("pick-this").checked));
  document.addEventListener("keydown", onKey);
  $("tools").hidden = false;
  update();
  window.detectureReview = { picks, list };
})();
