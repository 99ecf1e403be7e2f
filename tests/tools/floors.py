"""Holds the imports to floors.txt: none goes up, and no files import each other in a circle.

In `src` a room is a folder or a file of the top level. The connectors' crates have no floors, but no circles either.
Imports are read as text: `use` trees and paths that start with `crate` or `super`. What a module exports again counts as
imported from the file that defines it. Tests are left out.
"""

import os
import re
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PATH = re.compile(r"\b(crate|self|super)((?:::\w+)+)")


class Crate:
    """The modules of one crate, and what each imports."""

    def __init__(self, folder):
        self.files = {}
        self.exports = {}
        for place, _, names in os.walk(folder):
            for name in sorted(names):
                if name.endswith(".rs"):
                    self.add(folder, os.path.join(place, name))

    def add(self, folder, path):
        parts = os.path.relpath(path, folder)[:-3].split(os.sep)
        if "tests" in parts:
            return
        if parts[-1] == "mod" or parts == ["lib"]:
            parts = parts[:-1]
        with open(path, encoding="utf-8") as file:
            self.files[tuple(parts)] = (path, code(file.read()))

    def read(self):
        for module, (_, text) in self.files.items():
            for target, name in self.uses(module, text, r"^pub(?:\([^)]*\))? use "):
                self.exports[(*module, name)] = target
        found = {}
        for module, (path, text) in self.files.items():
            targets = [target for target, _ in self.uses(module, text, r"^\s*(?:pub(?:\([^)]*\))? )?use ")]
            plain = re.sub(r"^\s*(?:pub(?:\([^)]*\))? )?use [^;]*;", "", text, flags=re.M)
            targets += [self.absolute(module, match[1] + match[2]) for match in PATH.finditer(plain)]
            files = {self.file(target) for target in targets if target}
            found[path] = sorted(file for file in files if file and file != path)
        return found

    def uses(self, module, text, start):
        for match in re.finditer(start + r"([^;]*);", text, re.M):
            for path, name in leaves(re.sub(r"\s+", " ", match[1])):
                target = self.absolute(module, path)
                if target:
                    yield target, name

    def absolute(self, module, path):
        parts = path.split("::")
        if parts[0] == "crate":
            return tuple(parts[1:])
        if parts[0] not in ("self", "super"):
            # A path that starts with a module below this one.
            return (*module, *parts) if (*module, parts[0]) in self.files else None
        base = list(module)
        while parts and parts[0] in ("self", "super"):
            if parts.pop(0) == "super":
                base = base[:-1]
        return (*base, *parts)

    def file(self, target, seen=()):
        for end in range(len(target), -1, -1):
            export = self.exports.get(target[:end])
            if export and export not in seen and target[:end] not in self.files:
                return self.file((*export, *target[end:]), (*seen, export))
            if target[:end] in self.files:
                return self.files[target[:end]][0]
        return None


def code(text):
    """Without comments, strings and the tests at the end."""
    text = re.sub(r'//[^\n]*|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"', '""', text, flags=re.S)
    return re.split(r"^#\[cfg\(test\)\]\n(?:pub\(crate\) )?mod \w+ \{", text, maxsplit=1, flags=re.M)[0]


def leaves(tree, prefix=""):
    """The paths of a `use` tree, each with the name that it gets."""
    tree = tree.strip()
    if "{" not in tree:
        path, _, name = tree.partition(" as ")
        path = (prefix + path.strip()).removesuffix("::self").removesuffix("::*")
        yield path, name.strip() or path.split("::")[-1]
        return
    head, rest = tree.split("{", 1)
    depth, start, body = 0, 0, rest.rsplit("}", 1)[0]
    for place, char in enumerate(body + ","):
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            if body[start:place].strip():
                yield from leaves(body[start:place], prefix + head)
            start = place + 1


def room(path, source):
    return os.path.relpath(path, source).split(os.sep)[0].removesuffix(".rs")


def upward(imports, source, floors):
    for path, targets in sorted(imports.items()):
        if room(path, source) == "lib":
            continue
        for target in targets:
            above, below = room(path, source), room(target, source)
            if above == below or below == "lib":
                continue
            unknown = [name for name in (above, below) if name not in floors]
            if unknown:
                yield f"{unknown[0]} is on no floor: add it to floors.txt ({path})"
            elif floors[below] <= floors[above]:
                yield f"{path} imports {target}: {below} is not below {above}"


def circles(imports):
    """Files that import each other (Tarjan's strongly connected components)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in imports.get(node, ()):
            if target not in index:
                visit(target)
            if target in stack:
                low[node] = min(low[node], low[target])
        if low[node] == index[node]:
            circle = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(circle) > 1:
                found.append("a circle of imports: " + ", ".join(sorted(circle)))

    sys.setrecursionlimit(10_000)
    for node in imports:
        if node not in index:
            visit(node)
    return found


def check(source, crates, floors):
    imports = Crate(source).read()
    problems = list(upward(imports, source, floors)) + circles(imports)
    for folder in crates:
        problems += circles(Crate(folder).read())
    return problems


def check_itself(floors):
    """An import that goes up and a circle must be found."""
    with tempfile.TemporaryDirectory() as source:
        files = {
            "lib.rs": "pub mod bus;\npub mod link;\n",
            "bus.rs": "use crate::link::{self, gaps::Gap};\n#[cfg(test)]\nmod tests {\n    use crate::cli;\n}\n",
            "link/mod.rs": "pub mod gaps;\npub use gaps::Gap;\nfn link() { super::bus::publish() }\n",
            "link/gaps.rs": "use super::queue;\npub struct Gap;\n",
            "link/queue.rs": "use super::Gap;\n",
        }
        for name, text in files.items():
            os.makedirs(os.path.dirname(os.path.join(source, name)), exist_ok=True)
            with open(os.path.join(source, name), "w", encoding="utf-8") as file:
                file.write(text)
        found = "\n".join(check(source, [], floors)).replace(source + os.sep, "")
    for expected in ("bus.rs imports link/gaps.rs", "link/gaps.rs, link/queue.rs"):
        if expected not in found:
            sys.exit(f"floors.py does not find what it must: {expected}\n{found}")


def main():
    os.chdir(os.path.join(HERE, "..", ".."))
    with open(os.path.join(HERE, "floors.txt"), encoding="utf-8") as file:
        lines = [line.split() for line in file if line.strip() and not line.startswith("#")]
    floors = {name: floor for floor, names in enumerate(lines) for name in names}
    check_itself(floors)
    crates = sorted(f"connectors/{name}/src" for name in os.listdir("connectors") if os.path.isdir(f"connectors/{name}/src"))
    problems = check("src", crates, floors)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"{len(floors)} rooms on {len(lines)} floors, no import goes up; {len(crates)} connector crates, no circle")
    sys.exit(bool(problems))


main()
