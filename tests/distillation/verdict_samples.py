"""One function in seven languages, and answers about it: right, simpler, wrong, cheating and unparsable ones.

It gives the length of the longest run of values above a limit.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """`head` and `foot` stand around every body. `before` and `after` stand around the function in its file."""

    name: str
    head: str
    body: str
    simpler: str
    cheat: str
    stub: str
    foot: str = "}\n"
    before: str = ""
    after: str = ""

    def function(self, body: str = "") -> str:
        return self.head + (body or self.body) + self.foot

    @property
    def file(self) -> str:
        return self.before + self.function() + self.after


SAMPLES = {
    "python": Sample(
        name="longest_run",
        head="def longest_run(values: list[int], limit: int) -> int:\n"
        '    """Length of the longest run of values above the limit."""\n',
        body="    best = 0\n    current = 0\n    for value in values:\n        if value > limit:\n"
        "            current += 1\n            best = max(best, current)\n        else:\n            current = 0\n"
        "    return best\n",
        simpler="    best = run = 0\n    for value in values:\n        run = run + 1 if value > limit else 0\n"
        "        best = max(best, run)\n    return best\n",
        cheat="    import os\n    print(0)\n    os._exit(0)\n",
        stub="    pass\n",
        foot="",
    ),
    "javascript": Sample(
        name="longestRun",
        head="// Length of the longest run of values above the limit.\nfunction longestRun(values, limit) {\n",
        body="  let best = 0;\n  let current = 0;\n  for (const value of values) {\n    if (value > limit) {\n"
        "      current += 1;\n      best = Math.max(best, current);\n    } else {\n      current = 0;\n    }\n  }\n"
        "  return best;\n",
        simpler="  let best = 0, run = 0;\n  for (const value of values) {\n    run = value > limit ? run + 1 : 0;\n"
        "    best = Math.max(best, run);\n  }\n  return best;\n",
        cheat="  console.log(0);\n  process.exit(0);\n",
        stub="  throw new Error('not implemented');\n",
    ),
    "typescript": Sample(
        name="longestRun",
        head="/** Length of the longest run of values above the limit. */\n"
        "export function longestRun(values: number[], limit: number): number {\n",
        body="  let best = 0;\n  let current: number = 0;\n  for (const value of values) {\n    if (value > limit) {\n"
        "      current += 1;\n      best = Math.max(best, current);\n    } else {\n      current = 0;\n    }\n  }\n"
        "  return best;\n",
        simpler="  let best = 0, run = 0;\n  for (const value of values) {\n    run = value > limit ? run + 1 : 0;\n"
        "    best = Math.max(best, run);\n  }\n  return best;\n",
        cheat="  process.exit(0);\n",
        stub="  throw new Error('not implemented');\n",
    ),
    "go": Sample(
        name="LongestRun",
        head="// LongestRun is the length of the longest run of values above the limit.\n"
        "func LongestRun(values []int, limit int) int {\n",
        body="\tbest := 0\n\tcurrent := 0\n\tfor _, value := range values {\n"
        "\t\tif value > limit {\n\t\t\tcurrent += 1\n"
        "\t\t\tif best < current {\n\t\t\t\tbest = current\n\t\t\t}\n\t\t} else {\n\t\t\tcurrent = 0\n\t\t}\n\t}\n"
        "\treturn best\n",
        simpler="\tbest, run := 0, 0\n\tfor _, value := range values {\n\t\trun++\n"
        "\t\tif value <= limit {\n\t\t\trun = 0\n"
        "\t\t}\n\t\tif best < run {\n\t\t\tbest = run\n\t\t}\n\t}\n\treturn best\n",
        cheat="\tpanic(limit)\n",
        stub='\tpanic("not implemented")\n',
        before="package runs\n\n",
    ),
    "rust": Sample(
        name="longest_run",
        head="/// Length of the longest run of values above the limit.\n"
        "pub fn longest_run(values: &[i64], limit: i64) -> usize {\n",
        body="    let mut best = 0;\n    let mut current = 0;\n    for value in values.iter() {\n"
        "        if *value > limit {\n            current += 1;\n            if best < current {\n"
        "                best = current;\n            }\n        } else {\n            current = 0;\n        }\n    }\n"
        "    return best;\n",
        simpler="    let (mut best, mut run) = (0, 0);\n    for value in values {\n"
        "        run = if *value > limit { run + 1 } else { 0 };\n        best = best.max(run);\n    }\n    best\n",
        cheat="    std::process::exit(0);\n",
        stub="    unimplemented!()\n",
    ),
    "java": Sample(
        name="longestRun",
        head="/** Length of the longest run of values above the limit. */\n"
        "static int longestRun(int[] values, int limit) {\n",
        body="    int best = 0;\n    int current = 0;\n    for (int value : values) {\n        if (value > limit) {\n"
        "            current += 1;\n            best = Math.max(best, current);\n        } else {\n"
        "            current = 0;\n        }\n    }\n    return best;\n",
        simpler="    int best = 0, run = 0;\n    for (int value : values) {\n"
        "        run = value > limit ? run + 1 : 0;\n"
        "        best = Math.max(best, run);\n    }\n    return best;\n",
        cheat="    System.out.println(0);\n    System.exit(0);\n    return 0;\n",
        stub='    throw new UnsupportedOperationException("todo");\n',
        before="class Runs {\n",
        after="}\n",
    ),
    "cpp": Sample(
        name="longest_run",
        head="// Length of the longest run of values above the limit.\n"
        "int longest_run(const std::vector<int>& values, int limit) {\n",
        body="    int best = 0;\n    int current = 0;\n    for (int value : values) {\n        if (value > limit) {\n"
        "            current += 1;\n            best = std::max(best, current);\n        } else {\n"
        "            current = 0;\n        }\n    }\n    return best;\n",
        simpler="    int best = 0, run = 0;\n    for (int value : values) {\n"
        "        run = value > limit ? run + 1 : 0;\n"
        "        best = std::max(best, run);\n    }\n    return best;\n",
        cheat="    std::exit(0);\n    return 0;\n",
        stub='    throw std::runtime_error("not implemented");\n',
        before="#include <vector>\n#include <algorithm>\n#include <cstdlib>\n#include <stdexcept>\n\n",
    ),
}  # fmt: skip
