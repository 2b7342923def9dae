"""The live page in a browser: the pictures that onnxruntime makes of the same noise, a new seed a click."""

from pathlib import Path

import numpy as np
import pytest

LIVE = Path(__file__).parents[1] / "docs" / "_static" / "live"
PAGE = """<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="live.css">
<button id="live-seed" disabled>New seed</button> <span id="live-status"></span><div id="live"></div>
<script src="ort.wasm.min.js"></script><script src="live.js"></script>"""
FINISHED = "document.getElementById('live').dataset.seed === '{}'"


@pytest.fixture
def address(tmp_path, serve):
    """A server of static files with the page."""
    if not (LIVE / "weights.bin").is_file() or not (LIVE / "ort.wasm.min.js").is_file():
        pytest.skip("the graphs and onnxruntime-web of the live page are made by make docs")
    for file in LIVE.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "page.html").write_text(PAGE)
    return serve(tmp_path) + "page.html"


@pytest.mark.slow
def test_the_browser_draws_what_onnxruntime_draws(address, chromium):
    onnxruntime = pytest.importorskip("onnxruntime")
    page = chromium.new_page()
    page.goto(address)
    page.wait_for_function(FINISHED.format(1), timeout=120_000)
    assert "from the same noise" in page.text_content("#live-status")
    noise = np.array(page.evaluate("Array.from(live.noise(1, 8 * 1024))"), np.float32).reshape(8, 1, 32, 32)
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1) < 0.05
    for name in ("ours-1", "ours-3", "dpm-2"):
        drawn = np.array(page.evaluate(f"live.cells['{name}'].samples"), np.float32).reshape(8, 1, 32, 32)
        expected = onnxruntime.InferenceSession(LIVE / f"{name}.onnx").run(None, {"noise": noise})[0]
        np.testing.assert_allclose(drawn, expected, atol=2e-3)
        assert page.evaluate(f"live.cells['{name}'].time.textContent").endswith(" ms")
    before = page.evaluate("live.cells['ours-2'].samples")
    page.click("#live-seed")
    page.wait_for_function(FINISHED.format(2), timeout=120_000)
    assert page.evaluate("live.cells['ours-2'].samples") != before
