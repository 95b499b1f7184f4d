"""The verbs: parse, call, print. Nothing heavy is imported before a verb needs it."""

import errno
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from paperworks import __version__
from paperworks.errors import PaperworksError


class _Verbs(typer.core.TyperGroup):
    """The verbs of this file, and the tools that papers bring: named in cards, imported when called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *sorted(_tools())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        known = super().get_command(ctx, cmd_name)
        if known is not None or cmd_name not in _tools():
            return known
        paper, called = _tools()[cmd_name], cmd_name in sys.argv
        tool = typer.Typer(context_settings={"help_option_names": ["-h", "--help"]}, add_completion=False)
        function = getattr(paper.load("tool"), cmd_name.replace("-", "_")) if called else lambda: None
        tool.command(cmd_name, help=None if called else _about(paper))(_printing(function) if called else function)
        return typer.main.get_command(tool)


def _tools() -> dict[str, Any]:
    """Command -> the paper whose `tool.py` holds it."""
    from paperworks.lab.discover import find_papers

    return {paper.card.tool: paper for paper in find_papers().values() if paper.card.tool}


def _about(paper: Any) -> str:
    """The first line of a tool's docstring, read without importing its module."""
    import ast

    source = (paper.folder / "tool.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == paper.card.tool.replace("-", "_"):
            return (ast.get_docstring(node) or paper.card.idea).partition("\n")[0]
    return paper.card.idea


def _printing(function: Any) -> Any:
    """The tool with `--json`: it returns a mapping whose `text` is for a person and whose rest is for a program."""
    import functools
    import inspect

    signature = inspect.signature(function, eval_str=True)

    @functools.wraps(function)
    def command(*, as_json: bool, **options: Any) -> None:
        answer = dict(function(**options))
        text = answer.pop("text")
        print(json.dumps(answer) if as_json else text)

    extra = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=AsJson)
    command.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), extra], return_annotation=None
    )
    command.__annotations__ = {name: p.annotation for name, p in command.__signature__.parameters.items()}  # type: ignore[attr-defined]
    return command


