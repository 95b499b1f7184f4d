"""Cards: front matter, and expressions that read recorded results and can do nothing else."""

import json

import pytest

from paperworks.errors import CardError
from paperworks.lab import Beats, Study, load_card
from paperworks.lab.expressions import fill, render
from paperworks.lab.results import Recorded
from paperworks.lab.verdict import Rows, judge

FRONT = """---
title: A paper
slug: paper
arxiv: "2501.00001"
year: 2025
field: learning
idea: One sentence.
claim: Another.
---
"""
TRIALS = [
    {
        "study": "digits",
        "arm": "a",
        "seed": seed,
        "seconds": 2.0 + seed,
        "counts": {"spikes": 10.0},
        "rows": [{"variant": "a", "cell": None, "metrics": {"acc": 0.9 + 0.02 * seed, "gone": None if seed else 1.0}}],
    }
    for seed in (0, 1)
]
VERDICT = {
    "study": "digits",
    "claim": "a beats b on acc",
    "status": "supported",
    "effect": 1.5,
    "interval": [1.25, 1.75],
    "sentence": "It does.",
}
EDGES = [f"{arm}: lr=0.03 is the largest of the grid" for arm in "abc"] + ["d: lr=0.001 is the smallest of the grid"]
RESULT = {
    "verdicts": [VERDICT],
    "trials": TRIALS,
    "studies": [
        {"name": "digits", "settings": {"T": 10}, "arm_settings": {"a": {"lr": 0.01}}, "tuning": {"edges": EDGES}},
        {"name": "inside", "settings": {}, "tuning": {"edges": []}},
        {"name": "untuned", "settings": {}, "tuning": None},
    ],
    "environment": {"torch": "2.13"},
    "cpu_seconds": 12.0,
}
PARITY = {"official": "o/n", "commit": "c" * 40, "cases": [{"name": "x", "max_relative_error": 1e-7}]}
FITS = {"darcy": {"metrics": {"test": {"l2": 0.25}}}}
KNOWN = Recorded(RESULT, PARITY, FITS)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ('mean("digits", "a", "acc") | percent', "91.0 %"),
        ('mean("digits", "a", "acc") | percent(0)', "91 %"),
        ('mean("digits", "a", "gone") | number', "not measured yet"),
        ('mean("digits", "b", "acc") | number', "not measured yet"),
        ('verdict("digits", 0).effect | times', "1.5 times"),
        ('verdict("digits", 0) | interval', "1.25 to 1.75"),
        ('verdict("digits", 0) | sentence', "It does."),
        ('verdict("digits", "a beats b on acc").status', "supported"),
        ('verdict("digits", 7).effect | times', "not measured yet"),
        ('cost("digits", "a", "seconds") | number', "2.5"),
        ('cost("digits", "a", "spikes") | number(2)', "10"),
        ('setting("digits", "T")', "10"),
        ('tuned("digits", "a", "lr")', "0.01"),
        (
            'edges("digits")',
            "the largest lr of the grid, 0.03, was chosen for a, b and c; "
            "the smallest lr of the grid, 0.001, was chosen for d",
        ),
        ('edges("inside")', "no arm's choice lies at an end of the grid"),
        ('edges("untuned")', "not measured yet"),
        ('environment("torch")', "2.13"),
        ('run("cpu_seconds") | seconds', "12 s"),
        ('fitted("darcy", "test", "l2") | percent', "25.0 %"),
        ('fitted("darcy", "test", "l3") | percent', "not measured yet"),
        ("parity().worst | number", "1.00e-07"),
    ],
)
def test_expressions_read_results(expression, text):
    assert fill(f"So: {{{{ {expression} }}}}.", KNOWN) == f"So: {text}."


