"""Reports: what they gather and show, that they are whole and valid, that nothing in results can become markup."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import json
import re
import shlex
from collections import Counter
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from fake_results import make_row, write_results
from proxdm.checkpoints.portable import save_model
from proxdm.checkpoints.store import create_run
from proxdm.cli import parse
from proxdm.cli.evaluate import Evaluate
from proxdm.cli.train import parse_request
from proxdm.config import to_json
from proxdm.errors import OutputError
from proxdm.evaluation.comparison import make_panels
from proxdm.plotting.curves import PHASES, curve_styles, metric_panel, training_curve
from proxdm.plotting.style import PROX_COLOURS, SCORE_COLOURS
from proxdm.presets import get_preset
from proxdm.report import gather, render
from proxdm.report.commands import evaluate_commands, train_command
from proxdm.report.figures import DARK, inline_svg, picture_uri, swatch
from runs import changed
from tiny_models import SCORE, random_model

SAMPLERS = ("euler-maruyama", "prox-hybrid", "prox-backward")
LOG = [
    {"step": 10, "phase": "l1", "zeta": None, "loss": 0.9, "seconds": 1.0},
    {"step": 20, "phase": "proximal-matching", "zeta": 1.0, "loss": 0.5, "seconds": 62.0},
]
VOID = {"meta", "link", "img", "br", "hr", "input", "use", "path", "circle"}


class Page(HTMLParser):
    """Elements of a page; fails where tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self._open = [], [], []
        self.feed(text)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute of {tag} stands twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag, f"{tag} is closed where it is not open"

    def handle_data(self, data):
        if not self._open or self._open[-1] not in ("script", "style"):
            self.texts.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in, with the run `runs/prox`, and results that name it and a run that is not there."""
    monkeypatch.chdir(tmp_path)
    config = get_preset("digits-prox-hybrid")
    create_run(tmp_path / "runs" / "prox", config)
    (tmp_path / "runs" / "prox" / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LOG))
    rows = [
        make_row(sampler, n, seed, metrics={"fid": 100 / n + seed + i, "w2": 1.0}, source=source)
        for i, (sampler, source) in enumerate(zip(SAMPLERS, ("runs/score", "runs/prox", "runs/prox"), strict=True))
        for n in (5, 10, 20)
        for seed in (0, 1)
        if (sampler, n) != ("prox-backward", 5)
    ]
    for name in ("prox", "score"):
        write_results(tmp_path / "evaluations" / name, [row for row in rows if name in row.source])
    return tmp_path


def page_of(*sources, **more):
    return Page(render(gather(sources), **more))


def test_a_report_shows_what_was_measured(place):
    page = page_of("evaluations")
    assert page.all("html") == [{"lang": "en"}]
    for words in (
        "Report on prox and score",
        "digits, train, 1,797 images",
        "pixels, 64 a sample",
        "256 a row",
        "0 and 1",
        "cpu (x86_64)",
        "proxdm 0.1.0, torch 2.4.0, python 3.11.0",
        "2026-01-01",
        "Fréchet distance lower is better",
        "Mean ± standard deviation of 2 seeds.",
        "20.50 ± 0.71 (best)",
        "N = 20",
        "not measured",
        "All 16 rows",
        "runs/score is not here",
        "proximal-matching, ζ = 1",
        "62 s",
    ):
        assert words in page.text, words
    assert f'"preset": "{get_preset("digits-prox-hybrid").preset}"' in page.text
    images = page.all("img")
    assert len(images) == 8, "one of the first seed for every sampler and N"
    assert "64 samples of prox-hybrid at N = 5, seed 0" in [image["alt"] for image in images]
    assert [svg["aria-label"] for svg in page.all("svg") if "aria-label" in svg][-1].startswith("Loss of prox")


def test_the_page_is_whole_valid_and_accessible(place):
    text = render(gather(["evaluations"]))
    assert text == render(gather(["evaluations"]))
    assert text.startswith("<!DOCTYPE html>")
    page = Page(text)
    assert not re.search(r"https?:|//\w+\.", text), "no address of anything"
    assert not re.search(r"@import|url\((?!#)", text)
    for tag, attrs in page.elements:
        assert not {"srcset", "data", "action", "formaction", "ping", "poster"} & set(attrs), tag
        assert not [name for name in attrs if name.startswith("on")], tag
        assert attrs.get("src", "data:").startswith("data:")
        assert attrs.get("href", "#").startswith(("#", "data:"))
    identifiers = Counter(attrs["id"] for _, attrs in page.elements if "id" in attrs)
    assert max(identifiers.values()) == 1
    links = {attrs["href"][1:] for _, attrs in page.elements if attrs.get("href", "").startswith("#")}
    links |= {attrs["aria-labelledby"] for _, attrs in page.elements if "aria-labelledby" in attrs}
    links |= set(re.findall(r"url\(#([^)]*)\)", text))
    assert links <= set(identifiers)
    assert all(image["alt"] for image in page.all("img"))
    assert all(head["scope"] in ("col", "row") for head in page.all("th"))
    assert all("aria-label" in svg or svg.get("aria-hidden") == "true" for svg in page.all("svg"))
    assert len(page.all("h1")) == 1
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:;")


EVIL = "<script>alert('1')</script><img src=x onerror=alert(2)>\"'&$x_1$"


def test_nothing_in_results_becomes_markup(place):
    clean = Counter(tag for tag, _ in page_of("evaluations/prox").elements)
    texts = ("source", "weights", "sampler", "grid", "device", "preset", "picture", "finished")
    features = dict.fromkeys(("name", "dim", "weights"), EVIL)
    reference = {"name": EVIL, "sha256": EVIL, "split": EVIL, "n": 3}
    more = {"metrics": {EVIL: 1.0}, "versions": {EVIL: EVIL}, "used": {}}
    row = make_row(**dict.fromkeys(texts, EVIL), features=features, reference=reference, **more)
    write_results(place / "evil", [row, make_row(source="b", digest="b" * 64)], pictures=False)
    page = page_of("evil", title=EVIL)
    found = Counter(tag for tag, _ in page.elements)
    assert found["script"] == clean["script"] == 1
    assert found["img"] == 0
    assert page.text.count("<script>alert('1')</script>") > 10, "it is there as text"
    assert not [attrs for _, attrs in page.elements if any(name.startswith("on") for name in attrs)]
    script = re.search(r"<script>(.*?)</script>", render(gather(["evil"])), re.DOTALL)
    assert "alert" not in script[1]


def test_rows_measured_differently_stand_in_parts(place):
    write_results(place / "few", [make_row(samples=100, fid=0.123)])
    page = page_of("evaluations/prox", "few")
    assert "The results were measured in 2 ways" in page.text
    assert "Measurement 2 100 samples, pixels features, against digits" in page.text
    assert "0.123" in page.text
    assert "0.123 (best)" not in page.text


def test_pictures_that_are_missing_or_damaged_are_said_to_be(place):
    rows = [make_row(n, 5) for n in ("prox-hybrid", "prox-ode")]
    rows += [make_row("prox-backward", picture="../secret.png"), make_row("euler-maruyama", picture=None)]
    folder = write_results(place / "some", rows[:2])
    (folder / rows[0].picture).unlink()
    (folder / rows[1].picture).write_bytes(b"\x89PNG no picture")
    Image.new("L", (4, 4)).save(place / "secret.png")
    write_results(folder, rows, pictures=False)
    page = page_of("some")
    for words in ("prox-hybrid-5-seed0.png is missing", "prox-ode-5-seed0.png cannot be read", "no picture was made"):
        assert words in page.text
    assert "../secret.png is not beside its results" in page.text
    assert not page.all("img")


def test_a_run_comes_with_the_results_that_name_it(place):
    write_results(place / "runs" / "prox" / "more", [make_row("prox-ode", source="elsewhere/prox")])
    write_results(place / "evaluations" / "prox", [make_row(source="runs/prox"), make_row("ode-euler", source="other")])
    material = gather(["runs/prox"])
    assert [one.sampler for one in material.rows] == ["prox-ode", "prox-hybrid"]
    assert [run.source for run in material.runs] == ["runs/prox", "elsewhere/prox"]
    assert gather(["runs/prox", "runs/prox/more"]).rows == material.rows, "what is named twice counts once"


def test_a_run_that_was_not_evaluated_is_reported_on(place):
    create_run(place / "runs" / "new", get_preset("digits-score"))
    material = gather(["runs/new"])
    assert material.notes == ("runs/new has not been evaluated yet: proxdm evaluate runs/new",)
    page = Page(render(material))
    assert "Runs that have not been evaluated yet." in page.text
    assert material.notes[0] in page.text
    assert not page.all("table")
    assert "proxdm train digits-score --out runs/new" in page.text


def test_a_damaged_log_is_an_error_and_an_unfinished_line_is_not(place):
    log = place / "runs" / "prox" / "log.jsonl"
    log.write_text(json.dumps(LOG[0]) + '\n{"step": 20, "lo')
    assert gather(["runs/prox"]).runs[0].log == (LOG[0],)
    log.write_text("broken\n" + json.dumps(LOG[0]) + "\n")
    with pytest.raises(OutputError, match=r"line 1 of .*log\.jsonl is not a JSON object"):
        gather(["runs/prox"])


def test_weights_that_changed_since_are_noticed(place):
    source = str(save_model(random_model(SCORE), place / "model.safetensors", weights="raw"))
    digest = gather([source]).runs[0].found.file.digest
    for known, said in ((digest, False), ("0" * 64, True)):
        write_results(place / "rows", [make_row("euler-maruyama", source=source, weights="raw", digest=known)])
        assert ("The weights raw are not those that were measured" in page_of("rows").text) == said


def test_metrics_can_be_chosen(place):
    page = page_of("evaluations", metrics=["w2"])
    assert "Fréchet distance by sampler" not in page.text
    assert "W2 by sampler" in page.text


def test_figures_inside_the_page_follow_its_colours_and_have_their_own_names():
    panels = make_panels([make_row(s, n) for s in SAMPLERS for n in (5, 10)])
    styles = curve_styles(panels)
    svg = inline_svg(metric_panel(panels[0], styles), "a", 'FID "of" <all>')
    both = Page(svg + inline_svg(training_curve(LOG), "b", "loss"))
    assert both.all("svg")[0]["aria-label"] == 'FID "of" <all>'
    assert max(Counter(attrs["id"] for _, attrs in both.elements if "id" in attrs).values()) == 1
    assert "network evaluations per sample (NFE)" in both.text, "texts are texts"
    assert not re.search(r"#[0-9a-f]{6}", svg), "all colours are variables"
    assert "http" not in svg
    for key, style in styles.items():
        assert f"var(--c{style.colour[1:]})" in svg
        assert ("stroke-dasharray" in swatch(style)) == (key.sampler == "euler-maruyama")


def luminance(colour):
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_curves_can_be_seen_on_a_dark_page():
    """Contrast of at least 3 to 1 (WCAG 2.1, 1.4.11), and no two colours of a family alike."""
    assert list(DARK) == [*SCORE_COLOURS, *PROX_COLOURS, *PHASES]
    for colour in DARK.values():
        assert (luminance(colour) + 0.05) / (luminance("#1b1e21") + 0.05) >= 3
    assert len(set(DARK.values())) == len(DARK)


def test_small_pictures_stay_as_they_are_and_large_ones_are_scaled_down(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (1500, 1000, 3), dtype=np.uint8)
    large, small = tmp_path / "large.png", tmp_path / "small.png"
    Image.fromarray(noise).save(large)
    Image.fromarray(noise[:50, :50]).save(small)
    assert base64.b64decode(picture_uri(small).partition(",")[2]) == small.read_bytes()
    head, _, content = picture_uri(large).partition(",")
    assert head == "data:image/jpeg;base64"
    assert Image.open(BytesIO(base64.b64decode(content))).size == (683, 1024)
    with pytest.raises(FileNotFoundError):
        picture_uri(tmp_path / "none.png")
    small.write_bytes(small.read_bytes()[:200])
    with pytest.raises(OSError, match=r"small\.png is no picture that can be read"):
        picture_uri(small)


def words_of(command):
    return shlex.split(command.replace("\\\n", " "))


@pytest.mark.parametrize("preset", ["digits-prox-hybrid", "cifar10-score"])
def test_the_command_of_a_training_gives_its_configuration(tmp_path, preset):
    base = get_preset(preset)
    training = {"steps": 3000, "ema": (0.9, 0.99), "bf16": not base.training.bf16, "seed": 7}
    config = changed(base, training=training, data={"root": "/a b/$c", "limit": 100}, optimiser={"lr": 3e-5})
    out = tmp_path / "a folder"
    command = words_of(train_command(config, out))
    assert command[:2] == ["proxdm", "train"]
    request = parse_request(command[2:], "proxdm train")
    assert (to_json(request.config), request.out) == (to_json(config), out)
    assert train_command(dataclasses.replace(base, preset="mine"), out) is None


def test_the_commands_of_evaluations_measure_the_same_rows():
    rows = [
        *(make_row(s, n, seed) for s in ("prox-hybrid", "prox-ode") for n in (5, 10) for seed in (3, 4, 9)),
        make_row("prox-backward", 10, 3),
        make_row("prox-hybrid", 5, 3, grid="power(5, rho=1.5)", metrics={"fid": 1.0, "w2": 2.0}),
        make_row("euler-maruyama", 5, 0, source="a b/$c", bf16=True, chunk=16, samples=99),
        make_row("euler-maruyama", 5, 1, source="a b/$c", compile=True),
        make_row("ode-euler", 5, 0, source="c", reference={"name": "digits", "sha256": "e" * 64, "forced": "unlike"}),
        make_row("euler-maruyama", 5, 0, source="x.pth", grid="denoising(5, eps=1e-05)", preset="mnist-score"),
    ]
    found = []
    for command in evaluate_commands(rows):
        words = words_of(command)
        assert words[:2] == ["proxdm", "evaluate"]
        o = parse(Evaluate, words[2:], "proxdm evaluate")
        known = (o.source, o.samples, o.reference, o.features, o.metrics, o.grid, o.bf16, o.compile)
        cells = itertools.product(o.samplers, o.steps, range(o.seed, o.seed + o.seeds))
        found += [(*cell, *known, o.force, o.chunk, o.weights, o.preset) for cell in cells]
    expected = []
    for row in rows:
        grids = {"power(5, rho=1.5)": "power(rho=1.5)", "denoising(5, eps=1e-05)": "denoising(eps=1e-05)"}
        grid = grids.get(row.grid)
        known = (row.source, row.samples, "digits", "pixels", tuple(row.used), grid, row.bf16, row.compile)
        preset = "mnist-score" if row.source == "x.pth" else None
        cell = (row.sampler, row.steps, row.seed)
        expected.append((*cell, *known, "forced" in row.reference, row.chunk, row.weights, preset))
    assert sorted(found, key=str) == sorted(expected, key=str)


@pytest.fixture
def view(chromium):
    """A page of a Chromium that has no network, with the addresses it asked for and what it complained about."""
    view = chromium.new_context(offline=True).new_page()
    view.asked, view.complaints = [], []
    view.on("request", lambda one: None if one.url.startswith("data:") else view.asked.append(one.url))
    view.on("pageerror", lambda error: view.complaints.append(str(error)))
    view.on("console", lambda one: view.complaints.append(one.text) if one.type in ("warning", "error") else None)
    return view


def test_the_report_opens_from_disk_without_a_network(place, view):
    file = place / "report <1> & %.html"
    evil = write_results(place / "evil", [make_row(source=EVIL, digest="9" * 64)])
    file.write_text(render(gather(["evaluations", str(evil)])), encoding="utf-8")
    view.goto(file.resolve().as_uri())
    assert view.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    for width in (400, 1400):
        for scheme in ("light", "dark"):
            view.set_viewport_size({"width": width, "height": 900})
            view.emulate_media(color_scheme=scheme)
            ink, paper = (
                sum(map(int, re.findall(r"\d+", view.evaluate(f"getComputedStyle(document.body).{name}"))[:3]))
                for name in ("color", "backgroundColor")
            )
            assert (ink > paper) == (scheme == "dark")
            assert view.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
    table = view.locator("table.sortable").first
    rows, heads = table.locator("tbody tr"), table.locator("th[scope=col]")

    def sorted_by(column):
        heads.nth(column).locator("button").click()
        return rows.evaluate_all(f"rows => rows.map(row => row.cells[{column}].dataset.order)")

    *numbers, missing = sorted_by(1)
    assert missing == "", "what is missing stands last"
    assert heads.nth(1).get_attribute("aria-sort") == "ascending"
    assert [float(number) for number in numbers] == sorted(float(number) for number in numbers)
    assert sorted_by(1) == [*numbers[::-1], ""]
    names = sorted_by(0)
    assert names == sorted(names)
    assert len(names) == len(numbers) + 1
    view.locator(".card img").first.click()
    assert view.locator("dialog").evaluate("dialog => dialog.open")
    assert view.complaints == []
    assert view.asked == [file.resolve().as_uri()]


def test_the_browser_would_notice_requests_and_errors(tmp_path, view):
    """What the test above relies on."""
    bad = tmp_path / "bad.html"
    bad.write_text("<!DOCTYPE html><img src='http://nowhere.invalid/x.png'><script>no_such()</script>")
    view.goto(bad.as_uri())
    assert "http://nowhere.invalid/x.png" in view.asked
    assert any("no_such" in line for line in view.complaints)
