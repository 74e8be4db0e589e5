// Takes the types away: node's own way where it has one, else the compiler's package, whose path is the last argument.
const fs = require('fs');
const { stripTypeScriptTypes } = require('module');

const [from, to, library] = process.argv.slice(2);
const source = fs.readFileSync(from, 'utf8');
if (library === undefined) {
  fs.writeFileSync(to, stripTypeScriptTypes(source, { mode: 'transform' }));
} else {
  const ts = require(library);
  const options = { target: 'ES2022', module: 'CommonJS', removeComments: false };
  const { outputText, diagnostics } = ts.transpileModule(source, { compilerOptions: { ...options, target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext }, reportDiagnostics: true });
  if (diagnostics.length) {
    console.error(`error: ${ts.flattenDiagnosticMessageText(diagnostics[0].messageText, '\n')}`);
    process.exit(1);
  }
  fs.writeFileSync(to, outputText);
}
