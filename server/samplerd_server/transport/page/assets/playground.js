// The playground: a row, every parameter, and what this server makes of them.

import { READ, Unreadable, row as readRow, seed as readSeed, token as readToken } from "./reading.js";
import { plain, short, write } from "./snippets.js";

const DRAWS = 10000;
const SHOWN = 48;
const SHOWN_DROPPED = 8;
const SVG = "http://www.w3.org/2000/svg";
const WAIT_MS = 120;

const by = (id) => document.getElementById(id);
const form = by("form");
const camel = (name) => name.replace(/_([a-z0-9])/g, (_, letter) => letter.toUpperCase());
let parameters = [];
let server = { address: "127.0.0.1:50051", tls: false };
let texts = { characters: [], rows: [] };

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// The form of the parameters.

function control(own) {
  const id = `p-${own.path}`;
  const common = { id, "data-field": `params.${own.path}`, "aria-describedby": `${id}-hint` };
  if (own.kind === "FLAG") return [make("input", { ...common, type: "checkbox" })];
  if (own.kind === "CHOICE") {
    const options = own.choices.map((name, index) => make("option", { value: index ? name : "" }, index ? short(name) : "default"));
    return [make("select", common, ...options)];
  }
  const text = make("input", { ...common, spellcheck: "false", placeholder: own.default ?? own.example ?? "" });
  if (!own.slider) return [text];
  const [min, max, step] = own.slider;
  const slider = make("input", { type: "range", min, max, step, value: own.default, "aria-label": `${own.label}, by a slider` });
  slider.addEventListener("input", () => { text.value = slider.value; });
  text.addEventListener("input", () => { slider.value = text.value === "" ? own.default : text.value; });
  return [make("span", { class: "pair" }, slider, text)];
}

function field(own) {
  const id = `p-${own.path}`;
  const range = own.range ? ` Range: ${own.range}.` : "";
  return make("p", { class: "field" }, make("label", { for: id }, own.label), ...control(own),
    make("span", { class: "hint", id: `${id}-hint` }, own.help.replaceAll("`", "") + range));
}

function build(table) {
  parameters = table.flatMap((group) => group.parameters);
  by("parameters").append(...table.map((group) => {
    const details = make("details", {}, make("summary", {}, group.title),
      make("div", { class: "grid" }, ...group.parameters.map(field)));
    details.open = group.is_open;
    return details;
  }));
}

// What the form says, as a request in proto JSON, and what in it cannot be read.

function params(read) {
  const found = {};
  for (const own of parameters) {
    const element = by(`p-${own.path}`);
    const text = own.kind === "FLAG" ? String(element.checked) : element.value.trim();
    const isSet = text !== "" && text !== "false";
    element.closest(".field").classList.toggle("set", isSet);
    if (!isSet) continue;
    const names = own.path.split(".").map(camel);
    const last = names.pop();
    let place = found;
    for (const name of names) place = place[name] ??= {};
    place[last] = read(`params.${own.path}`, () => READ[own.kind](text, own));
  }
  return found;
}

function request() {
  const problems = [];
  const read = (field, reader) => {
    try {
      return reader();
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      problems.push({ field, description: error.message });
      return undefined;
    }
  };
  const row = read("values", () => readRow(by("values").value)) ?? [];
  const asked = { values: { row: [{ values: row }] }, numSamples: DRAWS, params: params(read) };
  const seed = by("seed").value.trim();
  if (seed) asked.seed = read("seed", () => readSeed(seed));
  if (by("kind").selectedIndex) asked.kind = by("kind").value;
  const token = read("token", () => readToken(by("token").value.trim())) ?? "";
  return { asked, problems, token };
}

function offer({ asked, problems, token }) {
  by("code").textContent = problems.length
    ? `No request: ${problems.map(({ field: name, description }) => `${name}: ${description}`).join("; ")}.`
    : write(by("language").value, asked, { ...server, token });
}

// What the server answers.

const number = (value) => Number(value); // proto JSON writes infinities as text
const chance = (logprob) => Math.exp(number(logprob));
const percent = (value) => value === 0 ? "0 %" : `${(100 * value).toFixed(value < 0.001 && value > 0 ? 4 : 2)} %`;

