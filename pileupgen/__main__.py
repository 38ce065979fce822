"""``python -m pileupgen``."""

from pileupgen.cli.main import main

main()
