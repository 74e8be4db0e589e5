// Plain data over a pipe between two processes, neither of which need trust the other. This text is put before
// javascript_candidate.js or javascript_tests.js. A message is four bytes of length and JSON; containers are lists
// that begin with their kind; functions and class instances stay where they are and go over as a number.
'use strict';
const fs = require('fs');
// Bound now: a candidate may replace what these names mean.
const { readSync, writeSync } = fs;
const { parse, stringify } = JSON;
const { isArray } = Array;
const { getPrototypeOf } = Object;
const { entries } = Object;
const LARGEST_MESSAGE = 32 << 20;

class Peer {
  constructor(receive, send) {
    this.receiveFrom = receive;
    this.sendTo = send;
    this.objects = [];
    this.theirs = new Map();
  }

  send(message) {
    const body = Buffer.from(stringify(message));
    if (body.length > LARGEST_MESSAGE) throw new RangeError('a value is too large to be passed on');
    const data = Buffer.alloc(4 + body.length);
    data.writeUInt32BE(body.length);
    body.copy(data, 4);
    for (let sent = 0; sent < data.length; ) sent += writeSync(this.sendTo, data, sent);
  }

  receive() {
    const header = this.exactly(4);
    if (header === null || header.readUInt32BE() > LARGEST_MESSAGE) return null;
    const body = this.exactly(header.readUInt32BE());
    return body === null ? null : parse(body.toString());
  }

  exactly(count) {
    const data = Buffer.alloc(count);
    for (let got = 0; got < count; ) {
      const part = readSync(this.receiveFrom, data, got, count - got);
      if (part === 0) return null;
      got += part;
    }
    return data;
  }

  encode(value) {
    // Of the other side's objects first: a stand-in looks like what it stands for.
    if (value !== null && (typeof value === 'object' || typeof value === 'function') && this.theirs.has(value)) {
      return ['yours', this.theirs.get(value)];
    }
    switch (typeof value) {
      case 'undefined': return ['undefined'];
      case 'bigint': return ['bigint', String(value)];
      case 'number': return Number.isFinite(value) && !Object.is(value, -0) ? value : ['number', Object.is(value, -0) ? '-0' : String(value)];
      case 'string': case 'boolean': return value;
      case 'symbol': return ['string', String(value)];
    }
    if (value === null) return null;
    if (typeof value === 'object') {
      if (isArray(value)) {
        const parts = ['array'];
        for (let i = 0; i < value.length; i++) parts.push(i in value ? this.encode(value[i]) : ['hole']);
        return parts;
      }
      if (value instanceof Map) return ['map', ...[...value].map(([key, item]) => [this.encode(key), this.encode(item)])];
      if (value instanceof Set) return ['set', ...[...value].map((item) => this.encode(item))];
      if (value instanceof Date) return ['date', String(value.getTime())];
      if (value instanceof RegExp) return ['regexp', value.source, value.flags];
      const prototype = getPrototypeOf(value);
      if (prototype === null || prototype === Object.prototype) {
        return ['object', ...entries(value).map(([key, item]) => [key, this.encode(item)])];
      }
    }
    return this.encodeOther(value);
  }

  handle(value) {
    const known = this.objects.indexOf(value);
    return known >= 0 ? known : this.objects.push(value) - 1;
  }

  decode(data) {
    if (!isArray(data)) return data;
    const [kind, ...parts] = data;
    switch (kind) {
      case 'undefined': return undefined;
      case 'bigint': return BigInt(parts[0]);
      case 'number': return Number(parts[0]);
      case 'string': return parts[0];
      case 'array': {
        const array = new Array(parts.length);
        parts.forEach((each, i) => { if (!(isArray(each) && each[0] === 'hole')) array[i] = this.decode(each); });
        return array;
      }
      case 'map': return new Map(parts.map(([key, item]) => [this.decode(key), this.decode(item)]));
      case 'set': return new Set(parts.map((item) => this.decode(item)));
      case 'date': return new Date(Number(parts[0]));
      case 'regexp': return new RegExp(parts[0], parts[1]);
      case 'object': {
        const object = {};
        for (const [key, item] of parts) {
          Object.defineProperty(object, key, { value: this.decode(item), writable: true, enumerable: true, configurable: true });
        }
        return object;
      }
      case 'yours': return this.objects[parts[0]];
    }
    return this.decodeOther(kind, ...parts);
  }
}

function readJob(descriptor) {
  const text = fs.readFileSync(Number(descriptor), 'utf8');
  fs.closeSync(Number(descriptor));
  return parse(text);
}

// Names that the candidate defines at its top level.
function definedNames(source) {
  const names = new Set();
  const pattern = /^(?:export\s+)?(?:default\s+)?(?:async\s+)?(?:function\s*\*?|class|const|let|var)\s+([\w$]+)/gm;
  for (const found of source.matchAll(pattern)) names.add(found[1]);
  return [...names];
}

// What a script may not hold: it is run as one, so that its names stay in reach.
function asScript(source) {
  return source
    .replace(/^[ \t]*export\s+default\s+(?=(?:async\s+)?function|class)/gm, '')
    .replace(/^[ \t]*export\s+(?=(?:async\s+)?function|class|const|let|var)/gm, '')
    .replace(/^[ \t]*export\s*(?:\{[^}]*\}|default\s+[\w$]+)\s*;?[ \t]*$/gm, '')
    .replace(/^[ \t]*import\s+\*\s+as\s+([\w$]+)\s+from\s+(['"][^'"]+['"])/gm, 'const $1 = require($2)')
    .replace(/^[ \t]*import\s+(\{[^}]*\})\s+from\s+(['"][^'"]+['"])/gm, (_, names, from) => `const ${names.replace(/\bas\b/g, ':')} = require(${from})`)
    .replace(/^[ \t]*import\s+([\w$]+)\s+from\s+(['"][^'"]+['"])/gm, 'const $1 = require($2)');
}
