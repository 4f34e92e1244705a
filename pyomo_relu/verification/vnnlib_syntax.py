"""The text of VNN-LIB files: tokens, commands, linear terms and formulas.

A list is made into its meaning when its ``)`` is read, so nothing here or in what
follows it calls itself, however deep a file nests; and each pass is linear in the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite

# A comment, a bracket, a quoted symbol or string, a word, or a character out of place.
_TOKEN = re.compile(r";.*|[()]|\|[^|]*\||\"[^\"]*\"|[^\s()|\";]+|\S")
# Numbers of fewer than ten digits, without a zero in front: one name for one variable.
_NAME = re.compile(r"[XY]_(?:0|[1-9][0-9]{0,8})")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_IGNORED = {"set-logic", "set-info", "set-option", "check-sat", "get-model", "exit"}
_ARITHMETIC = ("+", "-", "*", "/")
_RELATIONS = ("<=", ">=", "=")
_STRICT = ("<", ">")

#: Characters of an error.
_LONGEST = 400


class VnnlibError(ValueError):
    """A property file that can't be read; the message has the line."""


def error_at(line: int, message: str) -> VnnlibError:
    """The error to raise for what stands in a line; a word of any length is cut short."""
    if len(message) > _LONGEST:
        half = _LONGEST // 2
        message = f"{message[:half]} ... {message[-half:]}"
    return VnnlibError(f"line {line}: {message}")


@dataclass(frozen=True)
class Word:
    """A token that is no bracket."""

    text: str
    line: int