function bars(row, most) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 18");
  svg.setAttribute("preserveAspectRatio", "none");
  for (const [index, name] of ["before", "after", "drawn"].entries()) {
    const bar = document.createElementNS(SVG, "rect");
    for (const [key, value] of Object.entries({ class: name, y: 6 * index, height: 5, width: 100 * row[name] / most })) {
      bar.setAttribute(key, value);
    }
    svg.append(bar);
  }
  return svg;
}

function show(reply, labels) {
  const logprobs = (kind) => reply.logprobs.find((own) => own.kind === kind).named;
  const [raw, processed] = [logprobs("LOGPROB_KIND_RAW"), logprobs("LOGPROB_KIND_PROCESSED")];
  const drawn = new Array(raw.length).fill(0);
  for (const id of reply.samples ?? []) drawn[id] += 1;
  const rows = raw.map((_, id) => ({ id, before: chance(raw[id]), after: chance(processed[id]), drawn: drawn[id] / DRAWS }));
  rows.sort((one, other) => other.after - one.after || other.before - one.before || one.id - other.id);
  const kept = rows.filter((row) => row.after > 0).length;
  const most = Math.max(...rows.map((row) => Math.max(row.before, row.after, row.drawn)), 1e-9);
  const line = (row) => {
    const label = labels ? `${row.id} ${labels[row.id] ?? ""}` : String(row.id);
    return make("tr", row.after > 0 ? {} : { class: "dropped" }, make("th", { scope: "row" }, label),
      ...["before", "after", "drawn"].map((name) => make("td", {}, percent(row[name]))),
      make("td", { class: "bars", "aria-hidden": "true" }, bars(row, most)));
  };
  const more = (count) => (count ? [make("tr", {}, make("td", { colspan: 5 }, `and ${count} more id${count > 1 ? "s" : ""}`))] : []);
  // Room for a few of the dropped: XTC drops the likeliest.
  const above = Math.min(kept, SHOWN - Math.min(rows.length - kept, SHOWN_DROPPED));
  const below = Math.min(rows.length - kept, SHOWN - above);
  by("rows").replaceChildren(...rows.slice(0, above).map(line), ...more(kept - above),
    ...(kept < rows.length ? [cut(kept, rows)] : []),
    ...rows.slice(kept, kept + below).map(line), ...more(rows.length - kept - below));
  const off = Math.max(...rows.map((row) => Math.abs(row.drawn - row.after)));
  by("summary").textContent =
    `${kept} of ${rows.length} ids can be drawn. The shares of ${DRAWS.toLocaleString("en")} draws are within ` +
    `${percent(off)} of the probabilities. Seed ${reply.seed}, ${reply.rng}.`;
}

function cut(kept, rows) {
  const mass = rows.slice(kept).reduce((sum, row) => sum + row.before, 0);
  const dropped = rows.length - kept;
  const ids = dropped === 1 ? "id below is" : `${dropped} ids below are`;
  const text = `cut: the ${ids} dropped, ${percent(mass)} of the probability before`;
  return make("tr", { class: "cut" }, make("td", { colspan: 5 }, text));
}

function forget() {
  by("error").textContent = "";
  by("result").classList.remove("stale");
  for (const element of document.querySelectorAll("[aria-invalid]")) element.removeAttribute("aria-invalid");
  for (const element of document.querySelectorAll(".problem")) element.remove();
}

function refuse({ message, fields }) {
  forget();
  const blamed = fields.map(({ field: name, description }) => blame(name, description));
  const said = blamed.length && blamed.every(Boolean) ? `see ${blamed.join(", ")}` : message;
  const shown = by("rows").childElementCount ? " What is below is the draw before." : "";
  by("error").textContent = `Not drawn: ${said.replace(/\.$/, "")}.${shown}`;
  by("result").classList.add("stale");
}

