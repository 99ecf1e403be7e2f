"""Prints how many lines of Rust code each part has: those that are neither blank, comment nor test.

    python3 tests/tools/lines.py           the daemon, the SDK, each connector, the test kit
    python3 tests/tools/lines.py src       each room of the daemon
"""

import os
import re
import sys


def code(path):
    with open(path, encoding="utf-8") as file:
        text = re.split(r"^#\[cfg\(test\)\]\n(?:pub\(crate\) )?mod \w+ \{", file.read(), maxsplit=1, flags=re.M)[0]
    return sum(1 for line in text.splitlines() if line.strip() and not line.strip().startswith("//"))


def files(folder):
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in ("tests", "target")]
        for name in names:
            if name.endswith(".rs") and name != "tests.rs":
                yield os.path.join(place, name)


def parts(rooms):
    if rooms:
        for name in sorted(os.listdir("src")):
            path = os.path.join("src", name)
            yield name.removesuffix(".rs"), [path] if name.endswith(".rs") else files(path)
        return
    yield "src", files("src")
    for name in sorted(os.listdir("connectors")):
        if os.path.isdir(f"connectors/{name}/src"):
            yield f"connectors/{name}", files(f"connectors/{name}/src")
    yield "tests/kit", files("tests/kit/src")


os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
for name, paths in parts(sys.argv[1:] == ["src"]):
    print(f"{name:26}{sum(map(code, paths)):8}")
