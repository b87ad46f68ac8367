// The request of the playground in the languages that it can be copied in.

const pascal = (name) => name[0].toUpperCase() + name.slice(1);
const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
const isChoice = (value) => typeof value === "string" && /^[A-Z][A-Z0-9_]+$/.test(value);

// The client takes the names of enumerations without their prefix, in small letters.
const PREFIXES = /^(ORDER|TIE_RULE|PENALTY_SCOPE|XTC_EXEMPTION|FILTER_STEP)_/;
export const short = (name) => name.replace(PREFIXES, "").toLowerCase();

// JSON has no NaN and no infinities: proto JSON writes them as text.
export const plain = (_, value) => (typeof value === "number" && !Number.isFinite(value) ? String(value) : value);

// `server` says where it is, and whether it has TLS and asks for a token, which the text takes from SAMPLERD_TOKEN.
export function write(language, asked, server) {
  return { json, python, go, grpcurl }[language](asked, server);
}

function json(asked) {
  return JSON.stringify(asked, plain, 2).replace(/\[[^[\]{}]*\]/g, (list) => list.replace(/\s+/g, " "));
}

function grpcurl(asked, server) {
  const security = `${server.tls ? "" : " -plaintext"}${server.token ? ' -H "authorization: Bearer $SAMPLERD_TOKEN"' : ""}`;
  return `# The server must have been started with --reflection.\ngrpcurl${security} -d @ ${server.address} samplerd.v1.SamplerService/Sample <<'EOF'\n${json(asked)}\nEOF`;
}

function python(asked, server) {
  const options = Object.entries(asked.params).map(([name, value]) => `${snake(name)}=${pythonValue(name, value)}`);
  options.push(`num_samples=${asked.numSamples}`);
  if (asked.seed) options.push(`seed=${asked.seed}`);
  if (asked.kind === "INPUT_KIND_PROBABILITIES") options.push("probabilities=True");
  const names = ["SyncSamplerClient"];
  if (asked.params.dry) names.unshift("Dry");
  const how = [`"${server.address}"`];
  if (server.tls) {
    names.push("TlsConfig");
    how.push("tls=TlsConfig()");
  }
  if (server.token) how.push('token=os.environ["SAMPLERD_TOKEN"]');
  const imports = [];
  if (asked.params.tokenBitmask) imports.push("import base64");
  if (server.token) imports.push("import os");
  if (imports.length) imports.push("");
  const row = asked.values.row[0].values.map(pythonNumber);
  return [
    ...imports,
    "import numpy as np",
    `from samplerd_client import ${names.join(", ")}`,
    "",
    `row = np.array([[${row.join(", ")}]], np.float32)`,
    `with SyncSamplerClient(${how.join(", ")}) as client:`,
    "    result = client.sample(",
    "        row,",
    ...options.map((option) => `        ${option},`),
    "    )",
    "print(result.samples)",
  ].join("\n");
}

function pythonNumber(value) {
  if (Number.isNaN(value)) return "np.nan";
  return Number.isFinite(value) ? String(value) : value > 0 ? "np.inf" : "-np.inf";
}

function pythonValue(name, value) {
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "number") return pythonNumber(value);
  if (name === "tokenBitmask") return `base64.b64decode("${value}")`;
  if (name === "logitBias") return `{${value.map(({ id, bias }) => `${id}: ${pythonNumber(bias)}`).join(", ")}}`;
  if (name === "badWords" || name === "breakerSequences") return `[${value.map(({ ids }) => `[${ids.join(", ")}]`).join(", ")}]`;
  if (name === "dry") return `Dry(${Object.entries(value).map(([own, inner]) => `${snake(own)}=${pythonValue(own, inner)}`).join(", ")})`;
  if (isChoice(value)) return JSON.stringify(short(value));
  if (Array.isArray(value)) return `[${value.map((own) => pythonValue("", own)).join(", ")}]`;
  return String(value);
}

function go(asked, server) {
  const options = Object.entries(asked.params).map(([name, value]) => `samplerd.${pascal(name)}(${goValue(name, value)})`);
  options.push(`samplerd.NumSamples(${asked.numSamples})`);
  if (asked.seed) options.push(`samplerd.Seed(${asked.seed})`);
  if (asked.kind === "INPUT_KIND_PROBABILITIES") options.push("samplerd.Probabilities()");
  const how = [`"${server.address}"`];
  if (server.tls) how.push("samplerd.WithTLS(samplerd.TLS{})");
  if (server.token) how.push('samplerd.WithToken(os.Getenv("SAMPLERD_TOKEN"))');
  const row = asked.values.row[0].values.map((value) => (Number.isFinite(value) ? value : `float32(${goNumber(value)})`));
  const body = [
    "func main() {",
    `\tclient, err := samplerd.Dial(${how.join(", ")})`,
    "\tif err != nil {",
    "\t\tlog.Fatal(err)",
    "\t}",
    "\tdefer client.Close()",
    "\tctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)",
    "\tdefer cancel()",
    "",
    `\trow := []float32{${row.join(", ")}}`,
    "\tresult, err := client.Sample(ctx, samplerd.F32(row, 1),",
    ...options.map((option, index) => `\t\t${option}${index < options.length - 1 ? "," : ")"}`),
    "\tif err != nil {",
    "\t\tlog.Fatal(err)",
    "\t}",
    "\tfmt.Println(result.Row(0))",
    "}",
  ].join("\n");
  const needed = ["context", "fmt", "log", "math", "os", "time"].filter((name) => body.includes(`${name}.`));
  const stubs = body.includes("pb.") ? ['\tpb "samplerd.dev/go/samplerd/v1"'] : [];
  return [
    "package main",
    "",
    "import (",
    ...needed.map((name) => `\t"${name}"`),
    "",
    '\tsamplerd "samplerd.dev/go"',
    ...stubs,
    ")",
    "",
    body,
  ].join("\n");
}

function goNumber(value) {
  if (Number.isNaN(value)) return "math.NaN()";
  return Number.isFinite(value) ? String(value) : `math.Inf(${value > 0 ? 1 : -1})`;
}

const goSequence = ({ ids }) => `{Ids: []int32{${ids.join(", ")}}}`;

function goValue(name, value) {
  if (typeof value === "number") return goNumber(value);
  if (name === "logitBias") {
    const amount = (bias) => (Number.isFinite(bias) ? bias : `float32(${goNumber(bias)})`);
    return value.map(({ id, bias }) => `&pb.LogitBias{Id: ${id}, Bias: ${amount(bias)}}`).join(", ");
  }
  if (name === "badWords") return value.map((own) => `&pb.TokenSequence${goSequence(own)}`).join(", ");
  if (name === "breakerSequences") return `[]*pb.TokenSequence{${value.map(goSequence).join(", ")}}`;
  if (name === "sequenceBreakers") return `[]int32{${value.join(", ")}}`;
  if (name === "dry") return `&pb.DryParams{${Object.entries(value).map(([own, inner]) => `${pascal(own)}: ${goValue(own, inner)}`).join(", ")}}`;
  if (name === "tokenBitmask") return `[]byte{${[...atob(value)].map((byte) => byte.charCodeAt(0)).join(", ")}}`;
  if (isChoice(value)) return `pb.${value.match(PREFIXES)[1].toLowerCase().replace(/(^|_)([a-z])/g, (_, __, letter) => letter.toUpperCase())}_${value}`;
  if (Array.isArray(value)) return value.map((own) => goValue("", own)).join(", ");
  return String(value);
}
