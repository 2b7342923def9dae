"""`proxdm demo`: what the package does, on one page, without data, in a minute."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from proxdm.cli import mosaic, toy
from proxdm.experiments.toy import ToyPlan, run_toy
from proxdm.report import Section, demo_page
from proxdm.runtime.files import check_folder, write_text

PAGE = "index.html"
GARMENTS = "few-evaluations.png"


@dataclass(frozen=True)
class Demo:
    """Run the paper's synthetic experiment, draw garments in few evaluations of a model in the box, and make a page."""

    out: Annotated[Path, arg(aliases=("-o",))] = Path("demo")  # Folder of the page and its figures.
    overwrite: bool = False  # Replace an earlier demo.


def run(options: Demo, prog: str) -> int:
    """Run the verb and return the exit status."""
    folder = options.out
    check_folder(folder, [PAGE, GARMENTS], overwrite=options.overwrite)
    check_folder(folder / "toy", [toy.RESULTS], overwrite=options.overwrite)
    result = run_toy(ToyPlan(), progress=True)
    toy.finish(result, folder / "toy", animation=True)
    wanted = mosaic.Mosaic(out=folder / GARMENTS, device="cpu")
    files = mosaic.draw(wanted, prog)
    sections = [
        Section(
            "Garments in one to five evaluations",
            "One network, one noise. The first row starts where the network begins to be better than a prior that "
            "costs nothing, a mixture fitted in seconds; the second and third are solvers of the probability flow, on "
            "the grids that were found best for them; the others are the paper's score samplers, and its proximal one "
            "on the posterior mean of the same network.",
            files[0],
            "proxdm mosaic fashion-mnist",
        ),
        Section(
            "The paper's synthetic experiment",
            "Exact score and exact proximal operator of a set of points: the proximal samplers need fewer steps.",
            folder / "toy" / "w2_vs_nfe.png",
            "proxdm toy",
            toy.report(result),
        ),
        Section("Its particles", "The same runs, as points.", folder / "toy" / "particles.png", "proxdm toy"),
    ]
    write_text(folder / PAGE, demo_page(sections))
    print(f"\nOpen {folder / PAGE} in a browser; more pictures: proxdm sample fashion-mnist --steps 2")
    return 0
