"""Tests that hold nothing: a call for each list of arguments, in any of the languages; they print what comes back.

What is expected never enters the sandbox, so that no candidate can find it there.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from demiurgic_jax.curation.code import definitions
from demiurgic_jax.distillation.tasks.plain_data import literal
from demiurgic_jax.distillation.tasks.signature import Signature

_PYTHON = """
import json as _json
for _arguments in _json.loads({arguments!r}):
    try:
        _text = _json.dumps({name}(*_arguments))
    except Exception:
        _text = ""
    print({mark!r} + _text, flush=True)
"""
_JAVASCRIPT = """
for (const demiurgicArguments of {arguments}) {{
  let text = '';
  try {{ text = JSON.stringify({name}(...demiurgicArguments)); }} catch (error) {{ }}
  console.log({mark} + text);
}}
"""
_GO = """
import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
)
func demiurgicText(values ...any) string {
	texts := []string{}
	for _, value := range values {
		if failure, is := value.(error); is && failure != nil { value = "error" }
		if found := reflect.ValueOf(value); found.Kind() == reflect.Slice && found.IsNil() { value = []int{} }
		text, failure := json.Marshal(value)
		if failure != nil { return "" }
		texts = append(texts, string(text))
	}
	if len(texts) == 1 { return texts[0] }
	whole := ""
	for number, text := range texts { if number > 0 { whole += "," }; whole += text }
	return "[" + whole + "]"
}
func TestCalls(t *testing.T) {
CALLS
}
"""
_RUST = """
#[cfg(test)]
mod tests {
    use super::*;
    trait Plain { fn plain(&self) -> String; }
    macro_rules! number { ($($t:ty),*) => { $(
        impl Plain for $t { fn plain(&self) -> String { format!("{}", self) } })* } }
    number!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize, bool);
    macro_rules! real { ($($t:ty),*) => { $(impl Plain for $t { fn plain(&self) -> String {
        if self.is_nan() { "NaN".to_string() } else if self.is_infinite() {
            if *self > 0.0 { "Infinity".to_string() } else { "-Infinity".to_string() }
        } else { format!("{:?}", self) } } })* } }
    real!(f32, f64);
    impl Plain for str { fn plain(&self) -> String {
        let mut text = String::from("\\"");
        for each in self.chars() { match each {
            '"' => text.push_str("\\\\\\""), '\\\\' => text.push_str("\\\\\\\\"),
            each if (each as u32) < 32 => text.push_str(&format!("\\\\u{:04x}", each as u32)),
            each => text.push(each) } }
        text.push('"'); text } }
    impl Plain for String { fn plain(&self) -> String { self.as_str().plain() } }
    impl Plain for char { fn plain(&self) -> String { self.to_string().plain() } }
    impl<T: Plain + ?Sized> Plain for &T { fn plain(&self) -> String { (**self).plain() } }
    impl<T: Plain> Plain for Option<T> { fn plain(&self) -> String {
        match self { Some(each) => each.plain(), None => "null".to_string() } } }
    impl<T: Plain, E> Plain for Result<T, E> { fn plain(&self) -> String {
        match self { Ok(each) => each.plain(), Err(_) => "\\"error\\"".to_string() } } }
    impl<T: Plain> Plain for [T] { fn plain(&self) -> String {
        let texts: Vec<String> = self.iter().map(|each| each.plain()).collect(); format!("[{}]", texts.join(",")) } }
    impl<T: Plain> Plain for Vec<T> { fn plain(&self) -> String { self.as_slice().plain() } }
    impl<A: Plain, B: Plain> Plain for (A, B) { fn plain(&self) -> String {
        format!("[{},{}]", self.0.plain(), self.1.plain()) } }
    #[test]
    fn calls() {
CALLS
    }
}
"""
_JAVA = """
class Main {
    static String text(Object value) {
        if (value == null || value instanceof Boolean || value instanceof Number) return String.valueOf(value);
        StringBuilder whole = new StringBuilder();
        if (value instanceof java.util.Collection) value = ((java.util.Collection<?>) value).toArray();
        if (value.getClass().isArray()) {
            for (int at = 0; at < java.lang.reflect.Array.getLength(value); at++)
                whole.append(at > 0 ? "," : "").append(text(java.lang.reflect.Array.get(value, at)));
            return "[" + whole + "]";
        }
        for (char each : String.valueOf(value).toCharArray())
            whole.append(each == '"' || each == '\\\\' ? "\\\\" + each
                : each < 32 ? String.format("\\\\u%04x", (int) each) : "" + each);
        return '"' + whole.toString() + '"';
    }
    public static void main(String[] arguments) throws Throwable {
CALLS
    }
}
"""
_CPP = """
#include <cmath>
#include <cstdio>
#include <string>
#include <type_traits>
#include <vector>
std::string text(const std::string& value) {
    std::string whole = "\\"";
    char code[8];
    for (unsigned char each : value) {
        if (each == '"' || each == '\\\\') whole += '\\\\';
        std::snprintf(code, sizeof code, each < 32 ? "\\\\u%04x" : "%c", each);
        whole += code;
    }
    return whole + '"';
}
std::string text(char value) { return text(std::string(1, value)); }
std::string text(const char* value) { return text(std::string(value)); }
template <class T> typename std::enable_if<std::is_arithmetic<T>::value, std::string>::type text(T value) {
    if (std::is_same<T, bool>::value) return value ? "true" : "false";
    if (!std::is_floating_point<T>::value) return std::to_string(value);
    if (std::isnan((double)value)) return "NaN";
    if (std::isinf((double)value)) return value > 0 ? "Infinity" : "-Infinity";
    char digits[40];
    std::snprintf(digits, sizeof digits, "%.17g", (double)value);
    return digits;
}
template <class A, class B> std::string text(const std::pair<A, B>& value) {
    return "[" + text(value.first) + "," + text(value.second) + "]";
}
template <class T> std::string text(const std::vector<T>& value) {
    std::string whole;
    for (size_t at = 0; at < value.size(); at++) whole += (at ? "," : "") + text(static_cast<T>(value[at]));
    return "[" + whole + "]";
}
int main() {
CALLS
}
"""
# One call each, whatever it raises. `{call}` is the call, `{mark}` what tells its line from the candidate's own.
_CALL = {
    "go": """\
	func() {{
		defer func() {{ if recover() != nil {{ fmt.Println({mark}) }} }}()
		fmt.Println({mark} + demiurgicText({call}))
	}}()""",
    "rust": """\
        println!("{{}}{{}}", {mark},
            std::panic::catch_unwind(|| {{ let value = {call}; value.plain() }}).unwrap_or_default());""",
    "java": """\
        try {{ System.out.println({mark} + text({call})); }}
        catch (Throwable error) {{ System.out.println({mark}); }}""",
    "cpp": """\
    try {{ std::puts(({mark} + text({call})).c_str()); }} catch (...) {{ std::puts({mark}); }}
    std::fflush(stdout);""",
}
_TEMPLATES = {"go": _GO, "rust": _RUST, "java": _JAVA, "cpp": _CPP}
_CPP_HEADERS = "".join(
    f"#include <{name}>\n" for name in ("algorithm", "cmath", "cstdint", "string", "utility", "vector")
)
_USE = re.compile(r"^\s*(?:pub )?use\s[^;]*;", re.MULTILINE)
_BROUGHT = re.compile(r"\w+(?=\s*[;,}])")
_EXPORT = re.compile(r"^export\s+(?:default\s+)?", re.MULTILINE)


def calls(language: str, signature: Signature, arguments: Sequence[Sequence[Any]], mark: str, owner: str = "") -> str:
    """Tests that call the function once for each list of arguments and print `mark` and the result as JSON, a line
    each; `mark` alone where the call raised or gave nothing plain. `owner` is the class of a Java method.

    Raises UnfitError where an argument is none of its parameter's type.
    """
    if language in ("python", "javascript", "typescript"):
        for each in arguments:
            [literal(value, plain, language) for value, plain in zip(each, signature.parameters, strict=True)]
        text = json.dumps([list(each) for each in arguments])
        template = _PYTHON if language == "python" else _JAVASCRIPT
        return template.format(arguments=text, name=signature.name, mark=mark if language == "python" else repr(mark))
    name = f"new {owner}().{signature.name}" if language == "java" else signature.name
    lines = []
    for each in arguments:
        written = ", ".join(
            literal(value, plain, language) for value, plain in zip(each, signature.parameters, strict=True)
        )
        lines.append(_CALL[language].format(call=f"{name}({written})", mark=json.dumps(mark)))
    return _TEMPLATES[language].replace("CALLS", "\n".join(lines))


def whole_program(language: str, imports: str, code: str) -> tuple[str, str]:
    """`code` as the sandbox takes it, with what it needs around it; and the class that holds a Java function."""
    if language in ("javascript", "typescript"):
        return _EXPORT.sub("", code), ""
    if language == "java":
        owner = next((each.name for each in definitions(code, language) if each.kind == "class"), None)
        return (imports + code, owner) if owner else (f"{imports}class Solution {{\n{code}\n}}\n", "Solution")
    if language == "rust":
        imports = _without_repeated(imports, code)
    return (_CPP_HEADERS if language == "cpp" else "") + imports + code, ""


def _without_repeated(imports: str, code: str) -> str:
    """Rust's `use` lines of the seed's file but those of names that the code brings in itself: twice is an error."""
    own = set(re.findall(r"\w+", " ".join(_USE.findall(code))))
    lines = [line for line in _USE.findall(imports) if not own & set(_BROUGHT.findall(line))]
    return "".join(f"{line}\n" for line in lines)
