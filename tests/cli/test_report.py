"""Reports from the command line: one file, never half written, never replaced in silence."""

from __future__ import annotations

import pytest

from fake_results import make_row, write_results
from proxdm.cli import main


def report(*arguments):
    return main(["report", *map(str, arguments)])


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_results(tmp_path / "results", [make_row(steps=n) for n in (5, 10)])


def test_one_file_is_written(results, tmp_path, capsys):
    assert report(results, "--out", "some/where/page.html", "--title", "A title") == 0
    (file,) = (tmp_path / "some" / "where").iterdir()
    text = file.read_text(encoding="utf-8")
    assert text.endswith("</html>\n")
    assert "<h1>A title</h1>" in text
    assert "MB; rows: 2, runs: 1)" in capsys.readouterr().out
    assert report(results) == 0
    assert (tmp_path / "report.html").is_file()


def test_nothing_is_replaced_without_overwrite(results, tmp_path, capsys):
    file = tmp_path / "page.html"
    file.write_text("precious")
    assert report(results, "--out", file) == 2
    assert "holds page.html already; add --overwrite" in capsys.readouterr().err
    assert report(results, "--out", file, "--overwrite", "--metrics", "kid") == 2
    assert file.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "results"]
    assert report(results, "--out", file, "--overwrite") == 0
    assert file.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "nothing to report on"),
        (["nowhere"], "no results found: nowhere does not exist; make them with proxdm evaluate"),
        (["empty"], "no results found: empty holds no results.jsonl"),
        (["damaged.jsonl"], "line 2 of damaged.jsonl is not a JSON object"),
        (["old.jsonl"], "row 1 of old.jsonl is damaged: this is no row of results"),
        (["none.safetensors"], "none.safetensors does not exist"),
        (["results", "--metrics", "kid"], "no row has kid; the results have fid"),
        (["results", "--out", "file/page.html"], "results cannot be written to file"),
    ],
)
def test_wrong_input_is_refused_in_one_line(results, tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("precious")
    (tmp_path / "old.jsonl").write_text('{"source": "a"}\n')
    line = (results / "results.jsonl").read_text().splitlines()[0]
    (tmp_path / "damaged.jsonl").write_text(f"{line}\n{line[:50]}\n{line}\n")
    assert report(*arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("proxdm: error: ")
    assert message in error
    assert "\n" not in error
    assert not (tmp_path / "report.html").exists()
