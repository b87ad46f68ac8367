// Charts of the last two minutes, from /metrics alone: the differences between two looks at its counters.

const PERIOD_MS = 1000;
const POINTS = 120;
const SVG = "http://www.w3.org/2000/svg";

const NAMES = [
  "samplerd_rows_total", "samplerd_requests_total", "samplerd_shed_total", "samplerd_queue_rows",
  "samplerd_transport_waiting_calls", "samplerd_batch_rows_sum", "samplerd_batch_rows_count",
  ...["transport_wait", "queue_wait", "compute"].flatMap((stage) =>
    ["sum", "count"].map((end) => `samplerd_${stage}_seconds_${end}`)),
];

// Each series: its name, and its value from the rates per second (`rate`) and the gauges (`now`) of one look.
const CHARTS = [
  {
    title: "Rows drawn a second", unit: "", digits: 0,
    series: [["rows", ({ rate }) => rate("samplerd_rows_total")]],
  },
  {
    title: "Rows in a batch, on average", unit: "", digits: 1,
    series: [["rows", ({ rate }) => share(rate("samplerd_batch_rows_sum"), rate("samplerd_batch_rows_count"))]],
  },
  {
    title: "Time in each stage, on average", unit: "ms", digits: 2,
    series: [["transport", "transport_wait"], ["queue", "queue_wait"], ["compute", "compute"]].map(([name, stage]) =>
      [name, ({ rate }) => 1e3 * share(rate(`samplerd_${stage}_seconds_sum`), rate(`samplerd_${stage}_seconds_count`))]),
  },
  {
    title: "Waiting now", unit: "", digits: 0,
    series: [
      ["calls in the transport", ({ now }) => now("samplerd_transport_waiting_calls")],
      ["rows in the queue", ({ now }) => now("samplerd_queue_rows")],
    ],
  },
  {
    title: "Requests refused a second", unit: "", digits: 1,
    series: [
      ["full or draining", ({ rate }) => rate("samplerd_shed_total")],
      ["all others that failed", ({ rate }) =>
        rate("samplerd_requests_total", (labels) => !/code="(OK|RESOURCE_EXHAUSTED)"/.test(labels))],
    ],
  },
];

const share = (whole, parts) => (parts > 0 ? whole / parts : 0);

function make(tag, attributes = {}, ...children) {
  const element = tag === "svg" || tag === "path" || tag === "line"
    ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function parse(text) {
  const series = [];
  for (const line of text.split("\n")) {
    const match = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (match) series.push([match[1], match[2] ?? "", Number(match[3])]);
  }
  return series;
}

function total(series, name, wanted = () => true) {
  let sum = 0;
  for (const [own, labels, value] of series) if (own === name && wanted(labels)) sum += value;
  return sum;
}

class Chart {
  constructor({ title, unit, digits, series }) {
    this.series = series.map(([name, value]) => ({ name, value, points: [] }));
    this.write = (value) => `${value.toLocaleString("en", { maximumFractionDigits: digits })}${unit && ` ${unit}`}`;
    this.output = make("output");
    this.paths = series.map((_, index) => make("path", { class: `s${index}` }));
    this.plot = make("svg", { viewBox: `0 0 ${POINTS - 1} 100`, preserveAspectRatio: "none", role: "img" },
      make("line", { x1: 0, x2: POINTS - 1, y1: 100, y2: 100 }), ...this.paths);
    this.title = title;
    this.top = make("span");
    this.legend = make("ul", { class: "legend" });
    this.values = series.map(([name], index) => {
      const value = make("span");
      if (series.length > 1) {
        const key = make("svg", { viewBox: "0 0 12 6", "aria-hidden": "true" },
          make("path", { class: `s${index}`, d: "M0 3H12", "stroke-width": 3 }));
        this.legend.append(make("li", {}, key, `${name}: `, value));
      }
      return value;
    });
    this.figure = make("figure", {}, make("figcaption", {}, title), ...(series.length > 1 ? [] : [this.output]),
      make("div", { class: "scale" }, this.top, make("span", {}, "last two minutes")), this.plot, this.legend);
  }

  add(look) {
    for (const own of this.series) {
      own.points.push(own.value(look));
      if (own.points.length > POINTS) own.points.shift();
    }
    const highest = Math.max(...this.series.flatMap((own) => own.points), 1e-9);
    this.top.textContent = `top: ${this.write(highest < 1e-6 ? 0 : highest)}`;
    this.series.forEach((own, index) => {
      const first = POINTS - own.points.length;
      const steps = own.points.map((value, at) => `${first + at} ${(100 - 100 * value / highest).toFixed(2)}`);
      this.paths[index].setAttribute("d", `M${steps.join("L")}`);
      this.values[index].textContent = this.write(own.points.at(-1));
    });
    this.output.textContent = this.write(this.series[0].points.at(-1));
    const said = this.series.map((own) => `${own.name} ${this.write(own.points.at(-1))}`).join(", ");
    this.plot.setAttribute("aria-label", `${this.title}: ${said}`);
  }
}

const charts = CHARTS.map((chart) => new Chart(chart));
document.getElementById("charts").append(...charts.map((chart) => chart.figure));
const state = document.getElementById("live-state");
const say = (text) => { if (state.textContent !== text) state.textContent = text; };
let before = null;

async function look() {
  const query = new URLSearchParams(NAMES.map((name) => ["name[]", name]));
  try {
    const reply = await fetch(`metrics?${query}`);
    if (!reply.ok) throw new Error(`/metrics answered ${reply.status}`);
    const series = parse(await reply.text());
    const at = performance.now();
    if (before !== null) {
      const seconds = (at - before.at) / 1000;
      // A counter that falls belongs to a server, or a worker, that was started again.
      const rate = (name, wanted) =>
        Math.max(0, total(series, name, wanted) - total(before.series, name, wanted)) / seconds;
      for (const chart of charts) chart.add({ rate, now: (name) => total(series, name) });
      say("One look a second. Averages are of the requests of that second.");
    }
    before = { series, at };
  } catch (error) {
    before = null;
    say(`The server does not answer: ${error.message}. Trying again.`);
  }
  setTimeout(look, PERIOD_MS);
}

look();
