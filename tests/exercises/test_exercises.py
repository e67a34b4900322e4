"""Every exercise checker against a right answer, wrong answers and the stub.

The answers of a chapter stand in `answers_NN.py`, as the tables RIGHT and WRONG. Most
of the wrong ones are mutations of the right one.
"""

import ast
import inspect
import re
import traceback
from importlib import import_module
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from xai_book import exercises
from xai_book.exercises import chapter00, chapter01, chapter05, chapter07, chapter09
from xai_book.exercises.exercise import FAILURES, WrongAnswer

HOME = Path(exercises.__file__).parent
CHAPTERS = sorted(p.stem.removeprefix("chapter") for p in HOME.glob("chapter*.py"))
ANSWERS = {chapter: import_module(f"answers_{chapter}") for chapter in CHAPTERS}
RIGHT = [pair for table in ANSWERS.values() for pair in table.RIGHT.items()]
WRONG = [
    (chapter, check, wrong)
    for chapter, table in ANSWERS.items()
    for check, answers in table.WRONG.items()
    for wrong in answers
]


@pytest.fixture(autouse=True)
def a_new_session():
    FAILURES.clear()


@pytest.mark.parametrize(("check", "right"), RIGHT)
def test_right_answer(check, right, capsys):
    check(right)
    assert capsys.readouterr().out.endswith(": ok\n")


@pytest.mark.parametrize(("chapter", "check", "wrong"), WRONG)
def test_wrong_answer(chapter, check, wrong):
    with pytest.raises(WrongAnswer, match=rf"^exercise {int(chapter)}\.\d: .") as first:
        check(wrong)
    assert "Hint" not in str(first.value)
    with pytest.raises(WrongAnswer) as second:
        check(wrong)
    both = re.escape(str(first.value)) + r"\nHint: .{12,}"
    assert re.fullmatch(both, str(second.value))


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
    assert all(len(wrong) >= 4 for wrong in answers.WRONG.values())


def test_an_answer_must_be_a_function():
    with pytest.raises(TypeError, match=r"exercise 0\.1 checks a function, got int"):
        chapter00.flat_value(3)


# Failing helps


@pytest.mark.parametrize(
    ("check", "wrong", "message"),
    [
        (
            chapter01.aopc,
            lambda scores: scores[0],
            "exercise 1.2: for scores = [0.8, 0.4, 0.2, 0]: expected 0.75, got 0.8",
        ),
        (chapter01.delete_top, lambda *_: None, "return Tensor, not NoneType"),
        (chapter01.aopc, lambda s: s, r"expected the shape [], got [4]"),
        (
            chapter00.occlusion_queries,
            lambda height, width, window, stride: height * width,
            "for height = 8, width = 8, window = 2, stride = 2: expected 16, got 64",
        ),
        (
            chapter00.hide_each,
            lambda image, *place: 1 + 0 * image.repeat(2, 1, 1, 1),
            "for image = Tensor [3, 8, 10], place = ([(0, 0), (2, 5)], 3): expected 0 "
            "at [0, 0, 0, 0], got 1 (480 of 480 numbers differ)",
        ),
    ],
)
def test_the_first_failure_shows_the_case(check, wrong, message):
    with pytest.raises(WrongAnswer) as caught:
        check(wrong)
    assert message in str(caught.value)


def test_hints_are_counted_by_exercise():
    places = chapter00.occlusion_queries
    for check in (chapter01.aopc, places, places):
        with pytest.raises(WrongAnswer) as caught:
            check(lambda *_: 0)
    assert "Hint: Slide the window over a small grid" in str(caught.value)


# Nothing leaks


def mistyped(p):
    return p + "sigma"


def misnamed(images):
    return [missing for image in images]  # noqa: F821


def asks_wrongly(f, x, V, step):
    return f(x)


def asks_wrongly_and_hides_it(f, x, V, step):
    try:
        return f(x)
    except IndexError as error:
        raise ValueError("my own words") from error


def interrupted(scores):
    raise KeyboardInterrupt("stop")


def endless(scores):
    return endless(scores)


@pytest.mark.parametrize(
    ("check", "answer", "error", "words"),
    [
        (chapter07.hidden_from_direct, mistyped, TypeError, "ufunc 'add'"),
        (chapter09.two_parts, misnamed, NameError, "'missing' is not defined"),
        (chapter05.one_round, asks_wrongly, IndexError, "Dimension out of range"),
        (chapter05.one_round, asks_wrongly_and_hides_it, ValueError, "my own words"),
        (chapter01.aopc, interrupted, KeyboardInterrupt, "stop"),
        (chapter01.aopc, endless, RecursionError, "maximum recursion"),
        (chapter01.aopc, lambda: 1, TypeError, "takes 0 positional arguments"),
    ],
)
def test_an_error_in_an_answer_shows_no_checker(check, answer, error, words):
    with pytest.raises(error, match=words) as caught:
        check(answer)
    link = caught.value
    while link is not None:
        frames = traceback.extract_tb(link.__traceback__)
        ours = [f.name for f in frames if f.filename.startswith(str(HOME))]
        assert ours == ["run"] * (link is caught.value)
        link = link.__cause__ or link.__context__
    names = [f.name for f in traceback.extract_tb(caught.value.__traceback__)]
    assert answer.__name__ in names or answer.__name__ == "<lambda>"


@pytest.fixture
def shell():
    config = Config()
    config.HistoryManager.enabled = False
    yield InteractiveShell.instance(colors="nocolor", config=config)
    InteractiveShell.clear_instance()


def test_what_a_notebook_shows_has_no_line_of_a_checker(shell, capsys):
    shell.run_cell(f"from xai_book.exercises import chapter05, chapter01\n{SESSION}")
    shown = capsys.readouterr().out
    assert "return f(x)" in shown
    assert "IndexError" in shown
    checkers = [
        line.strip()
        for name in ("chapter05.py", "chapter01.py", "exercise.py")
        for line in (HOME / name).read_text().splitlines()
        if len(line.strip()) > 20
    ]
    assert not [line for line in checkers if line in shown]
    shell.run_cell("chapter01.aopc(lambda scores: 0)")
    case = "for scores = [0.8, 0.4, 0.2, 0]: expected 0.75, got 0"
    assert capsys.readouterr().out == f"WrongAnswer: exercise 1.2: {case}\n"


SESSION = inspect.getsource(asks_wrongly) + "\nchapter05.one_round(asks_wrongly)\n"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_hint_is_a_sentence(chapter):
    tree = ast.parse((HOME / f"chapter{chapter}.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.decorator_list:
            assert re.fullmatch(
                r".{19,}[.?]", " ".join(ast.get_docstring(node).split())
            )
