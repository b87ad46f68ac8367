// What is typed into the form, as values of proto JSON. Whatever cannot be read is told at its field, without the server.

import { short } from "./snippets.js";

export class Unreadable extends Error {}

const HIGHEST_ID = 2 ** 31 - 1;
const HIGHEST_SEED = 2n ** 64n - 1n;
const parts = (text) => text.split(/[\s,]+/).filter(Boolean);
const sequences = (text) => text.split(";").filter((part) => part.trim());

function real(text) {
  const infinity = text.match(/^([+-]?)inf(inity)?$/i);
  if (infinity) return infinity[1] === "-" ? -Infinity : Infinity;
  if (/^nan$/i.test(text)) return NaN;
  const value = text === "" ? NaN : Number(text);
  if (Number.isNaN(value)) throw new Unreadable(`"${text}" is not a number${/\d,\d/.test(text) ? ": write a point, not a comma" : ""}`);
  return value;
}

function whole(text, low, high) {
  if (!/^[+-]?\d+$/.test(text)) throw new Unreadable(`"${text}" is not a whole number`);
  const value = Number(text);
  if (value < low || value > high) throw new Unreadable(`${text} is not in [${low}, ${high}]`);
  return value;
}

const ids = (text) => parts(text).map((id) => whole(id, 0, HIGHEST_ID));

function choice(text, choices) {
  const found = choices.find((name) => [short(name), name.toLowerCase()].includes(text.toLowerCase()));
  if (!found) throw new Unreadable(`"${text}" is none of ${choices.map(short).join(", ")}`);
  return found;
}

function bias(text) {
  const [id, amount, ...more] = text.split(":");
  if (amount === undefined || more.length) throw new Unreadable(`"${text}" is not an id, a colon and an amount, as 3:-1.5`);
  return { id: whole(id, 0, HIGHEST_ID), bias: real(amount) };
}

function bitmask(text) {
  const digits = text.replace(/^0x/i, "").replace(/\s+/g, "");
  if (!/^([0-9a-f]{2})*$/i.test(digits)) throw new Unreadable("these are not bytes of two hexadecimal digits each");
  return btoa(String.fromCharCode(...(digits.match(/../g) ?? []).map((byte) => parseInt(byte, 16))));
}

// Of each kind of parameter: the text, and the parameter's line of the table, to its value.
export const READ = {
  FLOAT: real,
  INTEGER: (text, { range }) => whole(text, ...range.match(/\d+/g).map(Number)),
  FLAG: (text) => text === "true",
  CHOICE: (text) => text,
  CHOICES: (text, { choices }) => parts(text).map((name) => choice(name, choices)),
  IDS: ids,
  SEQUENCES: (text) => sequences(text).map((part) => ({ ids: ids(part) })),
  LOGIT_BIAS: (text) => parts(text.replace(/\s*:\s*/g, ":")).map(bias),
  BITMASK: bitmask,
};

export const row = (text) => parts(text).map(real);

export function seed(text) {
  if (!/^\d+$/.test(text) || BigInt(text) > HIGHEST_SEED) throw new Unreadable(`"${text}" is not a whole number from 0 to 2^64 - 1`);
  return text;
}

export function token(text) {
  if (!/^[\x21-\x7e]*$/.test(text)) throw new Unreadable("a token has letters, digits and signs of ASCII, and no spaces");
  return text;
}