def test_without_results_everything_is_not_measured_yet():
    text = '{{ verdict("digits", 0).effect | times }} {{ mean("d", "a", "acc") | points }} {{ parity() | sentence }}'
    assert fill(text, None) == "not measured yet not measured yet not measured yet"


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "open('/etc/passwd')",
        "mean.__globals__",
        "mean('a','b','c').__class__",
        "verdict('digits', 0).__class__",
        "().__class__.__bases__",
        "[x for x in (1,)]",
        "(lambda: 1)()",
        "9**9**9",
        "'a' * 10**9",
        "1 + 1",
        "mean | percent",
        "mean('digits', 'a', 'acc') | percent(99999999)",
        "mean('digits', 'a', 'acc') | exec",
        "mean('digits')",
        "eval('1')",
        "f'{1}'",
        "",
        "1 +",
        "a" * 600,
        "(" * 300,
        "-" * 400 + "1",
        "~1",
        "True if True else 1",
        "mean(*['digits', 'a', 'acc'])",
        "mean(**{'study': 'digits'})",
        "mean('digits', 'a', 'acc', unknown=1)",
        "mean('digits', 'a', 'acc').real",
        "mean(mean, 'a', 'acc')",
        "verdict('digits', 0)._fields",
        "verdict('digits', 0).sentence.upper()",
        "verdict('digits', 0)['effect']",
        "verdict('digits', 0).effect.__class__.__mro__",
        "verdict.__call__('digits', 0)",
        "(verdict)('digits', 0)()",
        "verdict('digits', [0])",
        "getattr(mean, '__globals__')",
        "globals()",
        "functions",
        "cost := 1",
        "lambda: 1",
        "*mean",
        "yield 1",
        "await mean",
        "{'a': 1}",
        "{1 for _ in 'a'}",
        "b'bytes'",
        "...",
        "1j",
        "1; 2",
        "import os",
        "mean('digits', 'a', 'acc') | percent | exec",
        "mean('digits', 'a', 'acc') | percent(-1)",
        "mean('digits', 'a', 'acc') | percent('1')",
        "mean('digits', 'a', 'acc') | percent(1, 2)",
        "mean('digits', 'a', 'acc') | verdict",
        "'text' | percent",
        "\x00",
    ],
)
def test_nothing_else_is_an_expression(expression):
    with pytest.raises(CardError):
        fill(f"{{{{ {expression} }}}}", KNOWN)


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').mkdir('made')",
        "open('made', 'w')",
        "mean(open('made', 'w'), 'a', 'acc')",
        "mean('digits', 'a', metric=open('made', 'w'))",
        "open('made', 'w').name | percent",
        "open('made', 'w') or mean('digits', 'a', 'acc')",
        "[open('made', 'w') for _ in (1, 2)]",
        "verdict('digits', 0).effect | percent(open('made', 'w'))",
        "(lambda: open('made', 'w'))()",
        'f\'{open("made", "w")}\'',
        "exec(\"open('made', 'w')\")",
        "mean.__globals__['__builtins__']['open']('made', 'w')",
    ],
)
def test_a_hostile_expression_is_refused_before_any_of_it_runs(expression, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as quiet:
        quiet.setattr("builtins.open", lambda *_: pytest.fail("a card opened a file"))
        with pytest.raises(CardError):
            fill(f"{{{{ {expression} }}}}", KNOWN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["fields", "upper", "unknown"])
def test_a_field_of_a_verdict_is_looked_up_in_its_record_and_not_in_python(name):
    assert fill(f"{{{{ verdict('digits', 0).{name} }}}}", KNOWN) == "not measured yet"


def test_what_was_filled_in_is_not_filled_in_again():
    """What an expression gives is not read again as an expression, so that none can feed itself."""
    trick = Recorded({"command": "{{ run('command') }}{{ run('command') }}", "verdicts": [], "trials": []})
    assert fill("{{ run('command') }}", trick) == "{{ run('command') }}{{ run('command') }}"


def test_text_around_expressions_is_left_as_it_is():
    text = 'A set {1}, $x^{2}$, `}}`, {single}, 100 %, \\n, <b> & "quotes".\n'
    assert fill(text, KNOWN) == text


def test_an_expression_may_span_lines_and_say_numbers_with_their_sign():
    assert fill('{{ mean(\n  "digits",\n  "a",\n  metric="acc") | points }}', KNOWN) == "+91.0 points"


def test_a_diverged_method_reads_so_and_bears_no_factor():
    """Of five seeds one diverged: the sentence says so, and neither a ratio nor a mean covers it up."""
    study = Study("digits", arms=("a", "b"), claims=[claim := Beats("error", "a", "b")])
    levels = {"a": [None, 0.1, 0.11, 0.12, 0.1], "b": [0.2, 0.21, 0.19, 0.2, 0.22]}
    trials = [
        {"study": "digits", "arm": arm, "seed": seed, "rows": [{"variant": arm, "cell": None, "metrics": {"error": v}}]}
        for arm, values in levels.items()
        for seed, v in enumerate(values)
    ]
    verdict = judge(claim, study, Rows(trials))
    known = Recorded({"verdicts": [json.loads(json.dumps(verdict.to_dict(), allow_nan=False))], "trials": trials})
    text = fill('{{ verdict("digits", 0) | sentence }}', known)
    assert text == "error diverged: a in 1 of 5 seeds: inconclusive."
    assert "times" not in text
    assert verdict.parts[0].values[0] == 0.0  # the worst of all ratios, and the others stay as they are
    assert verdict.parts[0].values[1:] == pytest.approx([2.1, 0.19 / 0.11, 0.2 / 0.12, 2.2])
    assert fill('{{ mean("digits", "a", "error") | number }}', known) == "not measured yet"
    assert fill('{{ mean("digits", "b", "error") | number }}', known) == "0.204"


@pytest.mark.parametrize("text", ["{% for x in y %}{% endfor %}", "{# comment #}"])
def test_there_are_no_statements(text):
    with pytest.raises(CardError, match="only"):
        fill(text, KNOWN)


def write(tmp_path, text):
    (tmp_path / "card.md").write_text(text)
    return tmp_path / "card.md"


def test_card_and_its_sections(tmp_path):
    card = load_card(write(tmp_path, FRONT + "\n## One\n\ntext\n\n## Two\n\nmore\n"))
    assert (card.slug, card.year, card.official, card.tags) == ("paper", 2025, None, [])
    assert {name: text.strip() for name, text in card.sections.items()} == {"One": "text", "Two": "more"}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('arxiv: "2501.00001"', "arxiv: 2501.00001", "in quotes"),
        ("year: 2025", "year: soon", "'year' must be int"),
        ("slug: paper", "slug: My Paper", "lower-case"),
        ("idea: One sentence.\n", "", "lacks 'idea'"),
        ("claim: Another.", "claim: Another.\nunknown: 1", "unknown in the front matter: unknown"),
        ("claim: Another.", "claim: Another.\ntags: [1]", "list of words"),
        ("title: A paper", "title: !!python/object/apply:os.system ['true']", "not plain YAML"),
        ("title: A paper", "title: [", "not plain YAML"),
        ("---\ntitle", "title", "front matter"),
    ],
)
def test_broken_front_matter_is_told(tmp_path, old, new, told):
    with pytest.raises(CardError, match=told):
        load_card(write(tmp_path, FRONT.replace(old, new)))


