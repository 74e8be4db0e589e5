// The candidate's side: it loads the candidate and answers what the tests ask of it. It never sees a test.
const vm = require('vm');

class CandidateSide extends Peer {
  encodeOther(value) {
    if (value instanceof Error) return ['error', String(value.name), String(value.message)];
    if (typeof value === 'object' && typeof value.next === 'function' && typeof value[Symbol.iterator] === 'function') {
      return ['iterator', this.handle(value)];
    }
    return [typeof value === 'function' ? 'function' : 'instance', this.handle(value)];
  }

  decodeOther(kind, number) {
    const stub = (...values) => {
      this.send(['callback', number, values.map((each) => this.encode(each))]);
      const answer = this.receive();
      if (answer === null) process.exit(1);
      if (answer[0] === 'raise') throw new Error(answer[1]);
      return this.decode(answer[1]);
    };
    this.theirs.set(stub, number);
    return stub;
  }
}

const OPERATIONS = {
  call: (called, self, values) => Reflect.apply(called, self, values),
  new: (called, _, values) => Reflect.construct(called, values),
  get: (object, name) => object[name],
  set: (object, name, value) => { object[name] = value; },
  has: (object, name) => name in object,
  next: (object) => { const { done, value } = object.next(); return [Boolean(done), value]; },
  isinstance: (kind, value) => value instanceof kind,
  text: (object) => String(object),
};

let output = '';
function keep(...values) { output += require('util').format(...values) + '\n'; }
function taken() { const text = output; output = ''; return text; }

async function main() {
  const [job, receive, send] = process.argv.slice(-3);
  const peer = new CandidateSide(Number(receive), Number(send));
  const { candidate } = readJob(job);
  process.argv.length = 1;
  console.log = console.info = console.debug = keep;
  process.on('unhandledRejection', () => {});
  const names = [];
  globalThis.require = require;
  globalThis.module = { exports: {} };
  globalThis.exports = globalThis.module.exports;
  try {
    const script = asScript(candidate);
    vm.runInThisContext(script, { filename: 'candidate.js' });
    for (const name of definedNames(candidate)) {
      names.push([name, peer.encode(vm.runInThisContext(name))]);
    }
    for (const [name, value] of entries(globalThis.module.exports)) names.push([name, peer.encode(value)]);
  } catch (error) {
    console.error(error);
    peer.send(['raise', String(error), '', taken()]);
    process.exit(1);
  }
  peer.send(['loaded', names, taken()]);
  for (let message = peer.receive(); message !== null; message = peer.receive()) {
    let reply;
    try {
      const values = message.slice(1).map((each) => peer.decode(each));
      let result = OPERATIONS[message[0]](...values);
      const promised = result !== null && typeof result === 'object' && typeof result.then === 'function';
      try {
        if (promised) result = await result;
        reply = [promised ? 'promise' : 'ok', peer.encode(result)];
      } catch (error) {
        if (!promised) throw error;
        reply = ['rejected', peer.encode(error)];
      }
      // An array that is sorted in place is the tests' array: what changed in an argument goes back.
      const before = message[0] === 'call' ? message[3].slice(1) : [];
      const after = before.map((each, place) => [place, each, isArray(each) ? peer.encode(values[2][place]) : each]);
      reply.push(after.filter(([, was, is]) => stringify(was) !== stringify(is)).map(([place, , is]) => [place, is]));
    } catch (error) {
      reply = ['raise', peer.encode(error), null];
    }
    peer.send([...reply, taken()]);
  }
  process.exit(0);
}

main();
