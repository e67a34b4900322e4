"""Words, lines and minutes of a chapter, counted by hand."""

from __future__ import annotations

from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import reading


def test_what_is_counted() -> None:
    folded = {"tags": ["hide-input"]}
    notebook = new_notebook(
        cells=[
            new_markdown_cell("navigation", metadata={"tags": ["generated"]}),
            new_markdown_cell("# Two words\n\n**Time**: 5 minutes. $x + y$ counts."),
            new_code_cell("one\n\nthree"),
            new_markdown_cell("A formula:\n\n$$ a + b $$"),
            new_code_cell("# @title Draw\na\nb\nc\nd", metadata=folded),
            new_markdown_cell("Teaching text."),
            new_markdown_cell("## Exercise: not counted"),
            new_code_cell("...", metadata={"tags": ["exercise"]}),
            new_code_cell("answer", metadata={"tags": ["solution"]}),
            new_code_cell("last"),
            new_markdown_cell("## References\n\n- A. Uthor. *Not counted.*"),
        ]
    )
    found = reading.length(notebook)
    # Two words, Time 5 minutes x counts, A formula, Teaching text
    assert found == reading.Length(words=11, formulas=1, cells=2, lines=4, longest=3)
    assert found.minutes == 10  # 11 / 200 + 2 * 2 + 1, up to the next five
    assert reading.stated(notebook) == 5