// Puts an error at the field that it names, and says which that is; empty: there is none.
function blame(name, description) {
  const parts = name.split(/\.|(?=\[)/);
  const after = [];
  let element = null;
  while (parts.length && !element) {
    element = document.querySelector(`[data-field="${CSS.escape(parts.join("."))}"]`);
    if (!element) after.unshift(parts.pop());
  }
  if (!element && /^(values|logits|row|tensor)/.test(name)) element = by("values");
  if (!element) return "";
  element.setAttribute("aria-invalid", "true");
  element.closest("details")?.setAttribute("open", "");
  const place = after[0]?.startsWith("[") && element !== by("values") ? `item ${after[0]}: ` : "";
  element.closest(".field").append(make("span", { class: "problem", role: "alert" }, place + description));
  return element.dataset.field;
}

let turn = 0;

async function ask() {
  const mine = ++turn;
  const form = request();
  offer(form);
  const { asked, problems, token } = form;
  if (problems.length) return refuse({ fields: problems });
  const ids = asked.values.row[0].values.map((_, id) => id);
  const outputs = { logprobs: ["LOGPROB_KIND_RAW", "LOGPROB_KIND_PROCESSED"], logprobIds: ids };
  try {
    // Log-probabilities come with each draw, so one draw asks for them. Its seed is that of the others: XTC depends on it.
    const draws = await send(asked, token);
    const law = draws.ok ? await send({ ...asked, seed: draws.said.seed, numSamples: 1, outputs }, token) : draws;
    if (mine !== turn) return;
    if (!law.ok) return refuse(law.said);
    const rowError = (draws.said.rowErrors ?? law.said.rowErrors ?? [])[0];
    if (rowError) return refuse({ message: rowError.message, fields: [{ field: "values", description: rowError.message }] });
    forget();
    const row = texts.rows[by("text").value];
    show({ ...draws.said, logprobs: law.said.logprobs }, row && texts.characters);
  } catch (error) {
    if (mine === turn) refuse({ message: `the server does not answer: ${error.message}`, fields: [] });
  }
}

const authorization = (token) => (token ? { authorization: `Bearer ${token}` } : {});

async function send(body, token) {
  const text = JSON.stringify(body, plain);
  const headers = { "content-type": "application/json", ...authorization(token) };
  const reply = await fetch("api/sample", { method: "POST", headers, body: text });
  const isJson = (reply.headers.get("content-type") ?? "").startsWith("application/json");
  const said = isJson ? await reply.json() : { message: (await reply.text()).trim(), fields: [] };
  if (said.code === "UNAUTHENTICATED") said.fields = [{ field: "token", description: said.message }];
  return { ok: reply.ok, said };
}

async function introduce() {
  const { problems, token } = request();
  if (problems.some((own) => own.field === "token")) return;
  const reply = await fetch("api/info", { headers: authorization(token) });
  const said = await reply.json();
  by("server").textContent = reply.ok ? `${said.version}, ${said.kernel} on ${said.device}, ${said.rng}` : said.message;
  server = { address: said.address.replace(/^(0\.0\.0\.0|\[::\])(?=:)/, location.hostname), tls: said.tls };
  offer(request());
}

let timer = 0;
function soon() {
  clearTimeout(timer);
  timer = setTimeout(ask, WAIT_MS);
}

function changed(event) {
  if (event.target.id === "text") {
    const row = texts.rows[event.target.value];
    if (row) {
      by("values").value = row.logits.map((logit) => logit ?? "-inf").join(", ");
      by("kind").selectedIndex = 0;
    }
  } else if (event.target.id === "values") {
    by("text").value = "";
  } else if (event.target.id === "token") {
    introduce();
  }
  soon();
}

// Both: a choice from a list is told by one or the other, depending on how it is made.
form.addEventListener("input", changed);
form.addEventListener("change", changed);
form.addEventListener("submit", (event) => { event.preventDefault(); ask(); });
form.addEventListener("reset", (event) => {
  event.preventDefault();
  for (const own of parameters) {
    const element = by(`p-${own.path}`);
    if (own.kind === "FLAG") element.checked = false; else element.value = "";
    element.dispatchEvent(new Event("input"));
  }
  ask();
});
by("language").addEventListener("change", () => offer(request()));
by("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText(by("code").textContent);
  by("copied").textContent = "Copied.";
});

const [table, known] = await Promise.all(["parameters.json", "rows.json"].map(async (name) => (await fetch(name)).json()));
build(table);
texts = known;
by("text").append(...known.rows.map((row, index) => make("option", { value: index }, row.text)));
introduce();
ask();