app = typer.Typer(
    cls=_Verbs,
    rich_markup_mode=None,  # plain help: half the time that boxes take to load
    help="Machine-learning papers as working methods: run them, use them on your own files, check their claims.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Slug = Annotated[str, typer.Argument(help="A paper's slug, or the folder of a paper of your own.")]
Settings = Annotated[list[str], typer.Option("--set", metavar="NAME=VALUE", help="Override a setting; repeatable.")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder of ledger, checkpoints and reports.")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"paperworks {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


@app.command("list")
def list_papers(
    field: Annotated[str | None, typer.Option(help="Only this field.")] = None,
    search: Annotated[str | None, typer.Option(help="Only papers whose card has these words.")] = None,
    as_json: AsJson = False,
) -> None:
    """Find papers."""
    from paperworks.lab.discover import find_papers

    papers = list(find_papers().values())
    fields = sorted({paper.card.field for paper in papers})
    if field is not None and field not in fields:
        raise PaperworksError(f"no field '{field}'; there are {', '.join(fields)}")
    words = (search or "").lower().split()
    cards = [paper.card for paper in papers if field in (None, paper.card.field)]
    cards = [c for c in cards if all(word in f"{json.dumps(c.summary())} {c.body}".lower() for word in words)]
    if as_json:
        print(json.dumps([card.summary() for card in cards], indent=1, ensure_ascii=False))
        return
    if not cards:
        print(f"No paper has the words: {search}. `paperworks list` shows them all.")
        return
    if not sys.stdout.isatty():
        width = max(len(card.slug) for card in cards)
        print("\n".join(f"{card.slug:<{width}}  {card.field:<12} {card.year}  {card.idea}" for card in cards))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", row_styles=["", "dim"])
    for name in ("paper", "field", "year", "idea"):
        table.add_column(name, overflow="fold", no_wrap=name != "idea")
    for card in cards:
        table.add_row(card.slug, card.field, str(card.year), card.idea)
    Console().print(table)


@app.command()
def show(paper: Slug, as_json: AsJson = False) -> None:
    """Read a paper's card, with what was measured."""
    from paperworks.lab.discover import find_paper
    from paperworks.lab.expressions import render
    from paperworks.lab.results import recorded

    found = find_paper(paper)
    results = recorded(found)
    verdicts = (results.result or {}).get("verdicts", [])
    confirmed = (results.confirmation or {}).get("verdicts", [])
    body = render(found.card, results)
    if as_json:
        kept = ("study", "claim", "kind", "status", "effect", "interval", "seeds", "fair", "sentence")
        short = [{name: verdict[name] for name in kept} for verdict in verdicts]
        again = [{name: verdict[name] for name in kept} for verdict in confirmed]
        summary = {**found.card.summary(), "verdicts": short, "confirmation": again, "text": body}
        print(json.dumps(summary, indent=1, ensure_ascii=False))
        return
    card = found.card
    if not sys.stdout.isatty():
        head = (
            f"{card.title}\narXiv {card.arxiv} ({card.year}), field {card.field}\n\n{card.idea}\nClaim. {card.claim}\n"
        )
        claims = [f"{verdict['kind']}: {verdict['sentence']}" for verdict in verdicts]
        claims = [_answer(verdicts), "", *claims] if verdicts else claims
        claims += [f"{verdict['kind']}, on fresh seeds: {verdict['sentence']}" for verdict in confirmed]
        print(
            "\n".join(
                [head, *(claims or [f"No verdict is recorded. Measure one: paperworks run {card.slug}"]), "", body]
            )
        )
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    console.print(f"[bold]{_plain(card.title)}[/]")
    console.print(f"arXiv {card.arxiv} ({card.year})  field {card.field}  {_plain(card.official or '')}", style="dim")
    console.print(f"\n{_plain(card.idea)}\n[bold]Claim.[/] {_plain(card.claim)}\n")
    if verdicts:
        console.print(f"{_plain(_answer(verdicts))}\n")
        console.print(_verdict_table(verdicts))
        if confirmed:
            console.print("\nRepeated on fresh seeds:")
            console.print(_verdict_table(confirmed))
    else:
        console.print(f"No verdict is recorded. Measure one: paperworks run {card.slug}")
    console.print()
    console.print(Markdown(body))


def _answer(verdicts: list[dict[str, Any]]) -> str:
    """What the report's first screen says: the weakest headline's verdict, and the controls."""
    from paperworks.gallery.answer import controls_sentence, headlines_sentence, overall

    lead = overall(verdicts)
    assert lead is not None
    parts = (headlines_sentence(verdicts), lead["sentence"], controls_sentence(verdicts))
    return f"Measured: {lead['status']}. " + " ".join(part for part in parts if part)


@app.command()
def run(
    papers: Annotated[list[str] | None, typer.Argument(metavar="PAPER...", help="Slugs or folders.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every paper.")] = False,
    budget: Annotated[str, typer.Option(help="smoke (seconds), laptop (minutes), paper (as published).")] = "laptop",
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds, from 0; default: the study's.")] = None,
    first_seed: Annotated[
        int, typer.Option(min=0, help="Repeat on fresh seeds, from this one; --record keeps it beside the first run.")
    ] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Trials side by side, each on one core.")] = 1,
    settings: Settings = [],  # noqa: B006 (typer reads the default once)
    study: Annotated[list[str] | None, typer.Option(help="Only this study; repeatable.")] = None,
    data: Annotated[Path | None, typer.Option(help="Root folder of real data sets.")] = None,
    device: Annotated[str | None, typer.Option(help="A torch device, for studies that use one; default cuda.")] = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="First choose every arm's settings on the study's grid.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what the ledger already holds.")] = False,
    record: Annotated[bool, typer.Option("--record", help="Store the result with the paper.")] = False,
    on: Annotated[str | None, typer.Option(help="ray, or ray:ADDRESS: run on a cluster.")] = None,
    runs: Runs = Path("paperworks-runs"),
    as_json: AsJson = False,
) -> None:
    """Run papers: studies, verdicts, report.html."""
    from paperworks.lab.discover import find_paper, find_papers
    from paperworks.lab.study import parse_settings

    if bool(papers) == every:
        raise PaperworksError("name papers to run, or give --all (one of the two); `paperworks list` shows them")
    if record and (settings or budget == "smoke" or (seeds is not None and seeds < 3)):
        raise PaperworksError(
            "--record keeps what cards and the README cite: a whole run, without --set, of 3 seeds up"
        )
    if record and first_seed and (budget != "laptop" or first_seed < 100):
        raise PaperworksError("--record with --first-seed keeps a confirmation: laptop budget, seeds from 100 up")
    chosen = list(find_papers().values()) if every else [find_paper(name) for name in papers or []]
    results, failed = [], False
    for paper in chosen:
        known: dict[str, Any] = {}
        for each in paper.studies.values() if settings else ():
            known = {**each.known_settings(), **known}
        options: dict[str, Any] = dict(
            seeds=seeds, jobs=jobs, settings=parse_settings(settings, known), studies=study, data=data, device=device
        )
        options |= dict(first_seed=first_seed, tune=tune, fresh=fresh, on=on, runs=runs)
        result = _run_one(paper, budget, options, record, quiet=as_json)
        if result is not None:
            results.append(result)
            failed = failed or bool(result["failures"])
    if as_json and results:
        print(json.dumps(results[0] if len(chosen) == 1 else results))
    if failed:
        raise typer.Exit(1)


def _run_one(paper: Any, budget: str, options: dict[str, Any], record: bool, quiet: bool) -> dict[str, Any] | None:
    from paperworks import lab
    from paperworks.gallery import write_report
    from paperworks.lab import results as stored

    if int(os.environ.get("RANK", "0")) > 0:  # under accelerate launch, rank 0 alone prints and writes
        lab.run(paper, budget, **options)
        return None
    with _Progress(quiet) as progress:
        report = lab.run(paper, budget, watch=progress, **options)
    report.folder.mkdir(parents=True, exist_ok=True)
    stored.write_text(report.folder / "result.json", stored.compact_json(report.result))
    if record and not report.failures:
        stored.record(paper, report.result)
        if not options["first_seed"]:
            _record_tuning(paper, report)
    page = write_report(report.result, paper.card, report.folder / "report.html")
    if not quiet:
        from rich.console import Console

        console = Console()
        if report.result["verdicts"]:
            console.print(_verdict_table(report.result["verdicts"]))
            for verdict in report.result["verdicts"]:
                if verdict["kind"] == "headline":
                    console.print(_plain(verdict["sentence"]), style="bold")
        for skipped in report.result["not_run"]:
            console.print(f"not run: study '{skipped['study']}' {_plain(skipped['why'])}", style="dim")
        seconds = sum(trial["cpu_seconds"] for trial in report.trials)
        console.print(f"{len(report.trials)} trials, {seconds:.0f} CPU-seconds in all.", style="dim")
        print(f"Report: {page.resolve()}")
    _tell_failures(report, options["settings"])
    return report.result


def _tell_failures(report: Any, settings: dict[str, Any]) -> None:
    """Each failure once with its traceback; where the user gave settings, only what they led to."""
    alike: dict[str, list[str]] = {}
    for failure in report.failures:
        told = failure["traceback"].strip()
        place = f"study {failure['study']}, arm {failure['arm']}, seed {failure['seed']}"
        alike.setdefault(told.splitlines()[-1] if settings else told, []).append(place)
    given = " ".join(f"--set {name}={value}" for name, value in settings.items())
    for told, places in alike.items():
        where = places[0] + (f", and {len(places) - 1} more" if len(places) > 1 else "")
        if settings:
            print(
                f"error: {where}: with {given} a trial fails: {told}; change the setting. "
                f"Tracebacks: {report.folder / 'result.json'}",
                file=sys.stderr,
            )
        else:
            print(f"A trial failed ({where}); all others are kept and are not run again:\n{told}", file=sys.stderr)


def _record_tuning(paper: Any, report: Any) -> None:
    from paperworks.lab.results import compact_json, read_json, write_text

    path = paper.folder / "results" / "tuning.json"
    known = read_json(path) or {}
    for study in report.result["studies"]:
        if study["tuning"]:
            known[f"{study['name']}@{report.result['budget']}"] = study["tuning"]
    if known:
        write_text(path, compact_json(dict(sorted(known.items()))))


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _verdict_table(verdicts: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    from paperworks.lab.verdict import number

    colours = {"supported": "green", "not supported": "red", "inconclusive": "yellow"}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("verdict", "kind", "claim", "effect", "95 % interval", "seeds", "fair"):
        table.add_column(name, justify="right" if name in ("effect", "seeds") else "left", overflow="fold")
    for verdict in verdicts:
        ends = verdict["interval"]
        interval = f"{number(ends[0])} to {number(ends[1])}" if ends else "none"
        unit = "x" if verdict["scale"] == "ratio" else ""
        effect = "none" if verdict["effect"] is None else f"{number(verdict['effect'])}{unit}"
        fair = {True: "yes", False: "NO", None: ""}[verdict["fair"]]
        status = f"[{colours[verdict['status']]}]{verdict['status']}[/]"
        claim = f"{_plain(verdict['study'])}: {_plain(verdict['claim'])}"
        table.add_row(status, verdict["kind"], claim, effect, interval, str(verdict["seeds"]), fair)
    return table


class _Progress:
    """A progress bar over trials with the current one's metric and the time left; nothing when quiet."""

    def __init__(self, quiet: bool):
        self.quiet = quiet

    def __enter__(self) -> "_Progress":
        if not self.quiet:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, TextColumn("{task.fields[now]}"), console=Console(stderr=True))
            self.task = self.bar.add_task("trials", total=None, now="")
        return self

    def __exit__(self, *_: object) -> None:
        if not self.quiet and self.bar.live.is_started:
            self.bar.stop()

    def __call__(self, event: Any) -> None:
        if self.quiet:
            return
        if not self.bar.live.is_started:  # only now: an error before the first trial is told without an empty bar
            self.bar.start()
        name = f"{event.study} {event.arm} seed {event.seed}"
        if event.kind == "plan":
            self.bar.reset(self.task, description=event.purpose or "trials", now="", total=event.total)
            self.bar.update(self.task, completed=event.done)
        elif event.kind == "progress":
            metrics = " ".join(
                f"{key} {value:.3g}" for key, value in (event.metrics or {}).items() if value is not None
            )
            share = event.step / event.steps if event.steps else 0
            self.bar.update(self.task, completed=event.done + min(share, 1), now=_plain(f"{name} {metrics}"))
        else:
            self.bar.update(self.task, completed=event.done, now=_plain(f"{name} {event.kind}"))


@app.command()
def fit(
    paper: Slug,
    source: Annotated[Path, typer.Argument(metavar="FILES", help="Your data: a file or folder; `show` tells.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the fitted model.")] = Path("model"),
    settings: Settings = [],  # noqa: B006
    test: Annotated[Path | None, typer.Option(help="Further data to score the fitted model on.")] = None,
    device: Annotated[str | None, typer.Option(help="A torch device.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over; else an interrupted fit goes on.")] = False,
    record: Annotated[str | None, typer.Option(metavar="NAME", help="Keep the scores in the paper's folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train a paper's method on your own files. Leaves the model and report.html."""
    from paperworks import gallery as pages
    from paperworks.lab.discover import find_paper
    from paperworks.lab.results import record_fit
    from paperworks.lab.study import parse_settings
    from paperworks.training import recipe as recipes

    found = find_paper(paper)
    recipe = _recipe(found)
    chosen = parse_settings(settings, recipe.settings)
    with _FitProgress(quiet=as_json) as progress:
        report = recipes.fit_files(
            recipe, source, out, settings=chosen, test=test, device=device, fresh=fresh, log=progress
        )
    if record:
        record_fit(found, record, source, report)
    page = out / "report.html"
    if int(os.environ.get("RANK", "0")) == 0:  # under accelerate launch, rank 0 alone prints and writes
        pages.write_fit_report(report, found.card, source, page)
    if as_json:
        shown = {
            name: value
            for name, value in report.items()
            if name not in ("curves", "pictures", "pictured", "predictions")
        }
        print(json.dumps(shown | {"report": str(page)}))
        return
    for part, metrics in report["metrics"].items():
        print(f"{part}: " + ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
    print(f"Model: {out.resolve()}\nReport: {page.resolve()}")


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A folder that fit wrote.")],
    source: Annotated[Path, typer.Argument(metavar="FILES", help="Data in the layout the model was fitted on.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Where predictions go; default: predictions.csv, or .npz for arrays.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="A torch device.")] = None,
    as_json: AsJson = False,
) -> None:
    """Apply a fitted model to files."""
    from paperworks.lab.discover import find_paper
    from paperworks.training import recipe as recipes

    saved = recipes.read_recipe(model)
    report = recipes.predict_files(_recipe(find_paper(saved["slug"])), model, source, out, device=device)
    print(json.dumps(report) if as_json else f"{report['count']} predictions: {Path(report['path']).resolve()}")


def _recipe(paper: Any) -> Any:
    if not (paper.folder / "recipe.py").is_file():
        there = (
            f"`paperworks {paper.card.tool}` takes them" if paper.card.tool else f"see `paperworks show {paper.slug}`"
        )
        raise PaperworksError(f"{paper.slug} has nothing to fit to files of your own; {there}")
    return paper.load("recipe").recipe


class _FitProgress:
    """A bar over training steps with the metrics and the time left."""

    def __init__(self, quiet: bool):
        self.quiet = quiet

    def __enter__(self) -> "_FitProgress":
        if not self.quiet:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("fitting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, TextColumn("{task.fields[now]}"), console=Console(stderr=True))
            self.task = self.bar.add_task("fit", total=None, now="")
        return self

    def __exit__(self, *_: object) -> None:
        if not self.quiet and self.bar.live.is_started:
            self.bar.stop()

    def __call__(self, step: int, total: int | None = None, *, seconds: float | None = None, **metrics: Any) -> None:
        if not self.quiet:
            if not self.bar.live.is_started:
                self.bar.start()
            shown = " ".join(f"{key} {float(value):.4g}" for key, value in metrics.items() if value is not None)
            self.bar.update(self.task, completed=step, total=total, now=shown)


@app.command()
def compare(
    field: Annotated[str, typer.Argument(help="A field, or a folder with a comparison.py.")],
    task: Annotated[str, typer.Option("--task", metavar="NAME|DATAFILE", help="One of the field's tasks, or a file.")],
    equal: Annotated[str, typer.Option(help="parameters, or time: what all models have alike.")] = "parameters",
    models: Annotated[str | None, typer.Option(metavar="A,B", help="Only these models.")] = None,
    parameters: Annotated[str | None, typer.Option(metavar="N[,N]", help="Of each model; several: a curve.")] = None,
    budget: Annotated[str, typer.Option(help="smoke (seconds) or laptop (minutes).")] = "laptop",
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds, from 0.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Trials side by side, each on one core.")] = 1,
    settings: Settings = [],  # noqa: B006
    device: Annotated[str | None, typer.Option(help="A torch device.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what the ledger already holds.")] = False,
    record: Annotated[bool, typer.Option("--record", help="Keep the table in the field's folder.")] = False,
    on: Annotated[str | None, typer.Option(help="ray, or ray:ADDRESS: run on a cluster.")] = None,
    runs: Runs = Path("paperworks-runs"),
    as_json: AsJson = False,
) -> None:
    """Put a field's models side by side on one task. Leaves compare.html."""
    from paperworks.gallery import write_comparison
    from paperworks.lab import comparison as comparing
    from paperworks.lab import results as stored
    from paperworks.lab.study import parse_settings

    wing = comparing.find_wing(field)
    known = comparing.known_settings(wing, task)
    given = parse_settings(settings, known)
    with _Progress(quiet=as_json) as progress:
        report = comparing.compare(
            wing,
            task,
            equal=equal,
            models=[name.strip() for name in models.split(",")] if models else None,
            parameters=_whole_numbers("--parameters", parameters),
            budget=budget,
            seeds=seeds,
            jobs=jobs,
            settings=given,
            device=device,
            fresh=fresh,
            on=on,
            runs=runs,
            watch=progress,
        )
    page = write_comparison(report.result, report.folder / "compare.html")
    stored.write_text(report.folder / "result.json", stored.compact_json(report.result))
    if as_json:
        print(json.dumps(report.result))
    else:
        from rich.console import Console

        console = Console()
        console.print(_comparison_table(report.result["comparison"]))
        console.print(_plain(report.result["comparison"]["sentence"]), style="bold")
        reasons: dict[str, list[str]] = {}
        for item in report.result["comparison"]["left_out"]:
            reasons.setdefault(item["why"], []).append(item["model"])
        for why, names in reasons.items():
            console.print(f"left out: {_plain(', '.join(names))} ({_plain(why)})", style="dim")
        for entry in report.result["comparison"]["models"]:
            for place, why in entry["refused"].items():
                console.print(f"{_plain(entry['model'])} refuses {_plain(place)}: {_plain(why)}", style="dim")
        print(f"Report: {page.resolve()}")
    _tell_failures(report, given)
    if record:
        print(f"Recorded: {comparing.record(wing, report)}", file=sys.stderr)
    if report.failures:
        raise typer.Exit(1)


def _whole_numbers(option: str, text: str | None) -> list[int]:
    from paperworks.errors import SettingError

    words = [word.strip().replace("_", "") for word in (text or "").split(",") if word.strip()]
    if any(not (word.isascii() and word.isdigit()) for word in words):
        raise SettingError(f"{option} {text}: whole numbers with commas between, for example 20000,80000")
    return [int(word) for word in words]


def _comparison_table(compared: dict[str, Any]) -> Any:
    from rich.table import Table

    from paperworks.lab.verdict import number

    def told(spread: dict[str, Any] | None) -> str:
        if spread is None:
            return ""
        if spread["mean"] is None:
            return "[red]diverged[/]"
        ends = f" [dim]({' to '.join(map(number, spread['interval']))})[/]" if spread["interval"] else ""
        return number(spread["mean"]) + ends

    places = list(dict.fromkeys(p for e in compared["models"] for p in (*e["elsewhere"], *e["refused"])))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model")
    for name in (_plain(compared["metric"]), "parameters", "training s", "inference ms", *map(_plain, places), "steps"):
        table.add_column(name, justify="right")
    for entry in compared["models"]:
        size = f"{'≠ ' * entry['unequal']}{entry['parameters']:,}"
        elsewhere = [
            "refuses" if place in entry["refused"] else told(entry["elsewhere"].get(place)) for place in places
        ]
        timed = [number(entry[name]["mean"]) for name in ("seconds", "inference_ms")]
        table.add_row(_plain(entry["model"]), told(entry["error"]), size, *timed, *elsewhere, f"{entry['steps']:,}")
    return table


@app.command()
def gallery(
    build: Annotated[Path, typer.Option("--build", help="Folder of the site.")] = Path("site"),
    serve: Annotated[bool, typer.Option("--serve", help="Then show it on this machine.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of --serve.")] = 8000,
) -> None:
    """Build the web page of everything measured."""
    from paperworks import gallery as pages
    from paperworks.lab.comparison import recorded as compared
    from paperworks.lab.discover import find_papers
    from paperworks.lab.results import recorded
    from paperworks.lab.wings import find_wings

    papers = list(find_papers().values())
    comparisons = [result for wing in find_wings().values() for result in compared(wing).values()]
    index = pages.build_gallery(papers, {paper.slug: recorded(paper) for paper in papers}, build, comparisons)
    print(f"Gallery: {index.resolve()}")
    if serve:
        pages.serve(build, port)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The paper's name, for example my-paper.")],
    folder: Annotated[Path, typer.Option("--in", help="Where its folder is made.")] = Path(),
) -> None:
    """Scaffold a paper of your own."""
    from paperworks.lab.scaffold import scaffold

    made = scaffold(name, folder)
    print(f"Made {made}\nRun it:  paperworks run {'./' if not made.is_absolute() else ''}{made} --budget smoke")


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Tell what works on this machine and what to install."""
    from paperworks.lab.doctor import examine

    findings = examine()
    if as_json:
        print(json.dumps(findings, indent=1))
        return
    for finding in findings:
        mark = {True: "ok  ", False: "--  "}[finding["ok"]]
        print(f"{mark}{finding['name']}: {finding['found']}" + (f"  ->  {finding['do']}" if finding["do"] else ""))


_MENDABLE = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.ENOTDIR, errno.EISDIR)


def main() -> None:
    """Entry point: what the user can mend is told in one message, with exit status 2."""
    try:
        app()
    except PaperworksError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            sys.exit(141)
        if error.errno not in _MENDABLE or error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}; give another path", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nStopped. Finished trials and checkpoints are kept: run the same command to go on.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
