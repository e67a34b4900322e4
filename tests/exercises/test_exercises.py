"""Every exercise checker against a right answer, wrong answers and the stub.

The answers of a chapter stand in `answers_NN.py`, as the tables RIGHT and WRONG.
"""

from importlib import import_module
from pathlib import Path

import pytest

from xai_book import exercises
from xai_book.exercises import chapter00
from xai_book.exercises.exercise import WrongAnswer

CHAPTERS = sorted(
    path.stem.removeprefix("chapter")
    for path in Path(exercises.__file__).parent.glob("chapter*.py")
)
ANSWERS = {chapter: import_module(f"answers_{chapter}") for chapter in CHAPTERS}
RIGHT = [pair for table in ANSWERS.values() for pair in table.RIGHT.items()]
WRONG = [
    (chapter, check, wrong)
    for chapter, table in ANSWERS.items()
    for check, answers in table.WRONG.items()
    for wrong in answers
]


@pytest.mark.parametrize(("check", "right"), RIGHT)
def test_right_answer(check, right, capsys):
    check(right)
    assert capsys.readouterr().out.endswith(": ok\n")


@pytest.mark.parametrize(("chapter", "check", "wrong"), WRONG)
def test_wrong_answer(chapter, check, wrong):
    with pytest.raises(WrongAnswer, match=rf"^exercise {int(chapter)}\.\d: ."):
        check(wrong)


@pytest.mark.parametrize("check", [check for check, _ in RIGHT])
def test_stub(check, capsys):
    check(lambda *_: ...)
    assert capsys.readouterr().out.endswith(": not attempted yet\n")


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_checker_has_right_and_wrong_answers(chapter):
    exercises = {
        value
        for value in vars(
            import_module(f"xai_book.exercises.chapter{chapter}")
        ).values()
        if getattr(value, "__module__", "").endswith("exercise")
        and getattr(value, "__name__", "") == "run"
    }
    answers = ANSWERS[chapter]
    assert exercises == set(answers.RIGHT) == set(answers.WRONG)
    assert all(len(wrong) >= 2 for wrong in answers.WRONG.values())


def test_an_answer_must_be_a_function():
    with pytest.raises(TypeError, match=r"exercise 0\.1 checks a function, got int"):
        chapter00.occlude(3)
