# SPDX-License-Identifier: Apache-2.0
"""Helper of tests/run: picks the unit tests that a filter names, and adds up results.

names FILTER...   standard input: `meson introspect --tests`; output: one test name per line
sum DIR           DIR/unit.json (meson's testlog), DIR/integration.xml (pytest's junit), DIR/broken;
                  output: the verdict line; exit status 1 on a failure or when no test ran
"""
import json
import os
import sys
import xml.etree.ElementTree


def names(filters):
    for test in json.load(sys.stdin):
        if not filters or any(f.removeprefix("test_").removesuffix(".c") in test["name"] for f in filters):
            print(test["name"])


def unit_results(path):
    passed = failed = skipped = 0
    with open(path, encoding="utf-8") as log:
        for line in log:
            if not line.strip():
                continue
            result = json.loads(line)["result"]
            if result in ("OK", "EXPECTEDFAIL"):
                passed += 1
            elif result == "SKIP":
                skipped += 1
            else:
                failed += 1
    return passed, failed, skipped


def integration_results(path):
    passed = failed = skipped = 0
    for case in xml.etree.ElementTree.parse(path).iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            failed += 1
        elif "skipped" in kinds:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def add_up(folder):
    total = [0, 0, 0]
    for name, read in (("unit.json", unit_results), ("integration.xml", integration_results)):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            total = [a + b for a, b in zip(total, read(path))]
    if os.path.exists(os.path.join(folder, "broken")):
        total[1] += 1
    print("%d passed, %d failed, %d skipped" % tuple(total))
    return 1 if total[1] or not total[0] else 0


if __name__ == "__main__":
    if sys.argv[1] == "names":
        names(sys.argv[2:])
    else:
        sys.exit(add_up(sys.argv[2]))
