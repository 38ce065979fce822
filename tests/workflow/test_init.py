"""A config and cards to start from are true to their schemas."""

from __future__ import annotations

import re

import pytest
import yaml

from pileupgen.config import Config, load_config, parse_config
from pileupgen.errors import ConfigError, OutputError
from pileupgen.resources import find_file
from pileupgen.samples.cards import load_card
from pileupgen.workflow.init import config_text, write_start

SAMPLES = {"mc": "cards/a.yaml", "data": "cards/b.yaml"}


def test_the_new_config_sets_what_the_demo_does_and_names_every_setting():
    text = config_text("mine", SAMPLES)
    demo = load_config(find_file("demo", "configs")).to_dict()
    plain = Config().to_dict()
    kept = {key: plain[key] for key in ("preprocess", "validate")}
    wanted = {**demo, **kept, "name": "mine", "samples": SAMPLES}
    assert parse_config(yaml.safe_load(text), "x") == parse_config(wanted, "x")
    setting = re.compile(r"# ( *\w+:.*)")
    lines = [setting.fullmatch(line) for line in text.splitlines()]
    plain = [
        line.string if found is None else found[1]
        for found, line in zip(
            lines, (re.match(".*", line) for line in text.splitlines()), strict=True
        )
    ]
    values = yaml.safe_load("\n".join(plain))
    assert values == wanted


@pytest.mark.parametrize("generate", [False, True])
def test_the_new_cards_are_found_from_the_config_and_fit(tmp_path, generate):
    config = write_start(tmp_path / "new", "mine", generate=generate)
    samples = load_config(config).samples
    for domain, name in (("mc", samples.mc), ("data", samples.data)):
        card = load_card(config.parent / name)
        assert card.domain == domain
        assert (card.generate is not None) == generate


def test_nothing_is_overwritten_and_bad_names_are_refused(tmp_path):
    write_start(tmp_path, "mine")
    card = tmp_path / "cards" / "mine_mc.yaml"
    card.write_text("mine")
    (tmp_path / "mine.yaml").unlink()
    with pytest.raises(OutputError, match=r"mine_mc\.yaml is there already"):
        write_start(tmp_path, "mine")
    assert card.read_text() == "mine"
    with pytest.raises(ConfigError, match="name"):
        write_start(tmp_path, "a b")
    assert not list(tmp_path.glob("**/a b*"))
