"""Files of benchmarks: the known version or none, and downloads that go on."""

import gzip
import hashlib
import json
from dataclasses import replace

import pytest

from demiurgic_jax.errors import UserError
from demiurgic_jax.evaluation.published import PUBLISHED, RECORDED, DataFolder, PublishedFile, fetch

CONTENT = b"".join(json.dumps({"task_id": n, "text": "x" * 500}).encode() + b"\n" for n in range(40))
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def file_at(address, **more):
    return PublishedFile("toy/file.jsonl", address, ("task_id", "text"), **{"rows": 40, "sha256": SHA256, **more})


def test_a_file_is_fetched_once_and_then_read(serve, tmp_path):
    server = serve(CONTENT)
    data = DataFolder(tmp_path)
    rows, sha256 = data.rows(file_at(server.address))
    assert (len(rows), rows[7]["task_id"], sha256) == (40, 7, SHA256)
    data.rows(file_at(server.address))
    assert server.ranges == [None]


def test_a_broken_download_keeps_what_came_and_goes_on_from_there(serve, tmp_path):
    server = serve(CONTENT, breaks=1, breaks_after=5000)
    with pytest.raises(UserError, match=r"5,000 bytes are kept, the same command goes on from there"):
        fetch(file_at(server.address), tmp_path)
    assert fetch(file_at(server.address), tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=5000-"]
    assert [each.name for each in (tmp_path / "toy").iterdir()] == ["file.jsonl"]


def test_a_mirror_is_asked_for_the_file_by_its_name_and_its_checksum_stays(serve, tmp_path):
    published = file_at("http://127.0.0.1:9/")
    server = serve(CONTENT)
    mirror = server.address.rpartition("/")[0] + "/mirror/"
    assert len(DataFolder(tmp_path, mirror=mirror).rows(published)[0]) == 40
    assert server.paths == ["/mirror/toy/file.jsonl"]
    other = serve(CONTENT[:-1])
    with pytest.raises(UserError, match=rf"mirror/toy/file.jsonl gave a file with SHA-256 .* not {SHA256}"):
        DataFolder(tmp_path / "new", mirror=other.address.rpartition("/")[0] + "/mirror").rows(published)
    with pytest.raises(UserError, match="could not be fetched"):
        DataFolder(tmp_path / "new", mirror="nowhere").rows(published)


def test_another_file_at_the_address_is_refused_and_removed(serve, tmp_path):
    server = serve(CONTENT + b"{}\n")
    with pytest.raises(UserError, match=f"not {SHA256}: it was removed"):
        fetch(file_at(server.address), tmp_path)
    assert not [*(tmp_path / "toy").iterdir()]


def test_without_a_known_checksum_the_first_download_is_recorded_and_said(serve, tmp_path):
    said = []
    server = serve(CONTENT)
    unknown = file_at(server.address, sha256="", rows=0)
    fetch(unknown, tmp_path, say=said.append)
    assert json.loads((tmp_path / RECORDED).read_text()) == {"toy/file.jsonl": SHA256}
    assert "no checksum is known" in said[0]
    (tmp_path / "toy" / "file.jsonl").write_bytes(CONTENT[:-1] + b" \n")
    with pytest.raises(UserError, match=f"the known one {SHA256}"):
        DataFolder(tmp_path).rows(unknown)


def test_an_address_that_nobody_answers_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"could not be fetched .* put the file at"):
        fetch(file_at("http://127.0.0.1:9/file"), tmp_path)


def test_another_version_in_the_folder_is_refused_by_checksum_and_can_be_accepted(tmp_path):
    known = file_at("http://127.0.0.1:9/")
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "file.jsonl").write_bytes(CONTENT + CONTENT)
    with pytest.raises(UserError, match=rf"another version of file.jsonl.*{SHA256}.*--any-version"):
        DataFolder(tmp_path).rows(known)
    assert len(DataFolder(tmp_path, any_version=True).rows(known)[0]) == 80


def test_another_shape_is_named_by_row_and_field(tmp_path):
    path = tmp_path / "file.jsonl"
    path.write_text('{"task_id": 1, "text": ""}\n{"task_id": 2}\n')
    file = file_at("http://127.0.0.1:9/", sha256="", rows=0)
    with pytest.raises(UserError, match=r"row 2 has no field 'text'"):
        DataFolder(tmp_path).rows(file)
    path.write_text('{"task_id": 1, "text": ""}\n')
    with pytest.raises(UserError, match=r"has 1 rows, not 40"):
        DataFolder(tmp_path).rows(replace(file, rows=40))
    path.write_text("<html>")
    with pytest.raises(UserError, match="is damaged or no file of JSON lines"):
        DataFolder(tmp_path).rows(file)


def test_a_truncated_gzip_is_refused(tmp_path):
    (tmp_path / "file.jsonl.gz").write_bytes(gzip.compress(CONTENT)[:-20])
    file = replace(file_at("http://127.0.0.1:9/", sha256=""), name="file.jsonl.gz")
    with pytest.raises(UserError, match="is damaged"):
        DataFolder(tmp_path).rows(file)


def test_the_reference_files_are_the_known_ones(shared_data):
    data = DataFolder(shared_data, download=False)
    there = [file for name, file in PUBLISHED.items() if (shared_data / name).exists()]
    assert len(there) == 10
    for file in there:
        rows, sha256 = data.rows(file)
        assert (len(rows), sha256) == (file.rows, file.sha256)