def test_a_card_that_cannot_be_filled_in_is_told_by_its_file(tmp_path):
    card = load_card(write(tmp_path, FRONT + "\nSee {{ 9**9**9 }}.\n"))
    with pytest.raises(CardError, match=r"card\.md.*9 \*\* 9 \*\* 9.*not available"):
        render(card)


def test_an_alias_bomb_is_refused_unexploded(tmp_path):
    """Aliases of aliases stand for a list of 10^9 words; it must not be written out."""
    bomb = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10))
    with pytest.raises(CardError, match="unknown in the front matter: a0"):
        load_card(write(tmp_path, FRONT.replace("title:", bomb + "title:")))
    tags = bomb.replace("a9: &a9", "tags:")
    with pytest.raises(CardError, match="list of words"):
        load_card(write(tmp_path, FRONT.replace("title:", tags + "title:")))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "front matter"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"---\n" + b"x" * 1_000_001, "larger than 1000000 bytes"),
        (b"---\n- a\n- b\n---\n", "found list"),
        (b"---\n" + b"[" * 5_000 + b"\n---\n", "not plain YAML"),
    ],
)
def test_a_file_that_is_no_card_is_told(tmp_path, content, told):
    (tmp_path / "card.md").write_bytes(content)
    with pytest.raises(CardError, match=told):
        load_card(tmp_path / "card.md")


def test_a_card_that_is_not_there_is_told(tmp_path):
    with pytest.raises(CardError, match="cannot be read: No such file"):
        load_card(tmp_path / "card.md")
    (tmp_path / "file").write_text("")
    with pytest.raises(CardError, match="cannot be read: Not a directory"):
        load_card(tmp_path / "file" / "card.md")
