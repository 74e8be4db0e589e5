// Runs a program as a CommonJS script, in an interpreter that was started ahead.
const Module = require('module');

const source = readJob(process.argv.at(-1));
const path = require('path').resolve('program.js');
fs.writeFileSync(path, source);
process.argv.splice(1, process.argv.length, path);
Module.runMain(path);
