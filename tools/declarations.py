# SPDX-License-Identifier: Apache-2.0
"""Where a C function declares its variables: for check-style.py.

A variable is declared where it is first used. So one that is declared without a value must not get it by a plain
assignment further down in the same block; and nothing sets declarations apart from what follows them.

It reads lines as clang-format writes them, not C.
"""

import re

BASE = r"(?:(?:struct|enum|union) \w+|unsigned(?: (?:long long|long|int|char|short))?|long long|long|[a-z_]\w*)"
DECLARATION = re.compile(rf"^(?:static |const |volatile )*{BASE}(?: const)? (\**\w+[^()]*?)(?: = .*|;)$", re.DOTALL)
NO_TYPE = re.compile(r"^(?:return|goto|else|case|typedef)\b")
NOT_CODE = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|/\*.*?\*/')
OTHERS_MEMBER = re.compile(r"(?:->|\.)\s*\w+")


def tabs(line):
	return len(line) - len(line.lstrip("\t"))


def code_of(line):
	line = NOT_CODE.sub("", line)
	return "" if line.lstrip().startswith(("/*", "* ")) else line


def statement(lines, at):
	"""(text, index behind it) of the statement that begins at `at`."""
	text, depth = "", 0
	while at < len(lines):
		code = code_of(lines[at])
		depth += sum(code.count(c) for c in "([{") - sum(code.count(c) for c in ")]}")
		text += " " + lines[at].strip()
		at += 1
		if depth <= 0 and text.endswith((";", "*/")):
			break
	return text.strip(), at


def is_declaration(text):
	return bool(DECLARATION.match(NOT_CODE.sub("", text).strip())) and not NO_TYPE.match(text)


def without_value(line):
	"""The names that a line declares and gives no value; what is static keeps the one that it has."""
	if "=" in line or "[" in line or "static " in line or not is_declaration(line.strip()):
		return []
	found = DECLARATION.match(NOT_CODE.sub("", line).strip())
	return re.findall(r"\w+", found[1])


def uses(code, name):
	return re.search(rf"\b{name}\b", OTHERS_MEMBER.sub("", code))


def assigned_at(lines, declared, name):
	"""Where it gets its value in the same block, before anything else mentions it; or None."""
	indent = tabs(lines[declared])
	for at in range(declared + 1, len(lines)):
		line = lines[at]
		code = code_of(line)
		if line.strip() and tabs(line) < indent or re.match(r"^\w+:$", line) or "goto " in code:
			return None
		if uses(code, name):
			value = re.sub(rf"sizeof\(\*{name}\)", "", statement(lines, at)[0])
			plain = line.startswith("\t" * indent + name + " = ") and not uses(value[len(name):], name)
			return at if plain else None
	return None


def first_declarations_end(lines, at):
	"""The index behind the declarations that a block begins with; `at` is behind its brace."""
	begin = at
	while at < len(lines) and lines[at].strip():
		text, behind = statement(lines, at)
		if not is_declaration(text):
			break
		at = behind
	return at if at > begin else None


def complaints(lines):
	"""(line number, what is wrong); `lines` are a file's."""
	inside = False
	for at, line in enumerate(lines):
		inside = line == "{" or (inside and line != "}")
		if not inside:
			continue
		for name in without_value(line):
			if assigned_at(lines, at, name) is not None:
				yield at + 1, f"{name} is declared before its first use"
		end = first_declarations_end(lines, at + 1) if line.endswith("{") else None
		if end is not None and end < len(lines) and not lines[end].strip():
			yield end + 1, "an empty line behind declarations"