@dataclass(frozen=True, eq=False, slots=True)
class Term:
    """``const + sum of factor * part`` over variables (by name) and terms."""

    const: float
    parts: tuple[tuple[float, str | Term], ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class Atom:
    """``sum of coefficient * variable + const <= 0``."""

    terms: tuple[tuple[str, float], ...]
    const: float
    line: int


@dataclass(frozen=True, eq=False, slots=True)
class Junction:
    """``and`` or ``or`` of formulas; without any, true or false."""

    kind: str
    items: list
    line: int


Formula = Atom | Junction


@dataclass
class _List:
    """A list that is being read; ``raw`` where its meaning is not asked for."""

    line: int
    items: list = field(default_factory=list)
    raw: bool = False

    @property
    def head(self) -> str:
        first = self.items[0] if self.items else None
        return first.text if isinstance(first, Word) else ""


@dataclass
class Commands:
    """What a file declares (variable: line) and asserts."""

    variables: dict[str, int] = field(default_factory=dict)
    asserted: list[Formula] = field(default_factory=list)


def read_commands(text: str) -> Commands:
    """Read the text of a file.

    Raises
    ------
    VnnlibError
        With the line, for anything but declarations and linear formulas.
    """
    found = Commands()
    stack: list[_List] = []
    for word in _tokens(text):
        if word.text == "(":
            raw = bool(stack) and (stack[-1].raw or stack[0].head != "assert")
            stack.append(_List(word.line, raw=raw))
        elif word.text == ")":
            if not stack:
                raise error_at(word.line, "a ')' closes nothing.")
            done = stack.pop()
            if not stack:
                _command(done, found)
            elif done.raw:
                stack[-1].items.append(done)
            else:
                value = _meaning(done, stack[-1].head, found.variables)
                stack[-1].items.append(value)
        elif stack:
            stack[-1].items.append(word)
        else:
            raise error_at(word.line, f"'{word.text}' stands outside of any command.")
    if stack:
        raise error_at(stack[-1].line, "a '(' is never closed.")
    return found


def _tokens(text: str) -> Iterator[Word]:
    for number, line in enumerate(text.split("\n"), 1):
        for found in _TOKEN.finditer(line):
            token = found.group()
            if token[0] == ";":
                continue
            if token in ("|", '"'):
                raise error_at(number, f"a {token} is never closed in this line.")
            yield Word(token, number)


# ------------------------------------------------------------------------------ commands
def _command(command: _List, found: Commands) -> None:
    head = command.head
    if not head:
        raise error_at(command.line, "a command must begin with its name.")
    if head in ("declare-const", "declare-fun"):
        name = _declared(command, head)
        if name in found.variables:
            raise error_at(command.line, f"'{name}' is declared twice.")
        found.variables[name] = command.line
    elif head == "assert":
        if len(command.items) != 2:
            raise error_at(command.line, "assert takes one formula.")
        found.asserted.append(_formula(command.items[1], command.line))
    elif head not in _IGNORED:
        raise error_at(
            command.line,
            f"the command '{head}' is not supported; a property has declare-const, "
            "declare-fun and assert.",
        )


def _declared(command: _List, head: str) -> str:
    """The name that a declaration declares."""
    items = command.items[1:]
    if head == "declare-fun":
        if len(items) != 3 or not isinstance(items[1], _List) or items[1].items:
            raise error_at(command.line, "write (declare-fun X_0 () Real).")
        items = [items[0], items[2]]
    if len(items) != 2 or not all(isinstance(i, Word) for i in items):
        raise error_at(command.line, f"write ({head} X_0 Real).")
    name, sort = items[0].text, items[1].text
    if sort != "Real":
        raise error_at(command.line, f"'{name}' is a {sort}; only Real is supported.")
    if not _NAME.fullmatch(name):
        raise error_at(command.line, f"'{name}' is neither an input X_i nor an output Y_i.")
    return name


# ------------------------------------------------------------------------------- meaning
def _meaning(done: _List, above: str, variables: dict[str, int]) -> Term | Formula:
    """The term or formula that a list is; ``above`` is the operator that it stands in."""
    head, line, rest = done.head, done.line, done.items[1:]
    if head in ("and", "or"):
        return Junction(head, [_formula(r, line) for r in rest], line)
    if head in _RELATIONS:
        if len(rest) != 2:
            raise error_at(line, f"'{head}' takes two terms, not {len(rest)}.")
        left, right = (_term(r, line, variables) for r in rest)
        below = [_atom(left, right, line)] if head != ">=" else []
        both = below + ([_atom(right, left, line)] if head != "<=" else [])
        return Junction("and", list(both), line) if head == "=" else both[0]
    if head in _ARITHMETIC and rest:
        return _arithmetic(head, [_term(r, line, variables) for r in rest], line)
    raise error_at(line, _refusal(head, above, bool(rest)))


def _refusal(head: str, above: str, has_terms: bool) -> str:
    """Why a list with this operator is neither a term nor a formula."""
    if head in _STRICT:
        return f"'{head}' is strict; VNN-LIB has <= and >= only."
    if above in _ARITHMETIC + _RELATIONS + _STRICT:
        if not head or not has_terms:
            return "a term is a number, a variable or (operator terms)."
        return f"the operator '{head}' is not linear arithmetic."
    if not head:
        return "a formula must begin with an operator."
    return (
        f"the operator '{head}' is not supported; a formula is made of and, or, <=, >= "
        "and =."
    )


def _formula(item: object, line: int) -> Formula:
    if isinstance(item, (Atom, Junction)):
        return item
    if isinstance(item, Word):
        if item.text in ("true", "false"):
            return Junction("and" if item.text == "true" else "or", [], item.line)
        raise error_at(item.line, f"'{item.text}' is no formula.")
    raise error_at(line, "a number stands where a formula should.")


def _term(item: object, line: int, variables: dict[str, int]) -> Term:
    if isinstance(item, Term):
        return item
    if not isinstance(item, Word):
        raise error_at(line, "a formula stands where a number should.")
    if _NAME.fullmatch(item.text):
        if item.text not in variables:
            raise error_at(item.line, f"'{item.text}' is not declared.")
        return Term(0.0, ((1.0, item.text),))
    if _NUMBER.fullmatch(item.text):
        value = float(item.text)
        if isfinite(value):
            return Term(value)
        raise error_at(item.line, f"'{item.text}' is not a finite number in float64.")
    if item.text.lower().strip("+-") in ("nan", "inf", "infinity"):
        raise error_at(item.line, f"'{item.text}' is not a finite number.")
    raise error_at(item.line, f"'{item.text}' is neither a number nor a variable.")


def _arithmetic(head: str, parts: list[Term], line: int) -> Term:
    """``+``, ``-``, ``*`` or ``/`` of terms."""
    if head in ("+", "-"):
        signs = [1.0] * len(parts)
        if head == "-":
            signs = [-1.0] if len(parts) == 1 else [1.0] + [-1.0] * (len(parts) - 1)
        const = sum((s * p.const for s, p in zip(signs, parts)), 0.0)
        inner = [(s, p) for s, p in zip(signs, parts) if p.parts]
        return Term(const, tuple((s, Term(0.0, p.parts)) for s, p in inner))
    result = parts[0]
    for part in parts[1:]:
        if head == "/":
            if part.parts or part.const == 0:
                raise error_at(line, "'/' needs a number other than 0 below.")
            result = _scaled(result, 1.0 / part.const, result.const / part.const)
        elif not part.parts:
            result = _scaled(result, part.const, result.const * part.const)
        elif not result.parts:
            result = _scaled(part, result.const, result.const * part.const)
        else:
            raise error_at(line, "a product of two variables is not linear.")
    return result


def _scaled(term: Term, factor: float, const: float) -> Term:
    return Term(const, ((factor, Term(0.0, term.parts)),) if term.parts else ())


def _atom(left: Term, right: Term, line: int) -> Atom:
    """``left <= right``: the coefficient of each variable is summed up over its places."""
    total: dict[str, float] = {}
    stack: list[tuple[float, str | Term]] = [(-1.0, right), (1.0, left)]
    while stack:
        factor, part = stack.pop()
        if isinstance(part, str):
            total[part] = total.get(part, 0.0) + factor
        else:
            stack.extend((factor * f, p) for f, p in reversed(part.parts))
    const = left.const - right.const
    if not isfinite(const) or not all(map(isfinite, total.values())):
        raise error_at(line, "a number is too large for float64.")
    terms = tuple(sorted((n, c) for n, c in total.items() if c != 0))
    return Atom(terms, const, line)
