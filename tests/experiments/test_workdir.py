"""The workdir: stages know whether they are finished, and nobody's folder is taken over."""

import json

import pytest
from ml_collections import ConfigDict

from demiurgic_jax.errors import UserError
from experiments.workdir import Workdir

CONFIG = ConfigDict({"steps": 1})


def test_a_workdir_of_another_config_is_refused_and_left_alone(tmp_path):
    Workdir(tmp_path / "run", "quickstart", CONFIG)
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(UserError, match="was written by --config=quickstart, not other"):
        Workdir(tmp_path / "run", "other", CONFIG)
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_a_folder_with_foreign_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="is not empty and no run of ours wrote it"):
        Workdir(tmp_path, "quickstart", CONFIG)


def test_equal_inputs_keep_what_a_killed_stage_left_and_others_do_not(tmp_path):
    workdir = Workdir(tmp_path, "quickstart", CONFIG)
    workdir.begin("shards", {"a": 1}, keep_replaced=False)
    half = workdir.folder("shards") / "half"
    half.write_text("half of the work")
    assert workdir.begin("shards", {"a": 1}, keep_replaced=False) is None
    assert half.exists()
    workdir.begin("shards", {"a": 2}, keep_replaced=False)
    assert not half.exists()


def test_replaced_training_is_moved_aside(tmp_path):
    workdir = Workdir(tmp_path, "quickstart", CONFIG)
    workdir.begin("train", {"a": 1}, keep_replaced=True)
    (workdir.folder("train") / "checkpoint").write_text("weeks of GPU time")
    aside = workdir.begin("train", {"a": 2}, keep_replaced=True)
    assert aside is not None
    assert (aside / "checkpoint").read_text() == "weeks of GPU time"
    assert not (workdir.folder("train") / "checkpoint").exists()


def test_a_finished_stage_is_known_by_its_manifest(tmp_path):
    workdir = Workdir(tmp_path, "quickstart", CONFIG)
    assert workdir.manifest("seeds") is None
    workdir.begin("seeds", {"a": 1}, keep_replaced=False)
    assert workdir.manifest("seeds") is None
    written = workdir.finish("seeds", {"a": 1}, {"seeds": 3}, 1.5)
    assert workdir.manifest("seeds") == written
    assert written.outputs == {"seeds": 3}


def test_a_damaged_manifest_is_named(tmp_path):
    workdir = Workdir(tmp_path, "quickstart", CONFIG)
    workdir.begin("seeds", {"a": 1}, keep_replaced=False)
    (workdir.folder("seeds") / "manifest.json").write_text('{"stage": "see')
    with pytest.raises(UserError, match=r"seeds/manifest.json is damaged"):
        workdir.manifest("seeds")
    assert json.loads((workdir.folder("seeds") / "inputs.json").read_text())["inputs"] == {"a": 1}
