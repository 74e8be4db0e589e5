// The tests' side: it runs the tests, asks the candidate over the pipe, and reports how they ended. What comes back is
// plain data, or a stand-in for an object that stays over there.
const vm = require('vm');
const assert = require('assert');

class TestsSide extends Peer {
  asked = 0;

  encodeOther(value) {
    if (typeof value === 'function') return ['function', this.handle(value)];
    if (typeof value[Symbol.iterator] === 'function') return this.encode([...value]);
    throw new TypeError('an object of the tests cannot be handed to the candidate');
  }

  decodeOther(kind, ...parts) {
    if (kind === 'error') return makeError(...parts);
    for (const [known, number] of this.theirs) if (number === parts[0]) return known;
    const made = kind === 'iterator' ? this.iterator(parts[0]) : this.standIn(kind, parts[0]);
    this.theirs.set(made, parts[0]);
    return made;
  }

  *iterator(number) {
    for (;;) {
      const [done, value] = this.ask('next', ['yours', number]);
      if (done) return value;
      yield value;
    }
  }

  standIn(kind, number) {
    const me = ['yours', number];
    return new Proxy(kind === 'function' ? function candidate() {} : {}, {
      apply: (_, self, values) => this.call('call', me, self, values),
      construct: (_, values) => this.call('new', me, undefined, values),
      get: (_, name) => (typeof name === 'symbol' ? this.symbol(name, me) : this.ask('get', me, this.encode(name))),
      set: (_, name, value) => { this.ask('set', me, this.encode(String(name)), this.encode(value)); return true; },
      has: (_, name) => this.ask('has', me, this.encode(String(name))) === true,
    });
  }

  symbol(name, me) {
    if (name === Symbol.toPrimitive) return () => { const text = this.ask('text', me); if (typeof text !== 'string') throw new TypeError('no text'); return text; };
    if (name === Symbol.hasInstance) return (value) => this.ask('isinstance', me, this.encode(value)) === true;
    return undefined;
  }

  call(operation, me, self, values) {
    this.asked++;
    return this.exchange([operation, me, this.theirs.has(self) ? this.encode(self) : ['undefined'], this.encode(values)], values);
  }

  ask(operation, ...data) {
    return this.exchange([operation, ...data], []);
  }

  exchange(message, values) {
    this.send(message);
    let answer = this.receive();
    while (answer !== null && answer[0] === 'callback') {
      this.send(this.calledBack(answer[1], answer[2]));
      answer = this.receive();
    }
    if (answer === null) throw new Error("the candidate's process ended before it answered");
    process.stdout.write(answer[3]);
    if (answer[0] === 'raise') throw this.decode(answer[1]);
    for (const [place, data] of answer[2]) change(values[place], this.decode(data));
    if (answer[0] === 'promise') return Promise.resolve(this.decode(answer[1]));
    if (answer[0] === 'rejected') return Promise.reject(this.decode(answer[1]));
    return this.decode(answer[1]);
  }

  calledBack(number, values) {
    try {
      return ['ok', this.encode(this.objects[number](...values.map((each) => this.decode(each))))];
    } catch (error) {
      return ['raise', String(error && error.message)];
    }
  }
}

function makeError(name, message) {
  const kinds = { TypeError, RangeError, SyntaxError, ReferenceError, EvalError, URIError };
  const error = new (Object.hasOwn(kinds, name) ? kinds[name] : Error)(message);
  if (error.name !== name) error.name = name;
  return error;
}

function change(value, now) {
  if (isArray(value) && isArray(now)) value.splice(0, value.length, ...now);
  else if (value instanceof Map && now instanceof Map) { value.clear(); now.forEach((item, key) => value.set(key, item)); }
  else if (value instanceof Set && now instanceof Set) { value.clear(); now.forEach((item) => value.add(item)); }
  else if (typeof value === 'object' && typeof now === 'object') {
    for (const key of Object.keys(value)) delete value[key];
    Object.assign(value, now);
  }
}

async function main() {
  const [job, report, receive, send] = process.argv.slice(-4);
  const { tests, held } = readJob(job);
  process.argv.length = 1;
  const peer = new TestsSide(Number(receive), Number(send));
  const end = (text, code) => { writeSync(Number(report), text); process.exit(code); };
  let broken = null;
  process.on('unhandledRejection', (error) => { broken ??= error; });
  process.on('uncaughtException', (error) => { broken ??= error; });
  // Node only prints where a check of the console does not hold.
  console.assert = (holds, ...words) => { if (!holds) { broken ??= new assert.AssertionError({ message: words.join(' ') || 'console.assert does not hold' }); throw broken; } };
  const loaded = peer.receive();
  if (loaded === null || loaded[0] !== 'loaded') end(loaded === null ? 'the candidate left while it was loaded' : 'the candidate could not be loaded', 1);
  process.stdout.write(loaded[2]);
  globalThis.require = require;
  globalThis.assert = assert;
  for (const [name, data] of loaded[1]) {
    Object.defineProperty(globalThis, name, { value: peer.decode(data), writable: true, configurable: true, enumerable: false });
  }
  try {
    const result = vm.runInThisContext(asScript(tests), { filename: 'tests.js' });
    if (result !== null && typeof result === 'object' && typeof result.then === 'function') await result;
  } catch (error) {
    broken ??= error ?? new Error('the tests threw nothing');
  }
  // What the tests left for later, timers and promises, is waited for before they count as held.
  process.exitCode = 1;
  process.once('beforeExit', () => {
    if (broken === null && peer.asked === 0) broken = new Error('the tests never call the candidate');
    if (broken !== null) console.error(broken);
    end(broken === null ? held : String(broken).slice(0, 1000), broken === null ? 0 : 1);
  });
}

main();
