"""`pileupgen train`: calibration, networks and the release scan of a run."""

from __future__ import annotations

from pileupgen.cli.ui.common import (
    ConfigOption,
    DeviceOption,
    DryRunOption,
    ForceOption,
    RunOption,
    SeedOption,
    show_plan,
)
from pileupgen.cli.ui.console import terminal


def train(
    config: ConfigOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Train calibration, autoencoder, latent denoiser and density-ratio classifier.

    Interrupted training continues where the newest checkpoint stands when the same command is run
    again. Loss curves, figures and, where it is installed, TensorBoard's events go to <run>/logs.

    \b
    Examples:
      pileupgen train
      pileupgen train --config delphes_nonlocal --run runs/nonlocal
      pileupgen train --dry-run
      torchrun --nproc_per_node 2 -m -- pileupgen train --device cuda
    """
    from pileupgen.cli.ui.console import console, quiet_unless_main
    from pileupgen.cli.ui.library_log import warnings_on_console
    from pileupgen.cli.ui.training_view import training_tables
    from pileupgen.progress import is_main_process
    from pileupgen.workflow.run import choose_run

    quiet_unless_main()
    opened = choose_run(config, run, seed, terminal)
    if dry_run:
        show_plan(opened.plan_train())
        return
    with warnings_on_console():
        done = opened.train(device=device, force=force)
    if done.summary is not None and is_main_process():
        for table in training_tables(done.summary):
            console.print(table)
    terminal.next(f"pileupgen translate{opened.arguments}")
