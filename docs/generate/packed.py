"""The figure of a packed row, drawn from a real one: ``python -m docs.generate.packed`` writes images/packed-step*.svg."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from trainer.inputs.tokens.token_pairs import TokenPair, TokenPairs
from trainer.step.batches.packing import Row, pack_row
from trainer.step.forward.attention import visible

from .pages import DOCS

PICTURE: Final = DOCS / "images" / "packed-step.svg"
# Tokens of (prompt, chosen, rejected).
PAIRS: Final = ((7, 4, 3), (4, 3, 6))
_CELL: Final = 26
_SEEN: Final = 14
_LEFT: Final = 24
_WIDTH: Final = 744


@dataclass(frozen=True)
class Theme:
    """Colours; ``parts`` are of prompt, chosen and rejected."""

    ground: str
    text: str
    faint: str
    parts: tuple[str, str, str]
    on_parts: str


LIGHT: Final = Theme("#ffffff", "#1f2328", "#d8dee4", ("#8ab4e8", "#7cc79a", "#f0a07c"), "#10151b")
DARK: Final = Theme("#131416", "#e6e8eb", "#3a4048", ("#4f83c2", "#3f9464", "#c06a3f"), "#ffffff")


def pairs() -> TokenPairs:
    """Two pairs whose ids mean nothing."""
    return TokenPairs.of(TokenPair(*([1] * length for length in lengths), line=2) for lengths in PAIRS)


def svg(theme: Theme) -> str:
    """The figure: the same pairs padded, packed, and what each token of the packed row sees."""
    row = pack_row(pairs(), (0, 1))
    height = 330 + row.length * _SEEN + 36
    style = f'font-family="system-ui, sans-serif" font-size="14" fill="{theme.text}"'
    parts = [*_padded(theme), *_packed(row, theme), *_seen(row, theme)]
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {style}>',
            f'<rect width="{_WIDTH}" height="{height}" rx="8" fill="{theme.ground}"/>',
            *parts,
            "</svg>\n",
        )
    )


def _padded(theme: Theme) -> Iterator[str]:
    longest = max(prompt + max(answers) for prompt, *answers in PAIRS)
    yield _text(_LEFT, 32, f"Padded: each answer with its prompt, {2 * len(PAIRS) * longest} tokens", bold=True)
    for j in (1, 2):
        for i, lengths in enumerate(PAIRS):
            y = 44 + (2 * (j - 1) + i) * 32
            kinds = [0] * lengths[0] + [j] * lengths[j]
            for x in range(longest):
                yield _box(_LEFT + x * _CELL, y, theme, kinds[x] if x < len(kinds) else None)
            yield _text(_LEFT + longest * _CELL + 12, y + 18, f"pair {i + 1}, prompt + {('chosen', 'rejected')[j - 1]}")


def _packed(row: Row, theme: Theme) -> Iterator[str]:
    y = 206
    yield _text(_LEFT, y, f"Packed: each prompt once, {row.length} tokens; below them their positions", bold=True)
    for place, (segment, position) in enumerate(zip(row.segment.tolist(), row.position_ids.tolist(), strict=True)):
        x = _LEFT + place * _CELL
        yield _box(x, y + 14, theme, segment % 3)
        if place in row.where.tolist():  # its output predicts a token of an answer
            yield f'<circle cx="{x + _CELL / 2 - 1:g}" cy="{y + 26}" r="3.5" fill="{theme.on_parts}"/>'
        yield _text(x + _CELL / 2 - 1, y + 54, str(position), size=11, middle=True)
    x = _LEFT
    for kind, name in enumerate(("prompt", "chosen answer", "rejected answer")):
        yield _box(x, y + 70, theme, kind)
        yield _text(x + _CELL + 6, y + 88, name)
        x += 150
    yield f'<circle cx="{x + 8}" cy="{y + 82}" r="3.5" fill="{theme.text}"/>'
    yield _text(x + 20, y + 88, "the head computes this output")


def _seen(row: Row, theme: Theme) -> Iterator[str]:
    y, segments, sees = 346, row.segment.tolist(), visible(row).tolist()
    size = row.length * _SEEN
    yield f'<rect x="{_LEFT}" y="{y}" width="{size}" height="{size}" fill="{theme.faint}" fill-opacity="0.35"/>'
    for query, line in enumerate(sees):
        for key in (key for key, is_seen in enumerate(line) if is_seen):
            place = f'x="{_LEFT + key * _SEEN}" y="{y + query * _SEEN}"'
            fill = theme.parts[segments[key] % 3]
            yield f'<rect {place} width="{_SEEN - 1}" height="{_SEEN - 1}" fill="{fill}"/>'
    x = _LEFT + row.length * _SEEN + 24
    said = (
        "What a token sees",
        "Each line is a token of the row,",
        "each column a token that it may see.",
        "",
        "An answer sees its prompt and itself.",
        "The rejected answer does not see the",
        "chosen one: its positions start again",
        "after the prompt.",
        "No pair sees another pair.",
    )
    for n, line in enumerate(said):
        yield _text(x, y + 16 + 22 * n, line, bold=n == 0)


def _box(x: float, y: float, theme: Theme, kind: int | None) -> str:
    paint = f'fill="none" stroke="{theme.faint}" stroke-width="1.5"' if kind is None else f'fill="{theme.parts[kind]}"'
    return f'<rect x="{x:g}" y="{y:g}" width="{_CELL - 2}" height="{_CELL - 2}" rx="3" {paint}/>'


def _text(x: float, y: float, text: str, *, bold: bool = False, size: int | None = None, middle: bool = False) -> str:
    extra = (' font-weight="600"' if bold else "") + (f' font-size="{size}"' if size else "")
    extra += ' text-anchor="middle"' if middle else ""
    return f'<text x="{x:g}" y="{y:g}"{extra}>{text}</text>'


def main() -> None:
    PICTURE.write_text(svg(LIGHT), encoding="utf-8")
    PICTURE.with_name("packed-step-dark.svg").write_text(svg(DARK), encoding="utf-8")


if __name__ == "__main__":
    main()
