"""Cards: front matter, and expressions that read recorded results and can do nothing else."""

import pytest

from paperworks.errors import CardError
from paperworks.lab import load_card
from paperworks.lab.expressions import fill
from paperworks.lab.results import Recorded

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
RESULT = {
    "verdicts": [VERDICT],
    "trials": TRIALS,
    "studies": [{"name": "digits", "settings": {"T": 10}, "arm_settings": {"a": {"lr": 0.01}}}],
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
    ],
)
def test_nothing_else_is_an_expression(expression):
    with pytest.raises(CardError):
        fill(f"{{{{ {expression} }}}}", KNOWN)


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
