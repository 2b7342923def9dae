"""Reports from the command line: one file, never half written, never replaced in silence."""

from __future__ import annotations

import pytest

from fake_results import make_row, write_results


@pytest.fixture
def results(tmp_path):
    return write_results(tmp_path / "results", [make_row(steps=n) for n in (5, 10)])


def test_one_file_is_written(results, tmp_path, succeeds):
    said = succeeds("report", results, "--out", "some/where/page.html", "--title", "A title")
    (file,) = (tmp_path / "some" / "where").iterdir()
    text = file.read_text(encoding="utf-8")
    assert text.endswith("</html>\n")
    assert "<h1>A title</h1>" in text
    assert "MB; rows: 2, runs: 1)" in said.out
    succeeds("report results")
    assert (tmp_path / "report.html").is_file()


def test_nothing_is_replaced_without_overwrite(results, tmp_path, succeeds, refused):
    file = tmp_path / "page.html"
    file.write_text("precious")
    assert "page.html exists already; overwrite it (--overwrite)" in refused("report results --out page.html")
    refused("report results --out page.html --overwrite --metrics kid")
    assert file.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "results"]
    succeeds("report results --out page.html --overwrite")
    assert file.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("", "nothing to report on"),
        ("nowhere", "no results found: nowhere does not exist; make them with proxdm evaluate"),
        ("damaged.jsonl", "line 2 of damaged.jsonl is not a JSON object"),
        ("none.safetensors", "none.safetensors does not exist"),
        ("results --metrics kid", "no row has kid; the results have fid"),
        ("results --out file/page.html", "results cannot be written to file"),
    ],
)
def test_wrong_input_is_refused(results, tmp_path, refused, arguments, message):
    (tmp_path / "file").write_text("precious")
    line = (results / "results.jsonl").read_text().splitlines()[0]
    (tmp_path / "damaged.jsonl").write_text(f"{line}\n{line[:50]}\n{line}\n")
    assert message in refused(f"report {arguments}")
    assert not (tmp_path / "report.html").exists()
